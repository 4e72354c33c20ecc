"""Events as they happen, for a client that waits: an exclusive queue bound to the kinds and ids that it asks for.

After a lost connection the queue is gone with what was in it, so the ledger is read from the start of the wait: nothing
falls between.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from pika import exceptions

from jobrunner.broker import topology
from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.catchup import CatchUp
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing, declare_startup, is_missing
from jobrunner.broker.explain import explain
from jobrunner.broker.groups import parts
from jobrunner.broker.message import is_believed
from jobrunner.broker.publisher import Publisher
from jobrunner.broker.stream import Record
from jobrunner.errors import PermissionRefused

WINDOW = 200
"""Events in flight to this client; acked in halves, as streams want it."""

QUEUE_BYTES = 268_435_456
"""Bound of the queue: a client that does not read loses old events here and finds them in the ledger."""

REOPEN_S = 1.0
"""Between tries after the broker closed the channel alone."""


class Subscription:
    """The events of these routing keys, from `open` until `close`, across reconnects.

    on_event: called from the loop with each event's body; an event may come twice, and others may come with it, if they
    are in the same message (`groups`). Only events published through the
    events exchange count: whoever may write to a queue could forge others.
    Where keys are set, only those that are signed by one that may say so.
    since_s: seconds since the epoch, the start of what is wanted after a reconnect; may be moved on meanwhile.
    """

    def __init__(
        self, connection: Connection, keys: Sequence[str], on_event: Callable[[bytes], None], since_s: float
    ) -> None:
        self._connection = connection
        self._keys = list(keys)
        self._on_event = on_event
        self.since_s = since_s
        self._channel: AmqpChannel | None = None
        self._replay: CatchUp | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[None] | None = None
        self._queue: str | None = None
        self._bindings: list[asyncio.Future[None]] = []
        self._was_open = False
        self._received = 0

    async def open(self, *, catch_up: bool = False) -> None:
        """Subscribe, and wait until no later event can be missed.

        catch_up: also read from the ledger what happened since `since_s`.
        Raises: declare.Missing when the events exchange does not exist; JobrunnerError, such as PermissionRefused.
        """
        self._ready = asyncio.get_running_loop().create_future()
        self._was_open = catch_up
        self._connection.attach(self)
        await self._ready

    async def open_or_declare(self, *, catch_up: bool = False) -> None:
        """The same, also on a broker where no worker ever started. Raises: JobrunnerError."""
        try:
            await self.open(catch_up=catch_up)
        except Missing:
            await self.close()
            publisher = Publisher(self._connection)
            await declare_startup(self._connection, publisher)
            publisher.close()
            await self.open()

    def read_again(self, since_s: float) -> None:
        """Give once more what has happened since then, from the ledger; later what has not happened yet."""
        self.since_s = min(self.since_s, since_s)
        if self._connection.is_open:
            self._read_ledger()

    async def add(self, keys: Sequence[str]) -> None:
        """From now on also these: returns when none of their events can be missed any more."""
        self._keys += keys
        bound: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bindings.append(bound)  # should the channel go meanwhile, the next one binds them all
        if self._queue is not None and self._channel is not None and self._channel.usable:
            self._bind(self._channel, self._queue, keys, lambda _: self._settle_bindings([bound]))
        await bound

    def remove(self, keys: Sequence[str]) -> None:
        """These no longer."""
        for key in keys:
            if key in self._keys:
                self._keys.remove(key)
            if self._queue is not None and self._channel is not None and self._channel.usable:
                self._channel.queue_unbind(self._queue, topology.EVENTS, routing_key=key)

    async def close(self) -> None:
        """Leave. The connection's close does the rest."""
        self._connection.detach(self)
        self._cancel_timers()
        self._leave_ledger()

    def _cancel_timers(self) -> None:
        for timer in (self._reading, self._reopening):
            if timer is not None:
                timer.cancel()

    # --- one connection ---------------------------------------------------------------------------------------------

    def connection_up(self) -> None:
        """Declare, bind, consume."""
        self._connection.open_channel(self._declare, self._closed)

    def connection_down(self) -> None:
        """The exclusive queue is gone."""
        self._channel = self._queue = None
        self._cancel_timers()
        self._leave_ledger()

    def _declare(self, channel: AmqpChannel) -> None:
        self._channel = channel
        arguments = {"x-queue-type": "classic", "x-max-length-bytes": QUEUE_BYTES}
        # somebody has deleted the queue
        channel.add_on_cancel_callback(lambda _: channel.close() if channel.usable else None)
        channel.basic_qos(prefetch_count=WINDOW)
        channel.queue_declare("", exclusive=True, auto_delete=True, arguments=arguments, callback=self._declared)

    def _declared(self, frame: Any) -> None:
        if self._channel is not None:
            self._queue = queue = frame.method.queue
            self._bind(self._channel, queue, self._keys, lambda _: self._bound(queue))

    @staticmethod
    def _bind(channel: AmqpChannel, queue: str, keys: Sequence[str], then: Callable[[Any], None]) -> None:
        for key in keys[:-1]:
            # pika waits for each answer only where a callback is given; the last bind's answer covers those before it
            channel.queue_bind(queue, topology.EVENTS, routing_key=key)
        channel.queue_bind(queue, topology.EVENTS, routing_key=keys[-1], callback=then)

    def _settle_bindings(self, bound: Sequence["asyncio.Future[None]"]) -> None:
        for one in bound:
            if one in self._bindings:
                self._bindings.remove(one)
            if not one.done():
                one.set_result(None)

    def _bound(self, queue: str) -> None:
        if self._channel is not None:
            self._channel.basic_consume(queue, self._deliver, callback=self._consuming)

    def _consuming(self, _frame: Any) -> None:
        self._settle_bindings(self._bindings[:])
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        if self._was_open:
            self._read_ledger()
        self._was_open = True

    def _closed(self, exc: Exception) -> None:
        self._channel = self._queue = None
        if self._ready is None or self._ready.done():
            if isinstance(exc, exceptions.ChannelClosed):
                # such as: the exchange went with the broker's data, and comes back with the next enqueue
                self._reopening = asyncio.get_running_loop().call_later(REOPEN_S, self._reopen)
            return
        if is_missing(exc):
            self._ready.set_exception(Missing(str(getattr(exc, "reply_text", ""))))
        else:
            self._ready.set_exception(explain(exc, self._connection.url, self._connection.connect_timeout_s))

    def _reopen(self) -> None:
        if self._connection.is_open and self._channel is None:
            self.connection_up()

    def _deliver(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._received += 1
        if self._received % (WINDOW // 2) == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        self._give(method, properties, body)

    def _give(self, method: Any, properties: Any, body: bytes) -> None:
        if method.exchange == topology.EVENTS and is_believed(self._connection.url, "event", method, properties, body):
            for _, part in parts(method.routing_key, body):
                self._on_event(part)

    # --- the ledger, after a reconnect ------------------------------------------------------------------------------

    def _read_ledger(self) -> None:
        """From the start of the wait to where it ends now: what is told from now on comes by the queue."""
        self._leave_ledger()
        self._replay = CatchUp(self._connection, self.since_s, self._found, lambda: None, self._replayed)
        self._replay.start()

    def _found(self, record: Record) -> None:
        self._on_event(record.body)

    def _replayed(self, is_whole: bool) -> None:
        """For some seconds after its start a broker takes logins while its streams are not there yet."""
        failure = None if self._replay is None else self._replay.failure
        self._replay = None
        if not is_whole and not isinstance(failure, Missing | PermissionRefused):
            self._reading = asyncio.get_running_loop().call_later(REOPEN_S, self._read_again)

    def _read_again(self) -> None:
        if self._connection.is_open and self._channel is not None:
            self._read_ledger()

    def _leave_ledger(self) -> None:
        if self._replay is not None:
            self._replay.close()
        self._replay = None
