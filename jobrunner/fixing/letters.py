"""The dead letters, for one command alone: looked through in order, some taken out, the rest back in their places.

Whoever wants to retry takes them first, and makes sure that nobody else consumes. So two commands at once never queue
one job twice: the second waits, and finds what the first has left. Quorum queues know no exclusive consumer, and a lock
of another kind would need a right that operators do not have.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Self

import msgspec

from jobrunner import envelope as envelopes
from jobrunner.broker import declare, topology
from jobrunner.broker.browse import Browser
from jobrunner.broker.connection import Connection
from jobrunner.broker.delivery import Delivery
from jobrunner.broker.message import signature_of
from jobrunner.broker.publisher import Publisher
from jobrunner.envelope import DEFAULT_PRIORITY, Envelope, MalformedMessage, State
from jobrunner.errors import LettersInUse, PermissionRefused
from jobrunner.ids import id_of, is_id
from jobrunner.signing import Refused

AGAIN_S: Final = (0.05, 0.4)
"""Between two tries to have them alone: from, to."""

QUIET_S: Final = 0.3
"""No letter for so long: then the broker is asked whether any is left."""

BATCH: Final = 500
ANY_NUMBER: Final = 1_000_000


class Letter(msgspec.Struct, frozen=True):
    """A dead letter. envelope: None for what is no job, and for one that is not believed.

    reason: why it died; of a letter that RabbitMQ itself made, its word for it, such as `delivery_limit`, and is_ours
    is False.
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
        named = delivery.message_id if delivery.message_id and is_id(delivery.message_id) else None
        job_id = named or id_of(delivery.body)
    reason, is_ours = headers.get("jr-reason"), True
    if not isinstance(reason, str):
        reason, is_ours = headers.get("x-first-death-reason"), False
    return Letter(delivery, job_id, envelope, state, str(reason or "unknown"), is_ours)


class Letters:
    """All dead letters: `async with Letters(...) as letters`.

    wanted: how many of them will be taken out, as far as that is known; 0: none is looked at.
    timeout_s: how long to wait for another command that has them.
    is_alone: whether it is certain that nobody else has any; False where the broker does not tell this user.
    Entering raises: LettersInUse, PermissionRefused, BrokerLost.
    """

    def __init__(self, connection: Connection, *, wanted: int, timeout_s: float) -> None:
        self.is_alone = True
        self._connection = connection
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._browser: Browser | None = None
        self._prefetch = 1
        self._held = 0
        self._arrived: deque[Letter] = deque()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        depth = await self._depth()
        if depth is None and self.is_alone:
            publisher = Publisher(self._connection, confirm_timeout_s=self._timeout_s)
            try:
                await declare.declare_startup(self._connection, publisher)
            finally:
                publisher.close()
        # what is left alone stays in the window to the end, what is taken makes room for the next
        ready = ANY_NUMBER if depth is None else depth[0]
        self._prefetch = max(0, ready - self._wanted) + BATCH if self._wanted else 1
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._browser is not None:
            await self._browser.close()

    async def _depth(self) -> tuple[int, int] | None:
        """Letters that nobody holds, and who consumes; None: not known, or there is no such queue."""
        if not self.is_alone:
            return None
        try:
            return await declare.queue_depth(self._connection, topology.DEAD)
        except PermissionRefused:  # RabbitMQ 4.2.6 and later do not tell a user who may not create the queue
            self.is_alone = False
            return None

    async def _open(self) -> None:
        """Consume, and stay if nobody else does. Of two that come at once one sees the other; if both do, both go."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._held = 0
            self._arrived.clear()
            self._browser = Browser(self._connection, topology.DEAD, self._take, prefetch=self._prefetch)
            await self._browser.open()
            depth = await self._depth()
            if depth is None or depth[1] == 1:
                return
            await self._browser.close()
            if time.monotonic() > deadline:
                raise LettersInUse
            await asyncio.sleep(random.uniform(*AGAIN_S))  # noqa: S311 - to keep two apart

    def _take(self, delivery: Delivery) -> None:
        self._held += 1
        self._arrived.append(self._believed(letter_of(delivery)))
        self._changed.set()

    def _believed(self, letter: Letter) -> Letter:
        """With keys, whoever can write to the dead letters must not have something signed by who retries them: a job
        that is not believed is taken from the ledger.
        """
        if letter.envelope is None:
            return letter
        signature = signature_of(self._connection.url, letter.envelope.job.queue, letter.delivery)
        if isinstance(signature, Refused) and signature.reason != "signature_expired":
            return msgspec.structs.replace(letter, envelope=None)
        return letter

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
        is_certain = False
        while not self._arrived:
            if self._browser is not None and self._browser.failure is not None:
                raise self._browser.failure
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await self._changed.wait()
                    continue
            if is_certain:
                return False
            depth = await self._depth()
            if depth is not None and depth[0] and self._held >= self._prefetch:
                await self._widen()
            # somebody who comes and sees us holds some letters for a moment; they come here when he has gone
            is_certain = not self._arrived and (depth is None or depth == (0, 1))
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
