"""Jobs on their way to the broker, so many publishes at once; where the map is halted at once, they are held back.

What a publish does about a connection that is away is in `queueing.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobrunner.envelope import Envelope
from jobrunner.mapping import queueing
from jobrunner.mapping.ends import Ends
from jobrunner.mapping.halting import Halting
from jobrunner.mapping.items import Item
from jobrunner.mapping.making import Make
from jobrunner.mapping.resuming import Resuming
from jobrunner.mapping.tally import Tally
from jobrunner.mapping.waiting import Tasks

PUBLISHES_OPEN: Final = 4
"""Publishes of up to 500 jobs under way at once."""


class Publishing:
    """send: queues one piece, whatever happens to the connection."""

    def __init__(
        self,
        send: Callable[[Sequence[Envelope]], Awaitable[None]],
        tasks: Tasks,
        ends: Ends,
        halting: Halting,
        tally: Tally,
        resuming: Resuming | None,
    ) -> None:
        self._send = send
        self._tasks = tasks
        self._ends = ends
        self._halting = halting
        self._tally = tally
        self._resuming = resuming
        self._slots = asyncio.Semaphore(PUBLISHES_OPEN)

    async def queue(self, items: list[Item], make: Make) -> None:
        """Publish what `make` gives. It is called only when nothing can come between it and the publish."""
        await self._tasks.wait(self._slots.acquire())
        if self._halting.is_at_once():
            self._slots.release()
            self._not_queued(items)
            return
        self._tasks.spawn(self._publish(make(items)))

    def queue_again(self, items: list[Item], make: Make) -> None:
        """Publish them besides: calls of a batch that failed or did not run."""
        if self._halting.is_at_once():
            self._ends.cancelled(items)
        else:
            self._tasks.spawn(self.queue(items, make))

    async def all_answered(self) -> None:
        """Wait until all publishes have been answered."""
        for _ in range(PUBLISHES_OPEN):
            await self._tasks.wait(self._slots.acquire())
        for _ in range(PUBLISHES_OPEN):
            self._slots.release()

    async def _publish(self, envelopes: Sequence[Envelope]) -> None:
        try:
            for piece in queueing.pieces(envelopes):
                ids = [envelope.job.id for envelope in piece]
                if self._halting.is_at_once():
                    self._not_queued(self._ends.withdraw(ids))
                    continue
                self._tally.queued(piece)
                await self._send(piece)
                if self._halting.is_at_once():
                    await self._halting.cancel(ids)
        finally:
            self._slots.release()

    def _not_queued(self, items: Sequence[Item]) -> None:
        if self._resuming is not None:
            self._resuming.withdraw(items)
        self._ends.cancelled(items)
