"""Jobs that wait for other jobs, as the one worker sees them that looks after them, and the ends that it asked for.

Every worker consumes the queue of waiting jobs, and the broker picks one; when that one goes, all that it holds is the
next one's. Everything is on one channel: when it ends, all is begun anew.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from pika import exceptions

from jobrunner.broker import declare, topology
from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.backoff import jittered
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import is_missing
from jobrunner.broker.delivery import Delivery, received
from jobrunner.broker.groups import parts
from jobrunner.broker.message import is_believed
from jobrunner.errors import BrokerLost, JobrunnerError

HELD: Final = 50_000
"""Jobs that are looked after at once; more wait in line behind them."""

SLOT: Final = -1
"""The number that their deliveries have in place of a slot's."""

REFUSED_S: Final = 60.0
"""Until the next try of a user who may not do it: rights are looked up when a channel opens."""

_REFUSED: Final = 403
_EVENTS_QUEUE: Final = {"x-queue-type": "classic"}


class WaitingDelivered(msgspec.Struct, frozen=True):
    """A job that waits."""

    delivery: Delivery


class WaitingLost(msgspec.Struct, frozen=True):
    """Nothing is held any more; what is still to be done comes again, here or elsewhere."""


class WaitingRefused(msgspec.Struct, frozen=True):
    """The user has not the rights for it. text: the broker's words."""

    text: str


class EndHeard(msgspec.Struct, frozen=True):
    """An event that was asked for."""

    body: bytes


class LedgerRead(msgspec.Struct, frozen=True):
    """The ledger was read to its end for these runs: what was found comes before."""

    runs: frozenset[str]


WaitingMessage = WaitingDelivered | WaitingLost | WaitingRefused | EndHeard | LedgerRead


