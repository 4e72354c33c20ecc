"""A map: inputs become jobs, never more at once than was asked for, and the ends of jobs become results."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from jobrunner.client import Client
from jobrunner.envelope import Envelope
from jobrunner.errors import JobrunnerError
from jobrunner.mapping import queueing
from jobrunner.mapping.ends import Ends
from jobrunner.mapping.inputs import Input
from jobrunner.mapping.items import Ended, Item, Job, never_queued
from jobrunner.mapping.line import Counts, Line
from jobrunner.mapping.nths import Nths
from jobrunner.mapping.plan import Chunks, Listener, Plan
from jobrunner.mapping.recipe import Recipe
from jobrunner.mapping.resuming import Resuming
from jobrunner.mapping.tally import Tally
from jobrunner.mapping.waiting import Tasks
from jobrunner.watch import Watch

PUBLISHES_OPEN: Final = 4
"""Publishes of up to 500 jobs under way at once."""

CHUNK: Final = 500
"""Most inputs that are made into jobs without a look at what else happens."""

REFILL: Final = 8
"""Inputs are read when this part of the limit is free."""

CANCELLED_S: Final = 10.0
"""So long the ends of jobs are waited for that were cancelled."""


class Mapper:
    """One map. cancel: ends these jobs, id -> chain; needed with a halt.

    halted: it ended before its inputs did. stopped: it was told to stop. is_read: all inputs were read.
    """

    def __init__(
        self,
        client: Client,
        recipe: Recipe,
        plan: Plan,
        listener: Listener,
        cancel: Callable[[dict[str, int]], Awaitable[None]],
    ) -> None:
        self.halted = self.stopped = self.is_read = False
        self._client = client
        self._recipe = recipe
        self._plan = plan
        self._listener = listener
        self._cancel = cancel
        self._line = Line(plan.limit, self._on_ended, listener.result, ordered=plan.ordered)
        self._ends = Ends(self._line, self._again_alone, retries=recipe.wishes.retries)
        self._resuming: Resuming | None = None
        if plan.past is not None:
            self._resuming = Resuming(plan.past, self._line, self._ends, only_dead=plan.only_dead, waits=plan.waits)
        self._nths = Nths()
        self._seq = 0
        self._pending: list[tuple[Item, bytes]] = []
        self._tasks = Tasks()
        self._slots = asyncio.Semaphore(PUBLISHES_OPEN)
        self._stop = asyncio.Event()
        self._patience: float | None = None
        self._tally = Tally(plan, is_batched=recipe.batch > 1)

    @property
    def counts(self) -> Counts:
        """How it stands."""
        return self._line.counts

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
                    await self._tasks.wait(self._all_ended())
                    await self._seal(is_end=True)
        finally:
            self._line.give_all()

    def stop(self) -> None:
        """Read no more inputs; what was queued goes on."""
        self.stopped = True
        self._stop.set()

    async def _seal(self, *, is_end: bool) -> None:
        """No more jobs will come: all inputs were read, or it was halted."""
        if (self.is_read or self.halted) and self._tally.is_time(is_end=is_end):
            await self._tasks.wait(self._tally.seal())

    # --- inputs become jobs -----------------------------------------------------------------------------------------

    async def _feed_all(self, chunks: Chunks) -> None:
        async with contextlib.aclosing(chunks):
            while not self._stop.is_set():
                chunk = await self._tasks.wait(anext(chunks, None), unless=self._stop)
                if chunk is None:
                    break
                for start in range(0, len(chunk), CHUNK):
                    await self._feed(chunk[start : start + CHUNK])
        self.is_read = not self._stop.is_set()
        if self.is_read:
            await self._flush()
        else:
            left = [item for item, _ in self._pending]
            self._line.drop(left)
            if self._resuming is not None:
                self._resuming.withdraw(left)
        for _ in range(PUBLISHES_OPEN):  # until all publishes have been answered
            await self._tasks.wait(self._slots.acquire())
        for _ in range(PUBLISHES_OPEN):
            self._slots.release()

    async def _feed(self, chunk: Sequence[Input]) -> None:
        start = 0
        while start < len(chunk) and not self._stop.is_set():
            if (room := self._room()) <= 0:
                if self._pending and self.counts.open <= len(self._pending):
                    # the rest has ended and waits behind these for its turn: nothing else would make room
                    await self._flush()
                else:
                    await self._tasks.wait(self._line.change(), unless=self._stop)
                continue
            items = [self._item(given) for given in chunk[start : start + room]]
            start += len(items)
            if self._resuming is not None:
                items = await self._resuming.sort(items)
            else:
                self._line.add_all(items)
            if self._recipe.batch > 1:
                await self._into_batches(items)
            elif items:
                await self._queue(items, self._alone)

    def _room(self) -> int:
        """How many may be read now. Not one at a time while many go on: a publish of several costs little more."""
        if not self._plan.waits:
            return CHUNK
        room = self._line.room
        is_enough = room * REFILL >= self._line.limit or self.counts.open <= len(self._pending)
        return room if is_enough else 0

    def _item(self, given: Input) -> Item:
        self._seq += 1
        return Item(given, self._seq, self._recipe.item_id(given.text, self._nths.next(given.text)))

    def _alone(self, items: Sequence[Item]) -> list[Envelope]:
        envelopes = []
        for item in items:
            try:
                envelope = self._recipe.alone(item)
            except JobrunnerError as exc:
                self._never_queued(item, exc)
                continue
            if self._plan.waits:
                self._ends.expect(envelope.job.id, Job([item], item.chain, time.time()))
            envelopes.append(envelope)
        return envelopes

    async def _into_batches(self, items: Sequence[Item]) -> None:
        for item in items:
            try:
                part = self._recipe.part(item)
            except JobrunnerError as exc:
                self._never_queued(item, exc)
                continue
            self._pending.append((item, part))
            if len(self._pending) >= self._recipe.batch:
                await self._flush()

    async def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            await self._queue([item for item, _ in pending], partial(self._together, [part for _, part in pending]))

    def _together(self, parts: Sequence[bytes], items: list[Item]) -> list[Envelope]:
        """One batch; jobs of their own where it would be too large."""
        try:
            is_again = self._resuming is not None
            envelope = self._recipe.together(items, parts, is_again=is_again)
        except JobrunnerError:
            return self._alone(items)
        if self._plan.waits:
            self._ends.expect(envelope.job.id, Job(items, 0, time.time(), list(range(len(items)))))
        return [envelope]

    async def _queue(self, items: list[Item], make: Callable[[list[Item]], list[Envelope]]) -> None:
        """Publish what `make` gives. It is called only when nothing can come between it and the publish."""
        await self._tasks.wait(self._slots.acquire())
        if self._is_cut():
            self._slots.release()
            self._not_queued(items)
            return
        self._tasks.spawn(self._publish(make(items)))

    async def _publish(self, envelopes: Sequence[Envelope]) -> None:
        try:
            for piece in queueing.pieces(envelopes):
                ids = [envelope.job.id for envelope in piece]
                if self._is_cut():
                    self._not_queued(self._ends.withdraw(ids))
                    continue
                self._tally.queued(piece)
                await queueing.queue(self._client, piece, self._listener.trouble)
                if self._is_cut():
                    # halted meanwhile: what was cancelled then may have come too early for these
                    going_on = self._ends.open()
                    await self._cancel({job_id: going_on[job_id] for job_id in ids if job_id in going_on})
        finally:
            self._slots.release()

    def _is_cut(self) -> bool:
        """Whether it was halted at once."""
        return self._patience is not None

    def _not_queued(self, items: Sequence[Item]) -> None:
        if self._resuming is not None:
            self._resuming.withdraw(items)
        self._ends.cancelled(items)

    # --- ends become results ----------------------------------------------------------------------------------------

    async def _collect(self, watch: Watch) -> None:
        while (end := await watch.next()) is not None:
            for one in (end, *watch.take_all()):
                self._ends.take(one)
            watch.since(self._ends.oldest_at())
            await asyncio.sleep(0)

    def _never_queued(self, item: Item, error: JobrunnerError) -> None:
        self._tally.never_queued()
        self._line.ended(item, never_queued(item, error.code, error.message))

    def _on_ended(self, ended: Ended) -> None:
        self._tally.ended(ended)
        self._listener.ended(ended)
        halt = self._plan.halt
        if halt is None or self.halted or not halt.is_due(succeeded=self.counts.succeeded, failed=self.counts.failed):
            return
        self.halted = True
        self._stop.set()
        if halt.is_now:
            self._patience = time.monotonic() + CANCELLED_S
            self._line.wake()
            self._tasks.spawn(self._cancel_all())

    async def _cancel_all(self) -> None:
        if jobs := self._ends.open():
            await self._cancel(jobs)

    async def _all_ended(self) -> None:
        while self.counts.open:
            left_s = None if self._patience is None else max(0.0, self._patience - time.monotonic())
            try:
                async with asyncio.timeout(left_s):
                    await self._line.change()
            except TimeoutError:
                if left_s is not None:
                    self._ends.give_up()
                    return

    def _again_alone(self, items: list[Item]) -> None:
        """Calls of a batch that failed or did not run: each becomes a job of its own."""
        if self._patience is not None:
            self._ends.cancelled(items)
        else:
            self._tasks.spawn(self._queue(items, self._alone))
