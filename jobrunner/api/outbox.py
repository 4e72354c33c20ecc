"""Enqueueing for many callers at once: what is given while a batch is under way leaves with the next one."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

from jobrunner import events
from jobrunner.client import BATCHES_OPEN, Client
from jobrunner.envelope import Envelope
from jobrunner.errors import BrokerTimeout, JobrunnerError, Unconfirmed

Answer = JobrunnerError | None
"""None: the job and its record are confirmed."""


class _Order:
    """What one caller has given, and the answers so far."""

    def __init__(self, count: int) -> None:
        self.answered: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._answers: list[Answer] = [None] * count
        self._left = count

    def settle(self, place: int, answer: Answer) -> None:
        if answer is not None:
            self._answers[place] = answer
        self._left -= 1
        if not self._left and not self.answered.done():  # whoever waited may have given up
            self.answered.set_result(self._answers)

    def fail(self, error: BaseException) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


_Entry = tuple[Envelope, _Order, int]
"""A job, whose it is, and its place there."""


class Outbox:
    """Puts jobs into the broker in batches, up to four under way at once; alone, a job leaves at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: deque[_Entry] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def put(self, envelopes: Sequence[Envelope]) -> list[Answer]:
        """Queue these. Gives the answer to each, in order; never raises for trouble with the broker."""
        if not envelopes:
            return []
        order = _Order(len(envelopes))
        self._waiting.extend([(envelope, order, place) for place, envelope in enumerate(envelopes)])
        self._send_on()
        return await order.answered

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.gather(*self._under_way)

    def _send_on(self) -> None:
        while self._waiting and len(self._under_way) < BATCHES_OPEN:
            task = asyncio.create_task(self._send(self._next_batch()))
            self._under_way.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send_on()

    def _next_batch(self) -> list["_Entry"]:
        """As much as one `queued` event may hold; at least one job, and no id twice: confirms go by it."""
        batch = [self._waiting.popleft()]
        size, ids = len(batch[0][0].body), {batch[0][0].job.id}
        while self._waiting and len(batch) < events.QUEUED_BATCH_JOBS:
            envelope = self._waiting[0][0]
            size += len(envelope.body)
            if size > events.QUEUED_BATCH_BYTES or envelope.job.id in ids:
                break
            ids.add(envelope.job.id)
            batch.append(self._waiting.popleft())
        return batch

    async def _send(self, batch: list["_Entry"]) -> None:
        try:
            answers = await self._store([envelope for envelope, _, _ in batch])
        except JobrunnerError as exc:
            answers = [exc] * len(batch)
        except BaseException as exc:
            for _, order, _ in batch:
                order.fail(exc)
            raise
        for (_, order, place), answer in zip(batch, answers, strict=True):
            order.settle(place, answer)

    async def _store(self, envelopes: Sequence[Envelope]) -> list[Answer]:
        """The answer to each. What was under way on a connection that was lost is published once more, under the same
        ids: it may be queued twice then, as at-least-once allows, but not lost without a word.
        """
        try:
            answers = await self._try(envelopes)
        except BrokerTimeout:
            # nothing was queued, and the connection that did not answer is given up: it had died while nobody used it
            answers = await self._try(envelopes)
        doubtful = [index for index, answer in enumerate(answers) if isinstance(answer, Unconfirmed)]
        if doubtful:
            with contextlib.suppress(JobrunnerError):
                again = await self._try([envelopes[index] for index in doubtful])
                for index, answer in zip(doubtful, again, strict=True):
                    # a refusal now says nothing of the first try
                    answers[index] = answers[index] if answer is not None else None
        return answers

    async def _try(self, envelopes: Sequence[Envelope]) -> list[Answer]:
        await self._client.wait_open()
        return await self._client.enqueue_batch(envelopes)
