"""The parent's end of a child's control socket: frames in and out, never blocking."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from jobrunner.execution import frames

TAKEN_S: Final = 10.0
"""A child that has taken nothing of a waiting frame for this long is stuck."""

_CHUNK_BYTES: Final = 64 * 1024


class Link:
    """A framed, non-blocking connection on the running loop.

    on_frame: called with each frame. on_lost: called once, when nothing more can come, with what is wrong: the other
    end broke the protocol or takes nothing any more; empty when it closed the socket, be it within a frame.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_frame: Callable[[frames.Up], None],
        on_lost: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._parser = frames.UpParser()
        self._unsent = bytearray()
        self._stuck: asyncio.TimerHandle | None = None
        self._open = True
        loop.add_reader(sock, self._read)

    def send(self, data: bytes) -> None:
        """Send encoded frames: at once as far as the socket takes them, the rest as it drains."""
        if not self._open:
            return
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the child is gone, which its exit or the end of the stream will tell
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._socket, self._write)
            self._stuck = self._loop.call_later(TAKEN_S, self._lose, f"it took nothing for {TAKEN_S:g} s")
        self._unsent += data

    def drain(self) -> None:
        """Read all that is there now."""
        while self._read():
            pass

    def close(self) -> None:
        """Let go of the socket; nothing is called any more."""
        self._silence()
        self._socket.close()

    def _read(self) -> bool:
        """Take in what came. Gives whether there may be more."""
        if not self._open:
            return False
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # reset: it died with something of ours unread
        if not data:
            self._lose("")
            return False
        try:
            found = self._parser.feed(data)
        except frames.FrameError as exc:
            self._lose(f"it broke the protocol: {exc}")
            return False
        for frame in found:
            self._on_frame(frame)
        return True

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
        else:
            del self._unsent[:sent]
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        if self._unsent:
            self._stuck = self._loop.call_later(TAKEN_S, self._lose, f"it took nothing for {TAKEN_S:g} s")
        else:
            self._loop.remove_writer(self._socket)

    def _lose(self, what: str) -> None:
        if self._open:
            self._silence()
            self._on_lost(what)

    def _silence(self) -> None:
        self._open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
