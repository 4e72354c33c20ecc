"""The pool: the children of a worker, on the worker's own loop, without threads.

Its messages and settings are those of `messages`, given here too.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from _thread import get_native_id
from collections import deque
from collections.abc import Callable
from typing import Final

from jobrunner import attempts
from jobrunner.durations import format_duration
from jobrunner.errors import AppImport, ChildrenKeepDying, JobrunnerError
from jobrunner.execution.endings import MemoryEvents
from jobrunner.execution.guard import Guard
from jobrunner.execution.handle import Surface
from jobrunner.execution.lifecycle import Died
from jobrunner.execution.messages import (
    Finished,
    Found,
    PoolBroken,
    PoolMessage,
    PoolSettings,
    Progress,
    SlotDown,
    SlotReady,
    Work,
)
from jobrunner.execution.output import HeadTail
from jobrunner.execution.process import child_environment
from jobrunner.execution.slot import Slot

__all__ = [
    "Finished",
    "Found",
    "Pool",
    "PoolBroken",
    "PoolMessage",
    "PoolSettings",
    "Progress",
    "SlotDown",
    "SlotReady",
    "Work",
]

FAILED_STARTS: Final = 5
WINDOW_S: Final = 60.0
PING_S: Final = 10.0
STOP_TERM_S: Final = 1.0


class Pool:
    """`settings.procs` slots, each with a child, and the guardian of all.

    post: called from callbacks of the running loop with what happens.
    """

    def __init__(self, settings: PoolSettings, post: Callable[[PoolMessage], None]) -> None:
        self._settings = settings
        self._post = post
        self._slots: list[Slot] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._failures: deque[float] = deque(maxlen=FAILED_STARTS)
        self._was_ready = False
        self._broken = False
        self._stopping = False
        self._guard: Guard | None = None
        self._pings: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start the guardian and the children; `SlotReady` follows for each of them.

        Raises: RuntimeError in another thread than the main one; OSError when the system can start no process.
        """
        if sys.platform == "linux" and get_native_id() != os.getpid():
            # the children's death signal fires when the thread that started them ends
            raise RuntimeError("a pool is started in the main thread")
        self._guard = Guard(self._break)
        self._guard.start()
        surface = Surface(
            settings=self._settings,
            environment=child_environment(
                os.environ, share_broker=self._settings.share_broker, broker=self._settings.broker()
            ),
            guard=self._guard,
            memory=MemoryEvents(),
            post=self._tell,
        )
        loop = asyncio.get_running_loop()
        for number in range(self._settings.procs):
            slot = Slot(number, surface, self._failed, lambda: not self._broken)
            keeper = loop.create_task(slot.keep(), name=f"slot {number}")
            keeper.add_done_callback(self._kept)
            self._slots.append(slot)
            self._keepers.append(keeper)
        self._pings = loop.call_later(PING_S, self._ping)
        await asyncio.sleep(0)  # every keeper has started its child when this returns

    def run(self, slot: int, work: Work) -> None:
        """Hand a job to a slot that is ready; `Finished` follows. Never waits.

        If the slot's child is just being lost, the outcome is `Interrupted`: nothing of the job ran.
        """
        self._slots[slot].run(work)

    def running(self, slot: int) -> attempts.Run:
        """Where and when the slot's current job runs; of the last one when that has just ended."""
        return self._slots[slot].ran()

    def output(self, slot: int) -> tuple[HeadTail | None, HeadTail | None]:
        """What the slot's current job has written so far to stdout and stderr; None: nothing."""
        return self._slots[slot].output()

    def interrupt(self, slot: int, term_s: float = 1.0, number: signal.Signals = signal.SIGTERM) -> None:
        """Kill the slot's job: that signal to its group, SIGKILL after `term_s` seconds.

        `Finished` follows, with `Interrupted`, or with its result if that was complete before.
        """
        self._slots[slot].interrupt(term_s, number)

    def renew(self) -> None:
        """Replace every child, so that changed sources are imported: free ones now, the others after their job."""
        for slot in self._slots:
            slot.renew()

    def stacks(self, slot: int, on_text: Callable[[str], None]) -> None:
        """Ask the slot's child for the stacks of its threads. `on_text` gets them a little later, or is not called if
        there is no child that could.
        """
        self._slots[slot].stacks(on_text)

    def dump_stacks(self) -> None:
        """Write the stacks of every child to this process's stderr."""
        for slot in self._slots:
            slot.stacks(_show)

    async def stop(self) -> None:
        """End all children, running jobs as `Interrupted`, then the guardian. Nothing is left afterwards."""
        self._stopping = True
        if self._pings is not None:
            self._pings.cancel()
        for slot in self._slots:
            slot.stop(STOP_TERM_S)
        await asyncio.gather(*self._keepers, return_exceptions=True)
        if self._guard is not None:
            await self._guard.stop()

    # --- what the slots tell ----------------------------------------------------------------------------------------

    def _tell(self, message: PoolMessage) -> None:
        if isinstance(message, SlotReady):
            self._was_ready = True
        if isinstance(message, SlotDown) and self._stopping:
            return
        self._post(message)

    def _failed(self, died: Died) -> None:
        """A child died before it was ready. An app that cannot be imported at the first start will not be later."""
        if died.app is not None and not self._was_ready:
            self._break(AppImport(app=died.app, reason=died.reason, python=sys.executable))
            return
        now = time.monotonic()
        self._failures.append(now)
        if len(self._failures) == FAILED_STARTS and now - self._failures[0] < WINDOW_S:
            window = format_duration(WINDOW_S)
            self._break(ChildrenKeepDying(failures=FAILED_STARTS, window=window, reason=died.reason))

    def _break(self, error: JobrunnerError) -> None:
        if not self._broken:
            self._broken = True
            self._post(PoolBroken(error=error))

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        """A slot's task ends only when the pool stops or breaks. With an exception it is a bug, and has to be seen."""
        exc = None if keeper.cancelled() else keeper.exception()
        if exc is not None:
            keeper.get_loop().call_exception_handler({"message": f"{keeper.get_name()} failed", "exception": exc})

    def _ping(self) -> None:
        for slot in self._slots:
            slot.ping()
        self._pings = asyncio.get_running_loop().call_later(PING_S, self._ping)


def _show(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a worker may have no stderr
        sys.stderr.write(text)
        sys.stderr.flush()
