import os
import pty
import signal
import subprocess
import sys

from places import ROOT

TOOL = ROOT / "tools/calm_run.py"
# What Snakemake would do: say much, and now and then a line on the terminal that it was given.
SAYS = """
import os, sys
print("noise"); print("more noise", file=sys.stderr)
os.write(int(os.environ["CODA_TERMINAL"]), (os.environ["CODA_TITLE"] + ": half\\n").encode())
{}
"""


def run(folder, then, **options):
    command = [sys.executable, str(TOOL), str(folder / "out/run.log"), "The study, for a test"]
    command += [sys.executable, "-c", SAYS.format(then)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_only_progress_is_shown_and_all_else_is_in_the_file(tmp_path):
    done = run(tmp_path, "")
    assert done.returncode == 0 and done.stderr == "The study: half\n"
    assert "noise" not in done.stdout and str(tmp_path / "out/run.log") in done.stdout
    assert sorted((tmp_path / "out/run.log").read_text().split("\n")) == ["", "more noise", "noise"]


def test_a_failure_shows_the_jobs_that_failed_and_where_all_is(tmp_path):
    done = run(tmp_path, "print('Failed: 1 job.'); print('  log: a.log'); sys.exit(3)")
    assert done.returncode == 3
    assert "Failed: 1 job.\n  log: a.log\nThe whole of it: " in done.stderr
    assert "noise" not in done.stderr
    early = run(tmp_path, "sys.exit(1)")  # a config that is wrong, for example
    assert "noise\n" in early.stderr


def test_a_request_to_end_reaches_the_run(tmp_path):
    then = (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "os.write(int(os.environ['CODA_TERMINAL']), b'ready\\n'); signal.pause()"
    )
    command = [sys.executable, str(TOOL), str(tmp_path / "run.log"), "The study, for a test"]
    command += [sys.executable, "-c", SAYS.format(then)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        while running.stderr.readline() != b"ready\n":
            pass
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=120)
        assert running.returncode == 9


def test_open_locks_go_on_to_the_run(tmp_path):
    with (tmp_path / "lock").open("w") as lock:
        done = run(tmp_path, f"os.fstat({lock.fileno()})", pass_fds=[lock.fileno()])
    assert done.returncode == 0


def test_a_terminal_is_cleared_of_the_line(tmp_path):
    main, other = pty.openpty()
    done = subprocess.run(
        [sys.executable, str(TOOL), str(tmp_path / "run.log"), "The study, for a test", "true"],
        stdout=other, stderr=other, check=False,
    )  # fmt: skip
    os.close(other)
    assert done.returncode == 0 and b"\r\x1b[K" in os.read(main, 4096)
