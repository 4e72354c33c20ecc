"""The dead letters, for one command alone: looked through in order, some taken out, the rest back in their places.

Whoever wants to change what is dead takes them first. Two commands at once can so never queue one job twice: the second
waits, and finds what the first has left.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Self

import msgspec

from jobrunner import envelope as envelopes
from jobrunner.broker import declare, topology
from jobrunner.broker.browse import Browser, InUse
from jobrunner.broker.connection import Connection
from jobrunner.broker.delivery import Delivery
from jobrunner.broker.publisher import Publisher
from jobrunner.envelope import DEFAULT_PRIORITY, Envelope, MalformedMessage, State
from jobrunner.errors import LettersInUse

AGAIN_S: Final = 0.2
QUIET_S: Final = 0.3
"""No letter for so long: then the broker is asked whether any is left."""

BATCH: Final = 500
ANY_NUMBER: Final = 1_000_000


class Letter(msgspec.Struct, frozen=True):
    """A dead letter. envelope: None for what is no job. reason: why it died; of a letter that RabbitMQ itself made, its
    word for it, such as `delivery_limit`, and is_ours is False.
    """

    delivery: Delivery
    id: str
    envelope: Envelope | None
    state: State
    reason: str
    is_ours: bool


def letter_of(delivery: Delivery) -> Letter:
    """What a dead letter says of itself."""
    headers = dict(delivery.headers)
    try:
        job = envelopes.decode(delivery.body, delivery.message_id)
        state = envelopes.state_of(headers)
        priority = DEFAULT_PRIORITY if delivery.priority is None else max(0, min(9, delivery.priority))
        envelope = Envelope(job=job, state=state, priority=priority, body=delivery.body)
        job_id = job.id
    except MalformedMessage:
        envelope, state = None, State()
        named = delivery.message_id if delivery.message_id and envelopes.is_id(delivery.message_id) else None
        job_id = named or envelopes.id_of(delivery.body)
    reason, is_ours = headers.get("jr-reason"), True
    if not isinstance(reason, str):
        reason, is_ours = headers.get("x-first-death-reason"), False
    return Letter(delivery, job_id, envelope, state, str(reason or "unknown"), is_ours)


class Letters:
    """All dead letters: `async with Letters(...) as letters`.

    wanted: how many of them will be taken out, as far as that is known; 0: none is looked at.
    timeout_s: how long to wait for another command that has them.
    Entering raises: LettersInUse, PermissionRefused, BrokerLost.
    """

    def __init__(self, connection: Connection, *, wanted: int, timeout_s: float) -> None:
        self._connection = connection
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._browser: Browser | None = None
        self._prefetch = 1
        self._held = 0
        self._arrived: deque[Letter] = deque()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        depth = await declare.queue_depth(self._connection, topology.DEAD)
        if depth is None:
            publisher = Publisher(self._connection, confirm_timeout_s=self._timeout_s)
            try:
                await declare.declare_startup(self._connection, publisher)
            finally:
                publisher.close()
            depth = (0, 0)
        # what is left alone stays in the window to the end, what is taken makes room for the next
        self._prefetch = max(0, depth[0] - self._wanted) + BATCH if self._wanted else 1
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._browser is not None:
            await self._browser.close()

    async def _open(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._held = 0
            self._arrived.clear()
            browser = Browser(self._connection, topology.DEAD, self._take, prefetch=self._prefetch, is_alone=True)
            try:
                await browser.open()
            except InUse as exc:
                await browser.close()
                if time.monotonic() > deadline:
                    raise LettersInUse from exc
                await asyncio.sleep(AGAIN_S)
                continue
            self._browser = browser
            return

    def _take(self, delivery: Delivery) -> None:
        self._held += 1
        self._arrived.append(letter_of(delivery))
        self._changed.set()

    async def batches(self, is_wanted: Callable[[Letter], bool]) -> AsyncGenerator[list[Letter], None]:
        """The letters that are wanted, up to 500 at a time, to the last. What is not acked goes back at the end.

        Raises: BrokerLost and others when the broker ends it.
        """
        while await self._more():
            batch: list[Letter] = []
            while self._arrived and len(batch) < BATCH:
                letter = self._arrived.popleft()
                if is_wanted(letter):
                    batch.append(letter)
            if batch:
                yield batch

    async def _more(self) -> bool:
        """Wait for letters. Gives False when all were seen."""
        while not self._arrived:
            if self._browser is not None and self._browser.failure is not None:
                raise self._browser.failure
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await self._changed.wait()
                    continue
            depth = await declare.queue_depth(self._connection, topology.DEAD)
            if self._arrived:
                continue
            if depth is None or not depth[0]:
                return False
            if self._held >= self._prefetch:
                await self._widen()
        return True

    async def _widen(self) -> None:
        """More was left alone than expected: begin again with room for all."""
        if self._browser is not None:
            await self._browser.close()
        self._prefetch = ANY_NUMBER
        await self._open()

    def ack(self, letter: Letter) -> bool:
        """Take a letter out for good. False: the channel is gone; the letter has gone back."""
        if self._browser is None or not self._browser.ack(letter.delivery):
            return False
        self._held -= 1
        return True


def error_fields(letter: Letter) -> dict[str, Any]:
    """Queue and text of a letter that RabbitMQ itself made, from the headers that it writes."""
    headers = letter.delivery.headers
    return {"queue": str(headers.get("x-first-death-queue") or ""), "message": letter.reason}
