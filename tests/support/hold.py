"""A process that stands still at a failpoint, `JOBRUNNER_FAILPOINT=NAME:hold`, until it is let go."""

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.eventually import eventually


def await_hold(process: subprocess.Popen[Any], fifo: Path, timeout_s: float) -> None:
    """Until it has said in its FIFO that it is there."""
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:

        def said() -> None:
            assert process.poll() is None, f"it ended with {process.returncode} before its failpoint"
            try:
                assert os.read(fd, 100), "it has not come to its failpoint"
            except BlockingIOError as exc:
                raise AssertionError("it has not come to its failpoint") from exc

        eventually(said, timeout_s)
    finally:
        os.close(fd)


def release(fifo: Path) -> None:
    """Let it go on. Who was killed meanwhile does not read."""

    def written() -> None:
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as exc:
            raise AssertionError("nobody reads the FIFO") from exc
        os.write(fd, b".")
        os.close(fd)

    eventually(written, 60)
