"""What a child writes to stdout and stderr: read without blocking, of which the head and the tail are kept."""

import asyncio
import os
import select
from typing import Final

from jobrunner.attempts import Stream

KEPT_BYTES: Final = 64 * 1024
"""Kept of the head and of the tail of a stream."""

RESULT_BYTES: Final = 1024 * 1024
"""Kept of the head of a command's stdout, which is its result."""

_CHUNK_BYTES: Final = 64 * 1024
_TURN_BYTES: Final = 256 * 1024
"""Read in one turn of the loop, so that a flood leaves time for heartbeats."""

_DRAIN_BYTES: Final = 2 * 1024 * 1024
"""Read at most when a job ends: more than a pipe can hold, so a flood of someone else's cannot keep us here."""


class HeadTail:
    """The first `head_bytes` and the last 64 KiB of a stream of any length, in bounded memory."""

    def __init__(self, head_bytes: int = KEPT_BYTES) -> None:
        self.head = bytearray()
        self.total_bytes = 0
        self._head_bytes = head_bytes
        self._tail = bytearray()

    @property
    def tail(self) -> bytes:
        """The last 64 KiB of what is not in the head."""
        return bytes(self._tail[-KEPT_BYTES:])

    def add(self, data: bytes) -> None:
        """Take in what came next."""
        self.total_bytes += len(data)
        room = self._head_bytes - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * KEPT_BYTES:
            del self._tail[:-KEPT_BYTES]

    def stream(self) -> Stream:
        """Head and tail as text for the ledger. Neither begins nor ends within a character of UTF-8."""
        cut = self._cut(KEPT_BYTES)
        tail = (bytes(self.head[cut:]) + self._tail)[-KEPT_BYTES:]
        if cut + len(tail) < self.total_bytes:
            tail = tail[:3].lstrip(_CONTINUATION) + tail[3:]
        return Stream(head=_text(self.head[:cut]), tail=_text(tail), total_bytes=self.total_bytes)

    def first(self, limit_bytes: int) -> tuple[str, bool]:
        """At most the first `limit_bytes` as text, and whether anything follows."""
        cut = self._cut(limit_bytes)
        return _text(self.head[:cut]), cut < self.total_bytes

    def _cut(self, limit_bytes: int) -> int:
        """Where to cut the head, at most at `limit_bytes`, so that no character of UTF-8 is cut in two."""
        cut = min(len(self.head), limit_bytes)
        if cut == self.total_bytes:
            return cut
        for back in range(1, min(4, cut) + 1):
            byte = self.head[cut - back]
            if byte >= 0xC0:
                size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                return cut - back if size > back else cut
            if byte < 0x80:
                break
        return cut

    def last_line(self) -> str:
        """The last line that is not empty, or an empty text."""
        end = (bytes(self.head[-KEPT_BYTES:]) + self._tail)[-KEPT_BYTES:]
        lines = _text(end).rstrip().splitlines()
        return lines[-1].strip() if lines else ""


_CONTINUATION: Final = bytes(range(0x80, 0xC0))


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", errors="replace")


class Capture:
    """One pipe of a child, read by the loop from now on until `close` or its end."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = loop
        self._kept: HeadTail | None = None
        self._head_bytes = KEPT_BYTES
        self._open = True
        self._look = select.poll()
        self._look.register(fd, select.POLLIN)
        loop.add_reader(fd, self._read, _TURN_BYTES)

    def begin(self, head_bytes: int = KEPT_BYTES) -> None:
        """What comes from now on belongs to a new run."""
        self._kept = None
        self._head_bytes = head_bytes

    @property
    def kept(self) -> HeadTail | None:
        """What came since `begin` and was read so far; None when nothing did."""
        return self._kept

    def take(self) -> HeadTail | None:
        """All that came since `begin`, what is still in the pipe included; None when nothing did."""
        # most jobs write nothing: to look is half as expensive as to read in vain
        if self._open and self._look.poll(0):
            self._read(_DRAIN_BYTES)
        kept, self._kept = self._kept, None
        return kept

    def close(self) -> None:
        """Stop reading."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _read(self, limit_bytes: int) -> None:
        """Read until the pipe is empty, ended, or `limit_bytes` came."""
        while limit_bytes > 0:
            try:
                data = os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not data:
                self.close()
                return
            if self._kept is None:
                self._kept = HeadTail(self._head_bytes)
            self._kept.add(data)
            limit_bytes -= len(data)
