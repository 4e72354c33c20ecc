"""The jobs of the demo: plain functions, marked with `@job` so that a worker may run them."""

import hashlib
import os
import signal
from pathlib import Path
from typing import TypedDict

from jobrunner import context, job


class Counted(TypedDict):
    """What `count` finds in a file. square: n * n for n = its size in bytes."""

    words: int
    lines: int
    sha256: str
    square: int


@job
def hello(name: str) -> str:
    """The smallest job."""
    return f"Hello, {name}. This is process {os.getpid()}."


@job
def count(path: str) -> Counted:
    """Words, lines, SHA-256 and n * n of a file of n bytes."""
    content = Path(path).read_bytes()
    return {
        "words": len(content.split()),
        "lines": content.count(b"\n"),
        "sha256": hashlib.sha256(content).hexdigest(),
        "square": len(content) ** 2,
    }


@job
def fails_twice() -> int:
    """The attempt at which it succeeded: the third."""
    if context.attempt < 3:
        raise ConnectionError(f"attempt {context.attempt}: the other side hung up")
    return context.attempt


@job
def always_fails() -> None:
    """Whatever is done, it ends as a dead letter."""
    raise ValueError("this job can never work")


@job
def killed_once(marker: str) -> list[int]:
    """The processes that ran it: the first was killed with SIGKILL, as the kernel does when memory runs out."""
    path = Path(marker)
    if not path.exists():
        path.write_text(str(os.getpid()), encoding="ascii")
        os.kill(os.getpid(), signal.SIGKILL)
    return [int(path.read_text(encoding="ascii")), os.getpid()]
