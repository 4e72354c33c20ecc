"""What a job says of its progress: read from a line, and told to the parent no more often than anybody could read."""

import contextlib
import os
import time
from _thread import allocate_lock
from collections.abc import Callable
from typing import Final

from jobrunner.execution import frames
from jobrunner.outcome import clip

FILE_VARIABLE: Final = "JOBRUNNER_JOB_PROGRESS_FILE"
"""Where a command's progress goes: lines such as `40% half of it`, of which the last counts."""

LINE_CHARS: Final = 512
EVERY_S: Final = 1.0
BURST: Final = 5.0
"""Reports that go out at once after a pause; then one for each `EVERY_S`, always the newest."""


def parse_fraction(word: str) -> float | None:
    """0 to 1 from `40%`, `40 %`, `0.4`, `1`; None for what is neither."""
    text = word.strip()
    is_percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        return None
    value = value / 100 if is_percent else value
    return value if 0 <= value <= 1 else None


def parse_line(line: str) -> tuple[float | None, str | None]:
    """Fraction and text of a line: `40% half of it`, `40%`, `half of it`. `-` instead of a fraction: unknown."""
    word, _, rest = line.strip().partition(" ")
    fraction = parse_fraction(word)
    if fraction is None and word != "-":
        return None, clip(line.strip(), LINE_CHARS) or None
    return fraction, clip(rest.strip(), LINE_CHARS) or None


def to_line(fraction: float | None, text: str | None) -> str:
    """The line that `parse_line` reads, without its end."""
    words = " ".join((text or "").split())
    return f"{'-' if fraction is None else f'{fraction * 100:g}%'} {clip(words, LINE_CHARS)}".rstrip()


class Reporter:
    """Tells the parent what the running job says. What is said outside of a job, or in a copy of this process, is not
    told. Threads of a job may report too, hence the lock: a result must not have a report in its middle.
    """

    def __init__(self, send: Callable[[frames.Progress], None]) -> None:
        self._send = send
        self._pid = os.getpid()
        self._lock = allocate_lock()
        self._number: int | None = None
        self._waiting: frames.Progress | None = None
        self._allowance = BURST
        self._counted = 0.0

    def begin(self, number: int) -> None:
        """What is said from now on is of the job with this number."""
        self._number = number
        self._waiting = None
        self._allowance = BURST
        self._counted = time.monotonic()

    def report(self, fraction: float | None, text: str | None) -> None:
        """The newest word. It goes out now, with a later one, or at the end."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._number is None:
                return
            text = None if text is None else clip(str(text), LINE_CHARS)
            self._waiting = frames.Progress(number=self._number, fraction=fraction, text=text)
            now = time.monotonic()
            self._allowance = min(BURST, self._allowance + (now - self._counted) / EVERY_S)
            self._counted = now
            if self._allowance >= 1:
                self._allowance -= 1
                self._flush()

    def end(self) -> None:
        """The job is over: tell what was held back."""
        with self._lock:
            self._flush()
            self._number = None

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            with contextlib.suppress(OSError):  # the job has closed the socket: its end will tell
                self._send(waiting)


class ProgressFile:
    """The end of a file into which a command writes lines, read as it grows."""

    def __init__(self, fd: int, report: Callable[[float | None, str | None], None]) -> None:
        self._fd = fd
        self._report = report
        self._read_bytes = 0
        self._part = b""

    def look(self) -> None:
        """Report the last whole line, if there is a new one. Nothing happens for a command that writes none."""
        size_bytes = os.fstat(self._fd).st_size
        if size_bytes == self._read_bytes:
            return
        begin = max(self._read_bytes if size_bytes > self._read_bytes else 0, size_bytes - 8 * LINE_CHARS)
        before = self._part if begin == self._read_bytes else b""
        data = before + os.pread(self._fd, size_bytes - begin, begin)
        self._read_bytes = size_bytes
        *lines, self._part = data.split(b"\n")
        lines = [line for line in lines if line.strip()]
        if lines:
            self._report(*parse_line(lines[-1].decode("utf-8", "replace")))
