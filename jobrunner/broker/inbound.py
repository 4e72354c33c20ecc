"""What comes over the control exchange: a queue that lives as long as its connection."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pika import exceptions

from jobrunner.broker import topology
from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing, is_missing
from jobrunner.broker.explain import explain
from jobrunner.broker.message import is_believed

if TYPE_CHECKING:
    from pika.exchange_type import ExchangeType

ARGUMENTS = {"x-queue-type": "classic", "x-max-length": 1000, "x-message-ttl": 60_000}
WINDOW = 100

AGAIN_S = 1.0
"""After the broker has ended the channel or the consumer."""

FORBIDDEN = 403

BIND_AGAIN_S = 15.0
"""Between two binds of a queue that consumes. Nothing tells it that its bindings have gone with the exchange, which may
have been made again since; a binding that is there stays as it is."""


class Inbound:
    """An exclusive queue bound to the control exchange, opened again with each connection, and where somebody has
    deleted it or the exchange.
    """

    def __init__(self, connection: Connection, keys: list[str], on_body: Callable[[bytes], None]) -> None:
        self._connection = connection
        self._keys = keys
        self._on_body = on_body
        self._channel: AmqpChannel | None = None
        self._closed = False
        self._queue = ""
        self._create = False
        self._again: asyncio.TimerHandle | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.attach(self)

    def connection_up(self) -> None:
        """Declare the queue."""
        self._connection.open_channel(self._declare, self._on_close)

    def connection_down(self) -> None:
        """The queue is gone."""
        self._channel = None
        if self._again is not None:
            self._again.cancel()

    def _declare(self, channel: AmqpChannel) -> None:
        if self._closed:
            channel.close()
            return
        self._channel = channel
        channel.add_on_cancel_callback(lambda _: channel.close() if channel.usable else None)
        channel.basic_qos(prefetch_count=WINDOW)
        if self._create:
            channel.exchange_declare(topology.CONTROL, cast("ExchangeType", "topic"), durable=True)
        channel.queue_declare("", exclusive=True, auto_delete=True, arguments=ARGUMENTS, callback=self._declared)

    def _declared(self, frame: Any) -> None:
        self._queue = frame.method.queue
        self._bind(self._consume)

    def _bind(self, then: Callable[[Any], None]) -> None:
        channel = self._channel
        if channel is None or not channel.usable:
            return
        for key in self._keys[:-1]:
            channel.queue_bind(self._queue, topology.CONTROL, routing_key=key)
        channel.queue_bind(self._queue, topology.CONTROL, routing_key=self._keys[-1], callback=then)

    def _consume(self, _frame: Any) -> None:
        if self._channel is not None:
            self._channel.basic_consume(self._queue, self._deliver, callback=self._consuming)

    def _consuming(self, _frame: Any) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self._bind_later(_frame)

    def _bind_later(self, _frame: Any) -> None:
        if self._channel is not None:
            self._again = asyncio.get_running_loop().call_later(BIND_AGAIN_S, self._bind, self._bind_later)

    def _deliver(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        is_ours = method.exchange == topology.CONTROL
        if is_ours and is_believed(self._connection.url, "control", method, properties, body):
            self._on_body(body)

    def _on_close(self, reason: Exception) -> None:
        self._channel = None
        if self._again is not None:
            self._again.cancel()
        if not self.ready.done():
            missing = Missing(str(getattr(reason, "reply_text", "")))
            url, timeout_s = self._connection.url, self._connection.connect_timeout_s
            self.ready.set_exception(missing if is_missing(reason) else explain(reason, url, timeout_s))
        if not self._closed and self._connection.is_open and isinstance(reason, exceptions.ChannelClosed):
            # who may not bind, or not create the exchange, is not to fill the broker's log
            again_s = BIND_AGAIN_S if self._create or getattr(reason, "reply_code", 0) == FORBIDDEN else AGAIN_S
            self._create = is_missing(reason)
            self._again = asyncio.get_running_loop().call_later(again_s, self._reopen)

    def _reopen(self) -> None:
        if self._connection.is_open:
            self.connection_up()

    def close(self) -> None:
        """Leave, also while the broker's answers are on their way: a channel that closes takes no more orders, and an
        order for one ends the whole connection.
        """
        self._closed = True
        self._connection.detach(self)
        if self._again is not None:
            self._again.cancel()
        channel, self._channel = self._channel, None
        if channel is not None and channel.usable:
            channel.close()
        if self.ready.done() and not self.ready.cancelled():
            self.ready.exception()  # seen: nobody else waits for it
        self.ready.cancel()
