import subprocess
import sys

from coda.logs import tell, warn, warned
from places import SCRIPTS


def run(tmp_path, body: str) -> tuple[subprocess.CompletedProcess, str]:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nfrom coda.logs import reported\n"
    code += "from coda.errors import UserError\n"
    code += f"with reported({str(tmp_path / 'job.log')!r}):\n    {body}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done, (tmp_path / "job.log").read_text()


def test_a_users_fault_is_one_sentence_and_status_1(tmp_path):
    done, log = run(tmp_path, "raise UserError('adapt.epochs is wrong.')")
    assert done.returncode == 1
    assert done.stderr == log == "Error: adapt.epochs is wrong.\n"


def test_our_own_fault_keeps_its_traceback(tmp_path):
    done, log = run(tmp_path, "1 / 0")
    assert done.returncode == 1
    assert "Traceback" in log and "ZeroDivisionError" in done.stderr


def test_a_lack_of_open_files_is_a_sentence(tmp_path):
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))"
    done, log = run(tmp_path, f"{few}; kept = [open('/dev/null') for _ in range(99)]")
    assert done.returncode == 1
    assert "Error: Too many files are open" in log and "Traceback" not in log


def test_output_goes_to_the_terminal_and_the_log(tmp_path):
    done, log = run(tmp_path, "print('half way', flush=True)")
    assert done.returncode == 0
    assert done.stderr == log == "half way\n"


def test_the_status_of_a_preempted_job_passes(tmp_path):
    done, _ = run(tmp_path, "raise SystemExit(75)")
    assert done.returncode == 75


def test_warnings_are_told_and_collected_in_their_block(capsys):
    warn("before")
    with warned() as outer:
        warn("one")
        with warned() as inner:
            warn("two")
        tell("only told")
    warn("after")
    assert (outer, inner) == (["one", "two"], ["two"])
    assert capsys.readouterr().err.split() == ["before", "one", "two", "only", "told", "after"]


def test_neither_terminal_nor_log_gets_secrets_or_commands(tmp_path):
    done, log = run(tmp_path, "raise UserError('\\x1b[2J of https://me:word@h/t?sig=ab12')")
    assert done.stderr == log == "Error: \\x1b[2J of https://...@h/t?sig=...\n"
