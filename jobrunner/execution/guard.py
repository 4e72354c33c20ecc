"""The parent's side of the guardian: started first, told of every group, started again if it dies."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobrunner.errors import Bug, JobrunnerError
from jobrunner.execution.process import child_environment

DEATHS: Final = 3
WINDOW_S: Final = 60.0
_LEAVE_S: Final = 2.0

_SCRIPT: Final = str(Path(__file__).with_name("guardian.py"))


class Guard:
    """Keeps one guardian running.

    on_broken: called once, when it died 3 times in 60 s or cannot be started again.
    """

    def __init__(self, on_broken: Callable[[JobrunnerError], None]) -> None:
        self._on_broken = on_broken
        self._groups: set[int] = set()
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._popen: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._gone = asyncio.Event()
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The guardian's, while it runs."""
        return None if self._popen is None else self._popen.pid

    def start(self) -> None:
        """Start it and tell it all living groups. Raises: OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                self._popen = subprocess.Popen(
                    [sys.executable, "-I", "-S", _SCRIPT],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    # jobs of the same user can read it: neither URL nor key is for them
                    env=child_environment(os.environ, share_broker=False),
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        self._socket = ours
        self._gone.clear()
        asyncio.get_running_loop().add_reader(ours, self._closed)
        for group in self._groups:
            self._tell(f"+{group}\n")

    def add(self, group: int) -> None:
        """The group lives: kill it if this process dies."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """The group is gone. To be told before its leader is reaped, since its number is free then."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    async def stop(self) -> None:
        """Let it go. It kills what it still guards."""
        self._stopping = True
        if self._popen is None or self._socket is None:
            return
        self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._gone.wait()
        self._end()

    def _tell(self, line: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(line.encode("ascii"))
        except BlockingIOError:
            if self._popen is not None:
                self._popen.kill()  # it reads nothing any more: frozen. Its death is seen, and another one started
        except OSError:
            pass  # it is dead, which `_closed` is about to see

    def _closed(self) -> None:
        """Its end of the socket is closed, so it has died: it never writes."""
        self._gone.set()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        if self._stopping:
            return
        self._end()
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == DEATHS and now - self._deaths[0] < WINDOW_S:
            what = f"the guardian process died {DEATHS} times in {WINDOW_S:g} s"
            self._on_broken(Bug(what=what, report="none"))
            return
        try:
            self.start()
        except OSError as exc:
            self._on_broken(Bug(what=f"no guardian process can be started: {exc}", report="none"))

    def _end(self) -> None:
        """Reap it and let go of the socket. It has exited, or is killed here."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._popen is not None:
            self._popen.send_signal(signal.SIGKILL)
            self._popen.wait()
            self._popen = None
