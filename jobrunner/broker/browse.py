"""Looking through a queue: every message is taken, some are acked, and the rest go back when the channel closes.

What goes back keeps its place. A quorum queue counts each return as a delivery.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from pika import exceptions, spec

from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing
from jobrunner.broker.delivery import Delivery, received
from jobrunner.broker.explain import explain
from jobrunner.errors import BrokerLost, JobrunnerError

MOST_PREFETCH = 65_535
"""What fits into `basic.qos`; more is asked for as 0, which is no limit."""

CLOSE_S = 5.0
_NOT_FOUND = 404


class Browser:
    """Reads one queue on a channel of its own.

    on_delivery: called from the loop with each message; must not raise. prefetch: most messages held at once.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._on_delivery = on_delivery
        self._prefetch = prefetch if prefetch <= MOST_PREFETCH else 0
        self._channel: AmqpChannel | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failure: JobrunnerError | None = None
        """Why no more comes, if the broker or the connection ended it."""

    async def open(self) -> None:
        """Begin. Raises: Missing, PermissionRefused, BrokerLost."""
        self._connection.open_channel(self._consume, self._on_close)
        await self._opened

    def ack(self, delivery: Delivery) -> bool:
        """Take the message out of the queue. False: the channel is gone, the message has gone back."""
        channel = self._channel
        if channel is None or not channel.usable or delivery.channel is not channel or delivery.settled:
            return False
        delivery.settled = True
        channel.basic_ack(delivery.tag, multiple=False)
        return True

    async def answer(self) -> None:
        """Return when the broker has answered a question on this channel, or the channel has ended: what it had given
        out before has come.
        """
        channel = self._channel
        if channel is not None and channel.usable:
            answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            channel.basic_qos(
                prefetch_count=self._prefetch,
                global_qos=False,
                callback=lambda _: None if answered.done() else answered.set_result(None),
            )
            await asyncio.wait([answered, self._closed], return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Give back what is not acked; when this returns the broker has seen all acks, or the connection is gone."""
        if self._channel is not None and self._channel.usable:
            self._channel.close()
            await asyncio.wait([self._closed], timeout=CLOSE_S)
        for future in (self._opened, self._closed):
            if future.done() and not future.cancelled():
                future.exception()  # seen

    def _consume(self, channel: AmqpChannel) -> None:
        self._channel = channel
        channel.basic_qos(prefetch_count=self._prefetch, global_qos=False)
        channel.basic_consume(self._queue, self._deliver, callback=self._consuming)

    def _consuming(self, _frame: Any) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _deliver(self, channel: Any, method: Any, properties: spec.BasicProperties, body: bytes) -> None:
        self._on_delivery(received(channel, (self._connection.epoch, 0, self._queue), method, properties, body))

    def _on_close(self, reason: Exception) -> None:
        self._channel = None
        error = self._explained(reason)
        if not self._opened.done():
            self._opened.set_exception(error)
        elif isinstance(error, JobrunnerError) and not isinstance(reason, exceptions.ChannelClosedByClient):
            self.failure = error
        if not self._closed.done():
            self._closed.set_result(None)

    def _explained(self, reason: Exception) -> Exception:
        text = str(getattr(reason, "reply_text", ""))
        code = getattr(reason, "reply_code", 0)
        if code == _NOT_FOUND:
            return Missing(text)
        if isinstance(reason, exceptions.ChannelClosedByClient):
            return BrokerLost(address=self._connection.url.address, reason="the channel was closed")
        return explain(reason, self._connection.url, self._connection.connect_timeout_s, verb="read")
