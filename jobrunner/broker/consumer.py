"""A slot's consumer: one channel with a prefetch of 1, so that a job is delivered only where it can start now, and a
channel error touches one job.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from pika import exceptions, spec

from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.backoff import jittered
from jobrunner.broker.connection import Connection
from jobrunner.broker.delivery import (
    ConsumerLost,
    ConsumerMessage,
    ConsumerReady,
    Delivered,
    Delivery,
    HandedBack,
    QueueUnavailable,
    received,
)
from jobrunner.broker.explain import explain
from jobrunner.broker.feed import Feed
from jobrunner.broker.places import ensure_user_queue
from jobrunner.errors import BrokerLost, JobrunnerError

__all__ = ["ConsumerLost", "ConsumerMessage", "ConsumerReady", "Delivered", "Delivery", "HandedBack", "SlotConsumer"]

MISSING_LARGEST_S = 5.0
"""Longest time between two looks for a missing queue."""

_NOT_FOUND = 404
_INTERNAL_ERROR = 541
_QUEUE_IN_TEXT = re.compile(r"no queue '(.*)' in vhost")


class SlotConsumer:
    """Consumes for one slot, from one queue or from the first of several that has a job.

    notify: called from the loop with each `ConsumerMessage`; must not raise. Its channel is opened again after a
    reconnect, a cancel by the broker and a channel error, 0.5 to 10 s apart.

    prefetch: most deliveries that are not settled, of one queue; 1 where there are several.

    stale_acks: acks and nacks that were dropped because their channel is gone: sent on another channel, the same tag
    would settle another job.
    """

    def __init__(
        self,
        connection: Connection,
        slot: int,
        queues: tuple[str, ...],
        notify: Callable[[ConsumerMessage], None],
        *,
        prefetch: int = 1,
    ) -> None:
        self.slot = slot
        self.stale_acks = 0
        self._connection = connection
        self._queues = queues
        self._active: Sequence[str] = queues
        self._notify = notify
        self._prefetch = prefetch
        self._channel: AmqpChannel | None = None
        self._feed: Feed | None = None
        self._opening = False
        self._wanted = False
        self._paused = False
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._repair: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def start(self) -> None:
        """Open the channel and consume, now or when the connection is there."""
        if not self._wanted:
            self._wanted = True
            self._connection.attach(self)

    def ack(self, delivery: Delivery) -> bool:
        """Ack. False: its channel is gone or it is settled already, and nothing was sent."""
        if not self._settle(delivery):
            return False
        self._channel.basic_ack(delivery.tag, multiple=False)  # type: ignore[union-attr]
        self._feed.settled()  # type: ignore[union-attr]
        return True

    def nack(self, delivery: Delivery) -> bool:
        """Hand the message back to its queue. While this slot consumes it may come straight back: pause before.

        False: as for `ack`.
        """
        if not self._settle(delivery):
            return False
        self._channel.basic_nack(delivery.tag, multiple=False, requeue=True)  # type: ignore[union-attr]
        self._feed.settled()  # type: ignore[union-attr]
        return True

    async def pause(self) -> None:
        """Consume no more, keep the channel. When it returns no delivery can come: those that crossed the cancel have
        been handed back. Deliveries notified before are the caller's.
        """
        self._paused = True
        if self._feed is None:
            return
        waiter = self._waiter()
        self._feed.stop(lambda: self._release(waiter))
        await waiter

    def resume(self) -> None:
        """Consume again after `pause`."""
        self._paused = False
        if self._feed is not None:
            self._feed.go_on()

    def listen(self, queues: Sequence[str]) -> None:
        """Consume only these of its queues from now on."""
        self._active = queues
        if self._feed is not None:
            self._feed.listen(queues)

    async def close(self, timeout_s: float = 1.0) -> None:
        """Close the channel for good and wait for the broker's answer, which proves that it has seen all acks."""
        self._wanted = False
        self._connection.detach(self)
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()
        if self._repair is not None:
            self._repair.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._repair
        if self._channel is not None and self._channel.usable:
            waiter = self._waiter()
            self._channel.close()
            await asyncio.wait([waiter], timeout=timeout_s)

    def connection_up(self) -> None:
        """Open the channel."""
        self._open()

    def connection_down(self) -> None:
        """Wait for the connection."""
        self._lose_channel()
        if self._timer is not None:
            self._timer.cancel()

    # --- the channel's life -----------------------------------------------------------------------------------------

    def _open(self) -> None:
        if not self._wanted or self._opening or self._channel is not None or not self._connection.is_open:
            return
        self._opening = True
        try:
            self._connection.open_channel(self._on_open, self._on_close)
        except BrokerLost:
            self._opening = False

    def _on_open(self, channel: AmqpChannel) -> None:
        self._opening = False
        self._channel = channel
        if not self._wanted:
            channel.close()
            return
        channel.add_on_cancel_callback(self._on_broker_cancel)
        channel.on_late = self._on_late
        # per consumer, never for the whole channel: RabbitMQ 4.3 refuses that
        channel.basic_qos(prefetch_count=self._prefetch, global_qos=False)
        self._feed = Feed(channel, self._queues, self._active, self._on_message, self)
        if not self._paused:
            self._feed.go_on()

    def usable(self, queues: Sequence[str]) -> Sequence[str]:
        """The queues that the broker can serve. The others are looked at again in time."""
        found, again_s = self._connection.unavailable.of(queues, time.monotonic())
        if again_s is not None and self._look is None:
            self._look = asyncio.get_running_loop().call_later(again_s, self._look_again)
        return found

    def _look_again(self) -> None:
        self._look = None
        if self._feed is not None:
            self._feed.listen(self._active)

    def consumed(self, queue: str) -> None:
        """The broker serves it."""
        self._connection.unavailable.works(queue, self._connection.epoch)

    def ready(self) -> None:
        """The feed flows."""
        self._tries = 0
        self._connection.proven()
        self._notify(ConsumerReady(self.slot))

    def _on_message(self, queue: str, method: Any, properties: spec.BasicProperties, body: bytes) -> None:
        origin = (self._connection.epoch, self.slot, queue)
        self._notify(Delivered(received(self._channel, origin, method, properties, body)))  # type: ignore[arg-type]

    def _on_late(self, method: Any, properties: spec.BasicProperties, body: bytes) -> None:
        if self._feed is not None and self._channel is not None:
            queue = self._feed.queue_of(getattr(method, "consumer_tag", ""))
            origin = (self._connection.epoch, self.slot, queue)
            self._notify(HandedBack(received(self._channel, origin, method, properties, body)))

    def _on_broker_cancel(self, method_frame: Any) -> None:
        """The queue was deleted or has moved, or (RabbitMQ 4.3) the ack timeout struck: the whole channel goes, since
        until then the broker keeps a timed-out consumer as it is.
        """
        if self._channel is None or self._feed is None or not self._channel.is_open:
            return
        queue = self._feed.queue_of(method_frame.method.consumer_tag)
        self._channel.close()
        self._feed = None  # a channel that closes takes no more orders
        self._notify(ConsumerLost(self.slot, queue, None, missing=False))

    def _on_close(self, reason: Exception) -> None:
        if getattr(reason, "reply_code", 0) == _INTERNAL_ERROR and self._feed is not None:
            self._suspect(self._feed.unanswered)
        self._lose_channel()
        if not self._wanted or not self._connection.is_open:
            return
        if isinstance(reason, exceptions.ChannelClosedByBroker):
            self._refused(reason)
        elif isinstance(reason, exceptions.ChannelClosedByClient):
            self._open_later(jittered(self._tries))

    def _suspect(self, queues: list[str]) -> None:
        """The broker has failed, with the whole connection: it was at something that it was asked for."""
        for queue in queues:
            wait_s = self._connection.unavailable.suspect(queue, self._connection.epoch, time.monotonic())
            if wait_s is not None:
                self._notify(QueueUnavailable(queue, wait_s))

    def _refused(self, reason: exceptions.ChannelClosedByBroker) -> None:
        error = explain(reason, self._connection.url, 0.0, verb="read")
        missing = reason.reply_code == _NOT_FOUND
        found = _QUEUE_IN_TEXT.search(reason.reply_text)
        queue = found[1] if found else self._queues[0]
        first_try = self._tries == 0
        delay_s = jittered(self._tries, largest_s=MISSING_LARGEST_S) if missing else jittered(self._tries)
        self._tries += 1
        if missing:
            self._repair = asyncio.get_running_loop().create_task(self._create(queue, 0.0 if first_try else delay_s))
        else:
            self._open_later(delay_s)
        self._notify(ConsumerLost(self.slot, queue, error, missing))

    async def _create(self, queue: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        try:
            await ensure_user_queue(self._connection, queue)
        except JobrunnerError as error:
            if self._connection.is_open:
                self._notify(ConsumerLost(self.slot, queue, error, missing=True))
        # tried even so: someone else may have created it, or the connection is back
        self._open()

    def _open_later(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._open)

    def _lose_channel(self) -> None:
        self._opening = False
        self._channel = None
        self._feed = None
        for waiter in self._waiters[:]:
            self._release(waiter)

    # --- small parts ------------------------------------------------------------------------------------------------

    def _settle(self, delivery: Delivery) -> bool:
        channel = self._channel
        if channel is None or delivery.channel is not channel or delivery.settled or not channel.usable:
            self.stale_acks += 1
            return False
        delivery.settled = True
        return True

    def _waiter(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def _release(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if not waiter.done():
            waiter.set_result(None)
