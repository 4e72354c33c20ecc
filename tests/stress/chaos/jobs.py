"""The jobs of a chaos run: their first and their last act is a line in a file that jobrunner's code never touches.

Copied into each worker's folder as `chaos_jobs.py`. Times are of CLOCK_MONOTONIC, which all processes share and which
no fault moves.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from threading import Event

from jobrunner import Permanent, context, job

SHELL = 'trap "" TERM; (sleep 0.3 & wait) & sleep 0.1; wait'
_witness = -1


def note(word: str) -> None:
    """One line, on disk when this returns."""
    global _witness  # noqa: PLW0603 - opened once for each process
    if _witness < 0:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_DSYNC
        _witness = os.open(os.environ["CHAOS_WITNESS"], flags, 0o600)
    at = time.monotonic()
    os.write(_witness, f"{word} {context.id} {context.attempt} {os.getpid()} {os.getppid()} {at:.6f}\n".encode())


@job(retries=2, backoff="0.1s..0.5s")
def act(kind: str, seconds: float) -> str:
    """What a job of that kind does, between its two lines. Its result tells which run brought it."""
    note("start")
    more = _do(kind, seconds)
    note("end")
    return f"{context.id} {context.attempt} {os.getpid()}\n{more}"


def _do(kind: str, seconds: float) -> str:
    match kind:
        case "flaky" if context.attempt < 3:
            raise ConnectionError("not yet")
        case "fails":
            raise ValueError("no such luck")
        case "permanent":
            raise Permanent("no such user")
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "timeout":
            Event().wait(60)
        case "tree":
            subprocess.run(["/bin/sh", "-c", SHELL], check=False)
        case "big":
            return "x" * 300_000
        case "hog":
            _eat()
        case _:
            Event().wait(seconds)
    return ""


def _eat() -> None:
    """Memory, in a cgroup that has little of it, until the kernel's OOM killer comes."""
    group = os.environ.get("CHAOS_CGROUP")
    with contextlib.suppress(OSError):
        if group:
            (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
            eaten = [bytes([1]) * (4 << 20) for _ in range(64)]
            note(f"ate-{len(eaten)}")
    os.kill(os.getpid(), signal.SIGKILL)