class WaitingPort:
    """The queue of waiting jobs. notify: called from the loop with each message; must not raise."""

    def __init__(self, connection: Connection, notify: Callable[[WaitingMessage], None]) -> None:
        self._connection = connection
        self._notify = notify
        self._channel: AmqpChannel | None = None
        self._queue: str | None = None
        self._keys: list[str] = []
        self._then: list[Callable[[], None]] = []
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._repair: asyncio.Task[None] | None = None
        self._is_wanted = False

    def start(self) -> None:
        """Consume, now or when the connection is there; again after each end."""
        if not self._is_wanted:
            self._is_wanted = True
            self._connection.attach(self)

    def close(self) -> None:
        """Leave: what is held goes to the next worker. Closing the channel is the only way: a consumer that is merely
        cancelled stays the one until all that it holds is settled.
        """
        self._is_wanted = False
        self._connection.detach(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._repair is not None:
            self._repair.cancel()
        if self._channel is not None and self._channel.usable:
            self._channel.close()
        self._forget()

    def ack(self, delivery: Delivery) -> bool:
        """It waits no more, and will not run. False: it is no longer held, and nothing was sent."""
        return self._settle(delivery, lambda channel, tag: channel.basic_ack(tag, multiple=False))

    def release(self, delivery: Delivery) -> bool:
        """Let the broker move it to its own queue. False: as for `ack`."""
        return self._settle(delivery, lambda channel, tag: channel.basic_nack(tag, multiple=False, requeue=False))

    def _settle(self, delivery: Delivery, send: Callable[[AmqpChannel, int], None]) -> bool:
        channel = self._channel
        if channel is None or delivery.channel is not channel or delivery.settled or not channel.usable:
            return False
        delivery.settled = True
        send(channel, delivery.tag)
        return True

    def listen(self, keys: Sequence[str], then: Callable[[], None]) -> None:
        """Give also the events of these routing keys; `then` is called when none can be missed any more. Of a job whose
        channel is gone nothing is wanted: it comes again, and what is noted here would be in the way of that.
        """
        if self._channel is None or not self._channel.usable:
            return
        self._keys += keys
        self._then.append(then)
        if self._queue is not None:
            self._bind()
        elif len(self._then) == 1:
            self._channel.queue_declare(
                "", exclusive=True, auto_delete=True, arguments=_EVENTS_QUEUE, callback=self._declared
            )

    def unlisten(self, keys: Sequence[str]) -> None:
        """The opposite of listen."""
        if self._queue is None or self._channel is None or not self._channel.usable:
            return
        for key in keys:
            self._channel.queue_unbind(self._queue, topology.EVENTS, routing_key=key)

    # --- the channel's life -----------------------------------------------------------------------------------------

    def connection_up(self) -> None:
        """Open the channel."""
        self._open()

    def connection_down(self) -> None:
        """All is begun anew with the next connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._lose()

    def _open(self) -> None:
        if not self._is_wanted or not self._connection.is_open:
            return
        try:
            self._connection.open_channel(self._opened, self._closed)
        except BrokerLost:
            return  # the connection comes back, and with it this call

    def _opened(self, channel: AmqpChannel) -> None:
        if not self._is_wanted:
            channel.close()
            return
        self._channel = channel
        # a consumer that the broker cancels (4.3: ack timeout) stays as it is until its channel is closed
        channel.add_on_cancel_callback(lambda _: channel.close() if channel.usable else None)
        channel.basic_qos(prefetch_count=HELD)
        channel.basic_consume(topology.WAITING, self._deliver, callback=self._consuming)

    def _consuming(self, _frame: Any) -> None:
        self._tries = 0

    def _deliver(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        origin = (self._connection.epoch, SLOT, topology.WAITING)
        self._notify(WaitingDelivered(received(channel, origin, method, properties, body)))

    def _closed(self, reason: Exception) -> None:
        """By the ack timeout, by someone who deleted the queue, by ourselves: soon again, if it is wanted."""
        self._lose()
        if self._is_wanted and self._connection.is_open and isinstance(reason, exceptions.ChannelClosed):
            again = self._declare_and_open if is_missing(reason) else self._open
            # without the rights for it, it is left to other workers
            is_refused = getattr(reason, "reply_code", 0) == _REFUSED
            delay_s = REFUSED_S if is_refused else jittered(self._tries)
            self._timer = asyncio.get_running_loop().call_later(delay_s, again)
            self._tries += 1
            if is_refused:
                self._notify(WaitingRefused(str(getattr(reason, "reply_text", ""))))

    def _declare_and_open(self) -> None:
        """Someone deleted the queue. Should it not be ours to create, it is asked for again and again."""
        self._repair = asyncio.get_running_loop().create_task(self._declare())

    async def _declare(self) -> None:
        with contextlib.suppress(JobrunnerError):
            await declare.declare(self._connection, topology.waiting())
        self._open()

    def _lose(self) -> None:
        if self._channel is not None:
            self._forget()
            self._notify(WaitingLost())

    def _forget(self) -> None:
        self._channel = self._queue = None
        self._keys.clear()
        self._then.clear()

    # --- ends -------------------------------------------------------------------------------------------------------

    def _declared(self, frame: Any) -> None:
        if self._channel is None:
            return
        self._queue = frame.method.queue
        self._channel.basic_consume(self._queue, self._hear)
        self._bind()

    def _bind(self) -> None:
        """Bind what was asked for; the last answer covers those before it."""
        keys, self._keys = self._keys, []
        then, self._then = self._then, []
        channel, queue = self._channel, self._queue
        if channel is None or queue is None:
            return
        for key in keys[:-1]:
            channel.queue_bind(queue, topology.EVENTS, routing_key=key)

        def bound(_frame: Any) -> None:
            for each in then:
                each()

        channel.queue_bind(queue, topology.EVENTS, routing_key=keys[-1], callback=bound)

    def _hear(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag, multiple=False)
        if method.exchange == topology.EVENTS and is_believed(self._connection.url, "event", method, properties, body):
            for _, part in parts(method.routing_key, body):
                self._notify(EndHeard(part))
