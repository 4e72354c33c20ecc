"""pika's connection and channel with the few things that jobrunner changes: all use of pika's private names is here.

`tests/unit/test_broker_amqp.py` pins each of them, so that a new pika shows at once what it moved.

Changed for safety: deliveries that cross a cancel go back by nack; a message with undecodable properties does not end
the connection; `abort`. Changed for speed: frames written in one turn of the loop leave in one `send`, where pika makes
one for each frame and waits for the loop in between; the four kinds of frame that make up a job's way skip pika's
callback tables. Together a quarter of the CPU of a job's way through the parent process.
"""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from pika import exceptions, frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils import io_services_utils
from pika.channel import Channel

UNREADABLE = "unreadable-properties"
"""The content encoding given to a message whose properties cannot be decoded; no job has one."""

RECEIVE_BYTES = 64 * 1024
"""pika reads 4 KiB at a time, and copies all that it holds of a large body each time."""

_UNDECODABLE = (exceptions.AMQPError, ArithmeticError, OSError, RecursionError, ValueError)
_FRAME_HEADER_BYTES = 7
_FRAME = struct.Struct(">BHI")
_CONTENT = struct.Struct(">HxxQ")
_END = bytes((spec.FRAME_END,))
_SHORT_BYTES = 255
_NO_RARE = (None, None, None, None)
_MARK = "\0id\0"
_PLAINTEXT = io_services_utils._AsyncPlaintextTransport  # type: ignore[attr-defined]  # noqa: SLF001

OnConfirm = Callable[[Any], None]
"""Called with `basic.ack` or `basic.nack`, as a broker answers a publish."""


class AmqpChannel(Channel):
    """A channel whose confirms go straight to `on_confirm`, and that hands late deliveries back by nack.

    pika answers a delivery that crossed a cancel with `basic.reject`, which RabbitMQ 4.3 counts as a failed delivery.
    """

    connection: "AmqpConnection"
    _state: int
    _consumers: dict[str, Callable[..., None]]
    _cancelled: set[str]
    on_confirm: OnConfirm | None = None
    on_late: Callable[[Any, Any, bytes], None] | None = None

    @property
    def usable(self) -> bool:
        """Open, on a connection that was not given up."""
        return self._state == Channel.OPEN and self.connection.given_up_for is None

    def publish(self, exchange: str, key: str, body: bytes, properties: spec.BasicProperties) -> None:
        """`basic_publish`, mandatory. For a body of one frame without what pika does for any: the first of its frames
        is the same for all jobs of a queue. Raises what pika does, before anything is sent.
        """
        if not self.is_open or not 0 < len(body) <= self.connection._body_max_length:  # noqa: SLF001
            self.basic_publish(exchange, key, body, properties, mandatory=True)
            return
        number = self.channel_number
        self.connection._output_marshaled_frames(  # noqa: SLF001
            (
                _publish_frame(number, exchange, key),
                _header_frame(number, len(body), properties),
                b"".join((_FRAME.pack(spec.FRAME_BODY, number, len(body)), body, _END)),
            )
        )

    def _on_deliver(self, method_frame: Any, header_frame: Any, body: bytes) -> None:
        tag = method_frame.method.consumer_tag
        callback = self._consumers.get(tag)
        if callback is None or tag in self._cancelled:
            if self.is_open:
                self.hand_back(method_frame.method, header_frame.properties, body)
            return
        callback(self, method_frame.method, header_frame.properties, body)

    def hand_back(self, method: Any, properties: Any, body: bytes) -> None:
        """Nack what came too late, and tell `on_late` of it."""
        self.basic_nack(method.delivery_tag, multiple=False, requeue=True)
        if self.on_late is not None:
            self.on_late(method, properties, body)


