"""What the jobs of the bench do, the same for every runner, and what they leave for the bench to read.

Each process keeps a small file in the folder `BENCH_MARKS`: of each kind of job how many ran, when the first began and
the last. A mark costs a microsecond and needs no broker, so that all runners are measured with the same clock.
"""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

KINDS = ("nothing", "small", "large", "spin", "stamp", "leak")
SPIN_S = 0.010
LEAK_BYTES = 2_000_000
_ENTRY = struct.Struct("qdd")
_DOUBLE = struct.Struct("d")


class _Mine:
    """This process's file. A fork has one of its own."""

    def __init__(self) -> None:
        self.pid = 0
        self.map: mmap.mmap
        self.times = -1

    def open(self) -> None:
        folder = Path(os.environ["BENCH_MARKS"])
        self.pid = os.getpid()
        with (folder / f"{self.pid}.marks").open("w+b") as file:
            file.truncate(_ENTRY.size * len(KINDS))
            self.map = mmap.mmap(file.fileno(), 0)
        self.times = os.open(folder / f"{self.pid}.times", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


_mine = _Mine()
_held: list[bytearray] = []


def mark(kind: str) -> None:
    """A job of that kind begins now."""
    now = time.time()
    if _mine.pid != os.getpid():
        _mine.open()
    at = KINDS.index(kind) * _ENTRY.size
    count, first, _ = _ENTRY.unpack_from(_mine.map, at)
    _ENTRY.pack_into(_mine.map, at, count + 1, first or now, now)


def nothing() -> None:
    """What remains is the runner's own work."""
    mark("nothing")


def sized(text: str) -> None:
    """A job with a payload."""
    mark("small" if len(text) < 10_000 else "large")


def spin() -> None:
    """10 ms of CPU."""
    mark("spin")
    until = time.thread_time() + SPIN_S
    while time.thread_time() < until:
        pass


def stamp(sent_at: float) -> None:
    """How long it took to get here."""
    took_s = time.time() - sent_at
    mark("stamp")
    os.write(_mine.times, _DOUBLE.pack(took_s))


def leak() -> None:
    """2 MB that never come back."""
    mark("leak")
    _held.append(bytearray(os.urandom(1) * LEAK_BYTES))


@dataclass(frozen=True)
class Seen:
    """All processes together. first, last: when the first and the last job began, seconds since the epoch."""

    count: int
    first: float
    last: float

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return (self.count - 1) / (self.last - self.first) if self.last > self.first else 0.0


def seen(folder: Path, kind: str) -> Seen:
    """What the jobs of that kind have left so far."""
    count, first, last = 0, float("inf"), 0.0
    for path in folder.glob("*.marks"):
        data = path.read_bytes()
        if len(data) < _ENTRY.size * len(KINDS):
            continue
        one, began, ended = _ENTRY.unpack_from(data, KINDS.index(kind) * _ENTRY.size)
        if one:
            count, first, last = count + one, min(first, began), max(last, ended)
    return Seen(count, first, last)


def times(folder: Path) -> list[float]:
    """What `stamp` has measured, in seconds."""
    return [one for path in folder.glob("*.times") for (one,) in _DOUBLE.iter_unpack(path.read_bytes())]


def clear(folder: Path) -> None:
    """Before another runner starts."""
    for path in folder.iterdir():
        path.unlink()
