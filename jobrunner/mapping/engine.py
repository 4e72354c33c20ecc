"""A map: inputs become jobs, never more at once than was asked for, and the ends of jobs become results."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Final

from jobrunner.client import Client
from jobrunner.mapping import queueing
from jobrunner.mapping.ends import Ends
from jobrunner.mapping.halting import Cancel, Halting
from jobrunner.mapping.inputs import Input
from jobrunner.mapping.items import Ended, Item
from jobrunner.mapping.line import Counts, Line
from jobrunner.mapping.making import Making
from jobrunner.mapping.nths import Nths
from jobrunner.mapping.plan import Chunks, Listener, Plan
from jobrunner.mapping.publishing import Publishing
from jobrunner.mapping.recipe import Recipe
from jobrunner.mapping.resuming import Resuming
from jobrunner.mapping.tally import Tally
from jobrunner.mapping.waiting import Tasks
from jobrunner.watch import Watch

CHUNK: Final = 500
"""Most inputs that are made into jobs without a look at what else happens."""

REFILL: Final = 8
"""Inputs are read when this part of the limit is free."""


class Mapper:
    """One map. cancel: needed with a halt. is_read: all inputs were read."""

    def __init__(self, client: Client, recipe: Recipe, plan: Plan, listener: Listener, cancel: Cancel) -> None:
        self.is_read = False
        self._client = client
        self._recipe = recipe
        self._plan = plan
        self._listener = listener
        self._nths = Nths()
        self._seq = 0
        self._tasks = Tasks()
        self._tally = Tally(plan, is_batched=recipe.batch > 1)
        self._line = Line(plan.limit, self._on_ended, listener.result, ordered=plan.ordered)
        self._ends = Ends(self._line, self._again_alone, retries=recipe.wishes.retries)
        self._resuming: Resuming | None = None
        if plan.past is not None:
            self._resuming = Resuming(plan.past, self._line, self._ends, only_dead=plan.only_dead, waits=plan.waits)
        self._halting = Halting(plan.halt, self._line, self._ends, self._tasks, cancel)
        self._making = Making(recipe, self._ends, self._tally, waits=plan.waits, is_again=plan.past is not None)
        send = partial(queueing.queue, client, on_trouble=listener.trouble)
        self._publishing = Publishing(send, self._tasks, self._ends, self._halting, self._tally, self._resuming)

    @property
    def counts(self) -> Counts:
        """How it stands."""
        return self._line.counts

    @property
    def halted(self) -> bool:
        """Whether its halt ended it before its inputs did."""
        return self._halting.halted

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._halting.stopped

    @property
    def running(self) -> int:
        """Jobs that have run for a quarter of a second; 0 if the plan does not ask for it."""
        return len(self._ends.running)

    @property
    def requeued(self) -> dict[str, int]:
        """Dead jobs that were queued once more: id -> their new chain."""
        return self._resuming.requeued if self._resuming else {}

    async def run(self, chunks: Chunks) -> None:
        """Queue a job for each input and give each result. The client is connected.

        Raises: the broker's errors, when jobs cannot be queued or nothing can be heard of them.
        """
        client, run = self._client, self._recipe.run
        try:
            async with self._tasks:
                if not self._plan.waits:
                    await self._feed_all(chunks)
                    await self._seal(is_end=False)
                    return
                on_running = self._ends.note_running if self._plan.tells_running else None
                async with Watch(
                    client.url, run=run, wanted=self._ends.wants, on_running=on_running, timeout_s=client.timeout_s
                ) as watch:
                    self._tasks.spawn(self._collect(watch))
                    if self._resuming is not None:
                        await self._resuming.begin()
                    await self._feed_all(chunks)
                    await self._seal(is_end=False)
                    await self._tasks.wait(self._halting.all_ended())
                    await self._seal(is_end=True)
        finally:
            self._line.give_all()

    def stop(self) -> None:
        """Read no more inputs; what was queued goes on."""
        self._halting.stop()

    async def _seal(self, *, is_end: bool) -> None:
        """No more jobs will come: all inputs were read, or it was halted."""
        if (self.is_read or self.halted) and self._tally.is_time(is_end=is_end):
            await self._tasks.wait(self._tally.seal())

    # --- inputs become jobs -----------------------------------------------------------------------------------------

    async def _feed_all(self, chunks: Chunks) -> None:
        no_more = self._halting.no_more
        async with contextlib.aclosing(chunks):
            while not no_more.is_set():
                chunk = await self._tasks.wait(anext(chunks, None), unless=no_more)
                if chunk is None:
                    break
                for start in range(0, len(chunk), CHUNK):
                    await self._feed(chunk[start : start + CHUNK])
        self.is_read = not no_more.is_set()
        if self.is_read:
            await self._flush()
        else:
            left = self._making.pending
            self._line.drop(left)
            if self._resuming is not None:
                self._resuming.withdraw(left)
        await self._publishing.all_answered()

    async def _feed(self, chunk: Sequence[Input]) -> None:
        start, no_more = 0, self._halting.no_more
        while start < len(chunk) and not no_more.is_set():
            if (room := self._room()) <= 0:
                if self._waits_for_pending():
                    await self._flush()
                else:
                    await self._tasks.wait(self._line.change(), unless=no_more)
                continue
            items = [self._item(given) for given in chunk[start : start + room]]
            start += len(items)
            if self._resuming is not None:
                items = await self._resuming.sort(items)
            else:
                self._line.add_all(items)
            if self._recipe.batch > 1:
                for batch, make in self._making.batches(items):
                    await self._publishing.queue(batch, make)
            elif items:
                await self._publishing.queue(items, self._making.alone)

    async def _flush(self) -> None:
        for batch, make in self._making.rest():
            await self._publishing.queue(batch, make)

    def _room(self) -> int:
        """How many may be read now. Not one at a time while many go on: a publish of several costs little more."""
        if not self._plan.waits:
            return CHUNK
        room = self._line.room
        is_enough = room * REFILL >= self._line.limit or self.counts.open <= len(self._making.pending)
        return room if is_enough else 0

    def _waits_for_pending(self) -> bool:
        """Whether the rest has ended and waits behind a batch that is not full: nothing else would make room."""
        return bool(self._making.pending) and self.counts.open <= len(self._making.pending)

    def _item(self, given: Input) -> Item:
        self._seq += 1
        return Item(given, self._seq, self._recipe.item_id(given.text, self._nths.next(given.text)))

    # --- ends become results ----------------------------------------------------------------------------------------

    async def _collect(self, watch: Watch) -> None:
        while (end := await watch.next()) is not None:
            for one in (end, *watch.take_all()):
                self._ends.take(one)
            watch.since(self._ends.oldest_at())
            await asyncio.sleep(0)

    def _on_ended(self, ended: Ended) -> None:
        self._tally.ended(ended)
        self._listener.ended(ended)
        self._halting.look()

    def _again_alone(self, items: list[Item]) -> None:
        """Calls of a batch that failed or did not run: each becomes a job of its own."""
        self._publishing.queue_again(items, self._making.alone)
