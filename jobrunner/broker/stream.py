"""Reading a stream from a place in it, and for as long as it is wanted.

Source: RabbitMQ docs "Streams": a consumer needs a prefetch and manual acks, which only ask for more; there is no end
mark; whole chunks come, so an offset before the one asked for may be delivered too.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing, is_missing
from jobrunner.broker.explain import explain
from jobrunner.broker.groups import parts
from jobrunner.broker.message import is_believed

WINDOW = 2000
"""Records in flight. Acked in halves: a stream has no redelivery, so many are acked at once."""


Start = int | str | datetime
"""An offset; `first`, `last` or `next`; or the first record at or after a time."""


class Record(msgspec.Struct, frozen=True):
    """One event of a record: those that are in one message have the same offset and come together, see `groups`.

    exchange: the one it was published to; a record written to the stream directly has none, nor has one
    that is not believed, where keys are set: nobody acts on either.

    key: its routing key.
    """

    offset: int
    exchange: str
    key: str
    message_id: str | None
    body: bytes


class StreamReader:
    """Reads one stream on a channel of its own, once: after a lost connection a new reader goes on from an offset.

    on_record: called from the loop with each record, in order. on_end: called once with why it ended; `Missing` when
    the stream does not exist. Neither may raise.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        on_record: Callable[[Record], None],
        on_end: Callable[[Exception], None],
        window: int = WINDOW,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._on_record = on_record
        self._on_end = on_end
        self._window = window
        self._channel: AmqpChannel | None = None
        self._start: Start = "first"
        self._unacked = 0
        self._closed = False
        self._on_attached: Callable[[], None] = lambda: None

    def start(self, start: Start, on_attached: Callable[[], None] = lambda: None) -> None:
        """Begin at that place. An offset past the end waits for new records; one before the beginning begins there.

        on_attached: called once the broker knows of this reader. Raises: BrokerLost when the connection is not open.
        """
        self._start = start
        self._on_attached = on_attached
        self._connection.open_channel(self._consume, self._on_close)

    def _consume(self, channel: AmqpChannel) -> None:
        if self._closed:  # since it was asked for
            channel.close()
            return
        self._channel = channel
        # somebody has deleted the stream; one of that name that comes after it begins anew
        channel.add_on_cancel_callback(lambda _: channel.close() if channel.usable else None)
        channel.basic_qos(prefetch_count=self._window)
        arguments = {"x-stream-offset": self._start}
        channel.basic_consume(self._stream, self._deliver, arguments=arguments, callback=lambda _: self._on_attached())

    def _deliver(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._unacked += 1
        if self._unacked >= self._window // 2:
            self._unacked = 0
            channel.basic_ack(method.delivery_tag, multiple=True)
        offset = (properties.headers or {}).get("x-stream-offset")
        if self._closed or not isinstance(offset, int):
            return
        if isinstance(self._start, int) and offset < self._start:
            return  # the beginning of the chunk that holds the offset asked for
        message_id = properties.message_id if isinstance(properties.message_id, str) else None
        exchange = method.exchange if is_believed(self._connection.url, "event", method, properties, body) else ""
        # pika gives an int type of its own, which no encoder knows
        for key, part in parts(method.routing_key, body):
            if not self._closed:
                self._on_record(Record(int(offset), exchange, key, message_id, part))

    def probe(self, on_answer: Callable[[], None]) -> bool:
        """Call `on_answer` once all that the stream held by now was delivered, up to the window; never after the end.

        A stream has no end mark. But the broker works off one channel in order, and reads for a consumer up to the end
        of the stream, or of its credit, in one go: a question asked behind the first delivery is answered behind the
        last. Without a record in between, the end was reached. Before the first record an answer only tells that the
        broker is there. Gives whether it was asked: not before the channel is open.
        """
        if self._channel is None or not self._channel.usable:
            return False
        self._channel.basic_qos(prefetch_count=self._window, callback=lambda _: on_answer())
        return True

    def _on_close(self, reason: Exception) -> None:
        self._channel = None
        if self._closed:
            return
        self._closed = True
        if is_missing(reason):
            self._on_end(Missing(str(getattr(reason, "reply_text", ""))))
        else:
            self._on_end(explain(reason, self._connection.url, self._connection.connect_timeout_s, verb="read"))

    def close(self) -> None:
        """Leave. Closing the channel is the one clean way: a cancel makes pika reject what is buffered, which a stream
        up to RabbitMQ 3.12 answers by closing the whole connection.
        """
        self._closed = True
        if self._channel is not None and self._channel.usable:
            self._channel.close()