class AmqpConnection(AsyncioConnection):
    """A connection on the running loop.

    given_up_for: why it was aborted, though pika may not have noticed yet.
    """

    given_up_for: Exception | None = None
    _outbox: list[bytes]
    _body_max_length: int
    _transport: Any
    _channels: dict[int, AmqpChannel]
    _frame_buffer: bytes
    _terminate_stream: Callable[[Exception], None]

    def abort(self, error: Exception) -> None:
        """Drop the socket now, without a word to the broker; the close callback gets `error`.

        A graceful close waits for the broker's answer, and a blocked or frozen one does not give it.
        """
        if self.given_up_for is None and not self.is_closed:
            self.given_up_for = error
            self._terminate_stream(error)

    # --- hooks of pika ----------------------------------------------------------------------------------------------

    def _init_connection_state(self) -> None:
        super()._init_connection_state()  # type: ignore[misc]
        self._outbox = []

    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Any], Any] | None) -> AmqpChannel:
        return AmqpChannel(self, channel_number, on_open_callback)  # type: ignore[arg-type]

    def _on_stream_connected(self) -> None:
        self._transport._MAX_RECV_BYTES = RECEIVE_BYTES  # noqa: SLF001
        if type(self._transport) is _PLAINTEXT:
            # one look at the socket in a turn of the loop: pika goes on until a look finds nothing, one in two of them.
            # With TLS it has to: what is decrypted already makes no socket readable
            self._transport._MAX_CONSUME_BYTES = 1  # noqa: SLF001
        super()._on_stream_connected()  # type: ignore[misc]

    def _process_frame(self, frame_value: Any) -> None:
        kind = type(frame_value)
        if kind is frame.Method:
            method = type(frame_value.method)
            fast = method is spec.Basic.Deliver or method is spec.Basic.Ack
        else:
            fast = kind is frame.Header or kind is frame.Body
        channel = self._channels.get(frame_value.channel_number) if fast else None
        if channel is None:
            super()._process_frame(frame_value)  # type: ignore[misc]
            return
        self.frames_received += 1
        if kind is frame.Method and method is spec.Basic.Ack:
            if channel.on_confirm is not None:
                channel.on_confirm(frame_value.method)
            return
        channel._handle_content_frame(frame_value)  # type: ignore[attr-defined]  # noqa: SLF001

    def _read_frame(self) -> tuple[int, Any]:
        try:
            return frame.decode_frame(self._frame_buffer)
        except _UNDECODABLE:
            # A float NaN or a date in the year 10^11 among a foreign message's headers: pika would end the connection,
            # and again at each redelivery. Only the properties are at fault, so the message alone is marked.
            if self._frame_buffer[0] != spec.FRAME_HEADER:
                raise
            return _unreadable(self._frame_buffer)

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        if not self._outbox:
            self.ioloop.call_soon(self._flush)
        self.frames_sent += len(marshaled_frames)
        self._outbox += marshaled_frames

    def _flush(self) -> None:
        data = b"".join(self._outbox)
        self._outbox.clear()
        transport = self._transport
        if transport is None or not data:
            return
        self.bytes_sent += len(data)
        if type(transport) is _PLAINTEXT:
            data = _send_now(transport, data)
        if data:
            transport.write(data)


@lru_cache(maxsize=64)
def _publish_frame(channel_number: int, exchange: str, key: str) -> bytes:
    method = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True)
    return frame.Method(channel_number, method).marshal()


def _header_frame(channel_number: int, body_bytes: int, properties: spec.BasicProperties) -> bytes:
    """As pika makes it. Without headers, messages of a kind differ in their id alone: the rest is encoded once."""
    rare = (properties.content_encoding, properties.correlation_id, properties.reply_to, properties.expiration)
    message_id = properties.message_id
    if properties.headers is not None or message_id is None or rare != _NO_RARE:
        return frame.Header(channel_number, body_bytes, properties).marshal()
    raw_id = message_id.encode()
    if len(raw_id) > _SHORT_BYTES or properties.user_id or properties.app_id or properties.cluster_id:
        return frame.Header(channel_number, body_bytes, properties).marshal()
    before, after = _around_id(
        properties.content_type, properties.delivery_mode, properties.priority, properties.timestamp, properties.type
    )
    size = _CONTENT.size + len(before) + 1 + len(raw_id) + len(after)
    start = _FRAME.pack(spec.FRAME_HEADER, channel_number, size) + _CONTENT.pack(spec.BasicProperties.INDEX, body_bytes)
    return b"".join((start, before, bytes((len(raw_id),)), raw_id, after, _END))


@lru_cache(maxsize=64)
def _around_id(
    content_type: str | None, delivery_mode: int | None, priority: int | None, timestamp: int | None, kind: str | None
) -> tuple[bytes, bytes]:
    """What pika writes before and after the message's id."""
    properties = spec.BasicProperties(
        content_type=content_type,
        delivery_mode=delivery_mode,
        priority=priority,
        message_id=_MARK,
        timestamp=timestamp,
        type=kind,
    )
    encoded = b"".join(properties.encode())
    before, _, after = encoded.partition(bytes((len(_MARK),)) + _MARK.encode())
    return before, after


def _send_now(transport: Any, data: bytes) -> bytes:
    """Send what the socket takes at once and give the rest. Errors are left to pika, which meets them again."""
    if transport._tx_buffers or transport._state != transport._STATE_ACTIVE:  # noqa: SLF001
        return data
    try:
        return data[transport._sock.send(data) :]  # noqa: SLF001
    except OSError:
        return data


def _unreadable(buffer: bytes) -> tuple[int, frame.Header]:
    """The size of a content header frame, and that frame with properties that mark it."""
    start = _FRAME_HEADER_BYTES
    channel_number = int.from_bytes(buffer[1:3], "big")
    size = int.from_bytes(buffer[3:start], "big")
    body_size = int.from_bytes(buffer[start + 4 : start + 12], "big")
    properties = spec.BasicProperties(content_encoding=UNREADABLE)
    return start + size + 1, frame.Header(channel_number, body_size, properties)
