"""Empty a queue so that the ledger knows: each job is recorded as cancelled, and only then leaves the queue."""

import asyncio
import time
from collections.abc import Callable

from jobrunner import envelope, events
from jobrunner.broker import declare
from jobrunner.broker.connection import Connection
from jobrunner.broker.consumer import ConsumerLost, ConsumerMessage, Delivered, Delivery, SlotConsumer
from jobrunner.broker.message import signature_of
from jobrunner.broker.publisher import Answer, Publisher, Stored, event_message
from jobrunner.broker.publisher import Refused as NotTaken
from jobrunner.brokerurl import BrokerUrl
from jobrunner.envelope import MalformedMessage
from jobrunner.errors import BrokerLost, JobrunnerError, NotFound, PermissionRefused
from jobrunner.ids import id_of
from jobrunner.signing import Refused

CHANNELS = 16
"""Messages under way at once, each on a channel of its own: about ten thousand a second."""

QUIET_S = 0.5
"""No message for so long, with nothing under way: the broker is asked whether any is left."""


class Purge:
    """One purge of one queue. done: messages recorded and removed so far."""

    def __init__(self, url: BrokerUrl, queue: str, *, by: str, timeout_s: float) -> None:
        self.done = 0
        self._queue = queue
        self._by = by
        self._connection = Connection(url, role="purge", notify=lambda _: None, connect_timeout_s=timeout_s)
        self._publisher = Publisher(self._connection, confirm_timeout_s=timeout_s)
        self._consumers = [SlotConsumer(self._connection, slot, (queue,), self._take) for slot in range(CHANNELS)]
        self._under_way = 0
        self._last = 0.0
        self._timeout_s = timeout_s
        self._failed: str | None = None
        self._refused: JobrunnerError | None = None

    async def run(self, on_progress: Callable[[int], None] = lambda _: None) -> int:
        """Purge; gives how many messages went. on_progress: called with the count, twice a second.

        Raises: NotFound for a queue that does not exist; JobrunnerError. What was not recorded stays in the queue.
        """
        await self._connection.connect_once()
        try:
            if await declare.queue_depth(self._connection, self._queue) is None:
                raise NotFound(message=f"There is no queue '{self._queue}'.", hint="jobrunner queues list")
            await declare.declare_startup(self._connection, self._publisher)
            self._last = time.monotonic()
            for consumer in self._consumers:
                consumer.start()
            while not await self._is_over():
                await asyncio.sleep(QUIET_S / 2)
                on_progress(self.done)
                if self._refused is not None:
                    raise self._refused
                if self._failed is not None or not self._connection.is_open:
                    reason = self._failed or "while purging"
                    raise BrokerLost(address=self._connection.url.address, reason=reason)
        finally:
            await asyncio.gather(*(consumer.close() for consumer in self._consumers))
            await self._connection.close()
            self._publisher.close()
        return self.done

    async def _is_over(self) -> bool:
        """Whether nothing is left. A broker that stands still gives nothing either; where others have what is left, or
        it is not given out, that is waited for no longer than for an answer.
        """
        last = self._last
        if self._under_way or time.monotonic() - last < QUIET_S:
            return False
        if time.monotonic() - last > self._timeout_s or not self._connection.is_open:
            return self._connection.is_open
        depth = await declare.queue_depth(self._connection, self._queue)
        return (depth is None or not depth[0]) and not self._under_way and self._last == last

    def _take(self, message: ConsumerMessage) -> None:
        if isinstance(message, Delivered):
            self._under_way += 1
            self._last = time.monotonic()
            delivery = message.delivery
            self._publisher.publish(event_message(self._cancelled(delivery)), lambda answer: self._go(delivery, answer))
        elif isinstance(message, ConsumerLost) and isinstance(message.error, PermissionRefused):
            self._refused = message.error

    def _cancelled(self, delivery: Delivery) -> events.Cancelled:
        job_id, run, state = id_of(delivery.body), None, envelope.State()
        try:
            if isinstance(signature_of(self._connection.url, self._queue, delivery), Refused):
                raise MalformedMessage(reason="not signed: the id that it claims may be someone else's")
            job = envelope.decode(delivery.body, delivery.message_id)
            job_id, run = job.id, job.run
            state = envelope.state_of(dict(delivery.headers))
        except MalformedMessage:
            pass  # a foreign message goes too, under the name of its hash
        return events.Cancelled(
            at=time.time(),
            id=job_id,
            run=run,
            attempt=state.attempt,
            copy=state.copy,
            chain=state.chain,
            reason="purged",
            by=self._by,
        )

    def _go(self, delivery: Delivery, answer: Answer) -> None:
        self._under_way -= 1
        if isinstance(answer, Stored):
            # what the broker has taken back meanwhile comes again
            self.done += self._consumers[delivery.slot].ack(delivery)
        elif isinstance(answer, NotTaken) and answer.error is not None:
            self._refused = answer.error
        else:
            self._failed = f"a record was not stored: {answer}"
