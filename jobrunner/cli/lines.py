"""Lines of a file or pipe as they come, in chunks, without blocking the event loop and with flat memory."""

import asyncio
import errno
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from jobrunner.cli import out
from jobrunner.errors import BadValue

CHUNK_BYTES = 256 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024
"""A line without an end must not fill the memory."""


@contextmanager
def opened(source: str, hint: str = "--from FILE · --from -") -> Iterator[int]:
    """The file descriptor of a file, or of stdin for `-`. Raises: BadValue."""
    if source == "-":
        if sys.stdin.isatty():
            out.say("reading; end with Ctrl-D")
        yield sys.stdin.fileno()
        return
    try:
        handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise BadValue(problem=f"Cannot read '{source}': {exc.strerror}.", hint=hint) from exc
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):  # it can be opened, only not read
            raise BadValue(problem=f"Cannot read '{source}': {os.strerror(errno.EISDIR)}.", hint=hint)
        yield handle
    finally:
        os.close(handle)


async def chunks_of_lines(handle: int, end: bytes = b"\n") -> AsyncIterator[list[bytes]]:
    """Complete lines without their ends, as many as are there; a pipe that is slow gives them as they come.

    end: the byte that ends one.

    Raises: BadValue for a line over 8 MiB.
    """
    rest = b""
    while chunk := await _read(handle):
        *lines, rest = (rest + chunk).split(end)
        if len(rest) > MAX_LINE_BYTES:
            raise BadValue(problem=f"A line is longer than {MAX_LINE_BYTES >> 20} MiB.", hint="one JSON object a line")
        if lines:
            yield lines
    if rest:
        yield [rest]


async def _read(handle: int) -> bytes:
    """The next bytes. The descriptor stays blocking: it may be shared with a terminal's output."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(handle, ready.set)
    except OSError:
        return os.read(handle, CHUNK_BYTES)  # a regular file is always ready, and epoll refuses it
    try:
        await ready.wait()
    finally:
        loop.remove_reader(handle)
    return os.read(handle, CHUNK_BYTES)
