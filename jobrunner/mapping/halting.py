"""A map that ends before its inputs do: no more are read, and where it halts at once, what goes on is cancelled."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobrunner.mapping.ends import Ends
from jobrunner.mapping.halt import Halt
from jobrunner.mapping.line import Line
from jobrunner.mapping.waiting import Tasks

CANCELLED_S: Final = 10.0
"""So long the ends of jobs are waited for that were cancelled."""

Cancel = Callable[[dict[str, int]], Awaitable[None]]
"""Ends these jobs, id -> chain."""


class Halting:
    """halted: by its halt. stopped: it was told to stop. no_more: set when no more inputs are to be read."""

    def __init__(self, halt: Halt | None, line: Line, ends: Ends, tasks: Tasks, cancel: Cancel) -> None:
        self.halted = self.stopped = False
        self.no_more = asyncio.Event()
        self._halt = halt
        self._line = line
        self._ends = ends
        self._tasks = tasks
        self._cancel = cancel
        self._patience: float | None = None

    def is_at_once(self) -> bool:
        """Whether it was halted at once: nothing is queued any more."""
        return self._patience is not None

    def stop(self) -> None:
        """Read no more inputs; what was queued goes on."""
        self.stopped = True
        self.no_more.set()

    def look(self) -> None:
        """An input has ended: halt if it is time."""
        halt, counts = self._halt, self._line.counts
        if halt is None or self.halted or not halt.is_due(succeeded=counts.succeeded, failed=counts.failed):
            return
        self.halted = True
        self.no_more.set()
        if halt.is_now:
            self._patience = time.monotonic() + CANCELLED_S
            self._line.wake()
            self._tasks.spawn(self._cancel_all())

    async def _cancel_all(self) -> None:
        if jobs := self._ends.open():
            await self._cancel(jobs)

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Those of them that go on. What was cancelled before may have come too early for what was being queued."""
        going_on = self._ends.open()
        await self._cancel({job_id: going_on[job_id] for job_id in job_ids if job_id in going_on})

    async def all_ended(self) -> None:
        """Wait for the ends of all that was queued; of what was cancelled only for `CANCELLED_S`."""
        while self._line.counts.open:
            left_s = None if self._patience is None else max(0.0, self._patience - time.monotonic())
            try:
                async with asyncio.timeout(left_s):
                    await self._line.change()
            except TimeoutError:
                if left_s is not None:
                    self._ends.give_up()
                    return
