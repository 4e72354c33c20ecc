"""What a synchronous client stands on: a loop in a thread of its own, opened on first use, anew after a fork."""

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from jobrunner.api import backend
from jobrunner.api.thread import LoopThread
from jobrunner.errors import JobrunnerError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from jobrunner.api.core import Core

T = TypeVar("T")
Work = Callable[["Core"], Coroutine[Any, Any, T]]

LEAVE_S = 10.0
"""Longest wait at the end for what is still being enqueued."""

_inherited: list[object] = []
"""Loops and sockets of the parent process. They are neither used here nor closed: the parent talks on them."""


class Link:
    """One client's thread and connections. Safe from several threads.

    run_name: the run of all of its jobs.
    """

    def __init__(self, wanted: backend.Wanted, run_name: str) -> None:
        self.run_name = run_name
        self._wanted = wanted
        self._lock = threading.Lock()
        self._opened: list[tuple[Core, LoopThread]] = []
        self._is_closed = False
        # at the latest when the program ends
        self._finalizer = weakref.finalize(self, _leave, self._opened)
        _links.add(self)

    def open(self) -> "tuple[Core, LoopThread | None]":
        """The core, connected, and the thread that it lives on; None: jobs run inline, in the caller's own.

        Raises: the broker's errors; RuntimeError after `close`.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this client is closed")
            if backend.is_inline():
                return backend.make(self._wanted, self.run_name, is_async=False), None
            if not self._opened:
                self._opened.append(self._connect())
            return self._opened[0]

    def _connect(self) -> "tuple[Core, LoopThread]":
        thread = LoopThread()
        try:
            return thread.run(_open(self._wanted, self.run_name)), thread
        except BaseException:
            thread.stop()
            raise

    def run(self, work: Work[T]) -> T:
        """What the work on the core gives, waited for. Raises: what it raises."""
        core, thread = self.open()
        return drive(work(core)) if thread is None else thread.run(work(core))

    def start(self, work: Work[T]) -> "Future[T] | None":
        """Begin it and wait for nothing; None where jobs run inline: it is done then."""
        core, thread = self.open()
        if thread is None:
            drive(work(core))
            return None
        return thread.start(work(core))

    def close(self) -> None:
        """Wait for what is being enqueued, then leave. Again: nothing."""
        with self._lock:
            self._is_closed = True
            opened = self._opened[:]
            self._opened.clear()
        # without the lock: what happens on the loop meanwhile may ask for this link as well
        _leave(opened)

    def forget(self) -> None:
        """In a child process: what the parent opened is the parent's."""
        _inherited.extend(self._opened)
        self._opened.clear()
        self._lock = threading.Lock()


async def _open(wanted: backend.Wanted, run_name: str) -> "Core":
    """Made on the loop that it is used on."""
    core = backend.make(wanted, run_name, is_async=False)
    await core.open()
    return core


def _leave(opened: "list[tuple[Core, LoopThread]]") -> None:
    while opened:
        core, thread = opened.pop()
        if not thread.is_current:  # the last reference may have gone anywhere
            with contextlib.suppress(JobrunnerError, TimeoutError):
                thread.run(asyncio.wait_for(core.close(), LEAVE_S))
        thread.stop()


def drive(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise RuntimeError("inline jobs wait for nothing")


_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


def _after_fork() -> None:
    for link in list(_links):
        link.forget()


os.register_at_fork(after_in_child=_after_fork)
