"""An event loop in a thread of its own, for programs that have none."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

STOP_S = 5.0
"""Longest wait for the thread's end; it is a daemon, so a program's exit never hangs on it."""


class LoopThread:
    """Runs coroutines for other threads. The thread lives from construction to `stop`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="jobrunner client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    self.loop.run_until_complete(task)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            with contextlib.suppress(RuntimeError):  # newer Pythons start no thread for it while the program ends
                self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    @property
    def is_current(self) -> bool:
        """Whether the caller is this very thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin it; from any thread. Raises: RuntimeError after `stop`."""
        future: Future[T] | None = None
        if not self._is_stopped:
            with contextlib.suppress(RuntimeError):  # it has closed since
                future = asyncio.run_coroutine_threadsafe(work, self.loop)
        if future is None:
            work.close()
        elif not self._is_stopped:
            return future
        else:
            future.cancel()  # a loop that has stopped, and is not closed yet, may never begin it
        raise RuntimeError("this client is closed")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What it gives, waited for. Raises: what it raises; RuntimeError on this very thread."""
        if self.is_current:
            work.close()
            raise RuntimeError("a callback of a jobrunner future may not wait for jobs: hand them to another thread")
        future = self.start(work)
        try:
            return future.result()
        finally:
            future.cancel()  # after Ctrl-C; nothing happens to one that is done

    def stop(self) -> None:
        """End the thread. What still runs on it is cancelled."""
        self._is_stopped = True  # first: what was begun before is cancelled with the rest
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # another has stopped it, and it has just closed
                self.loop.call_soon_threadsafe(self.loop.stop)
            if not self.is_current:
                self._thread.join(STOP_S)
