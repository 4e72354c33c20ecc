"""Pins what `broker/amqp.py` changes in pika: when one fails, pika has moved something and amqp.py must follow."""

import inspect
import struct
from typing import Any

import pika
import pytest
from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.base_connection import BaseConnection
from pika.adapters.utils import io_services_utils
from pika.channel import Channel
from pika.connection import Connection

from jobrunner.broker.amqp import UNREADABLE, AmqpChannel, AmqpConnection, _send_now, _unreadable

HOOKS: list[tuple[type, str, list[str]]] = [
    (Connection, "_terminate_stream", ["self", "error"]),
    (Connection, "_create_channel", ["self", "channel_number", "on_open_callback"]),
    (BaseConnection, "_init_connection_state", ["self"]),
    (Connection, "_on_stream_connected", ["self"]),
    (Connection, "_process_frame", ["self", "frame_value"]),
    (Connection, "_read_frame", ["self"]),
    (Connection, "_output_marshaled_frames", ["self", "marshaled_frames"]),
    (Channel, "_on_deliver", ["self", "method_frame", "header_frame", "body"]),
    (Channel, "_handle_content_frame", ["self", "frame_value"]),
]


def test_pika_is_a_version_that_this_was_written_for() -> None:
    assert pika.__version__.startswith("1.4.")


@pytest.mark.parametrize(("owner", "name", "parameters"), HOOKS, ids=[hook[1] for hook in HOOKS])
def test_a_private_hook_of_pika_is_still_there(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters
    ours = AmqpConnection if issubclass(AmqpConnection, owner) else AmqpChannel
    assert name in vars(ours) or name in ("_terminate_stream", "_handle_content_frame")


def test_what_the_hooks_read_is_still_written_by_pika() -> None:
    sources = {
        Connection: [
            "self._channels = dict()",
            "self._frame_buffer = bytes()",
            "self._body_max_length = self._get_body_frame_max_length()",
        ],
        BaseConnection: ["self._transport = transport"],
        Channel: ["self._consumers[consumer_tag] = on_message_callback", "self._cancelled.add(consumer_tag)"],
        io_services_utils._AsyncTransportBase: [
            "self._sock = sock",
            "self._tx_buffers:",
            "self._MAX_RECV_BYTES",
            "bytes_consumed < self._MAX_CONSUME_BYTES",
        ],
    }
    for owner, texts in sources.items():
        source = inspect.getsource(owner)
        assert [text for text in texts if text not in source] == []
    assert io_services_utils._AsyncPlaintextTransport._STATE_ACTIVE == 1
    assert issubclass(AmqpConnection, AsyncioConnection)


class Pipe:
    """The part of a connection that a publish uses: keeps the bytes."""

    _body_max_length = 1000
    given_up_for = None
    _send_method = Connection._send_method
    _send_message = Connection._send_message

    def __init__(self) -> None:
        self.sent = b""

    def _output_marshaled_frames(self, marshaled_frames: Any) -> None:
        self.sent += b"".join(marshaled_frames)


def publisher() -> tuple[AmqpChannel, Pipe]:
    pipe = Pipe()
    channel = AmqpChannel.__new__(AmqpChannel)
    channel.connection, channel.channel_number, channel._state = pipe, 7, Channel.OPEN  # type: ignore[assignment]
    return channel, pipe


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 1000, b"x" * 2500])
def test_a_publish_is_on_the_wire_what_pika_makes_of_it(body: bytes) -> None:
    properties = spec.BasicProperties(delivery_mode=2, message_id="k7f2", headers={"jr-attempt": 1})
    for key in ("task_queue", "other", "task_queue"):
        (ours, sent), (theirs, expected) = publisher(), publisher()
        ours.publish("jobs", key, body, properties)
        theirs.basic_publish("jobs", key, body, properties, mandatory=True)
        assert sent.sent == expected.sent


@pytest.mark.parametrize(
    "fields",
    [
        {
            "message_id": "k7f2m9xq4tzd8w1r",
            "delivery_mode": 2,
            "priority": 4,
            "timestamp": 1_800_000_000,
            "type": "job",
        },
        {"message_id": "k7f2.0.succeeded", "content_type": "application/json", "type": "event"},
        {"message_id": "", "delivery_mode": 1},
        {"message_id": "ä" * 100, "priority": 0, "timestamp": 0},
        {"delivery_mode": 2},
        {"message_id": "x", "headers": {}},
        *({"message_id": "x", rare: "y"} for rare in ("content_encoding", "correlation_id", "reply_to", "expiration")),
        *({"message_id": "x", rare: "y"} for rare in ("user_id", "app_id", "cluster_id")),
    ],
)
def test_properties_without_headers_are_encoded_once_and_are_on_the_wire_what_pika_makes_of_them(fields: Any) -> None:
    for message_id in (fields.get("message_id"), "other" if "message_id" in fields else None):
        properties = spec.BasicProperties(**fields | {"message_id": message_id})
        (ours, sent), (theirs, expected) = publisher(), publisher()
        ours.publish("jobs", "task_queue", b"body", properties)
        theirs.basic_publish("jobs", "task_queue", b"body", properties, mandatory=True)
        assert sent.sent == expected.sent


def test_a_publish_that_cannot_be_encoded_sends_nothing() -> None:
    channel, pipe = publisher()
    with pytest.raises(pika.exceptions.ShortStringTooLong):
        channel.publish("", "x" * 256, b"body", spec.BasicProperties())
    with pytest.raises(pika.exceptions.ShortStringTooLong):
        channel.publish("", "x", b"body", spec.BasicProperties(message_id="x" * 256))
    assert pipe.sent == b""


def test_a_publish_on_a_channel_that_is_not_open_is_refused_by_pika() -> None:
    channel, pipe = publisher()
    channel._state = Channel.CLOSED
    with pytest.raises(pika.exceptions.ChannelWrongStateError):
        channel.publish("", "x", b"body", spec.BasicProperties())
    assert pipe.sent == b""


class Sender:
    """The part of a channel that `_on_deliver` uses."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = is_open
        self.nacked: list[tuple[int, bool, bool]] = []
        self.delivered: list[bytes] = []
        self._consumers = {"live": self.take, "leaving": self.take}
        self._cancelled = {"leaving"}

    def take(self, _channel: object, _method: object, _properties: object, body: bytes) -> None:
        self.delivered.append(body)

    on_late = None
    hand_back = AmqpChannel.hand_back

    def basic_nack(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        self.nacked.append((tag, multiple, requeue))


def deliver(sender: Sender, consumer_tag: str) -> None:
    method = frame.Method(1, spec.Basic.Deliver(consumer_tag, 7, False, "", "q"))
    AmqpChannel._on_deliver(sender, method, frame.Header(1, 1, spec.BasicProperties()), b"x")  # type: ignore[arg-type]


@pytest.mark.parametrize("consumer_tag", ["leaving", "unknown"])
def test_a_delivery_that_crossed_a_cancel_is_handed_back_by_nack(consumer_tag: str) -> None:
    sender = Sender()
    deliver(sender, consumer_tag)
    assert (sender.nacked, sender.delivered) == ([(7, False, True)], [])


def test_a_delivery_to_a_live_consumer_reaches_it() -> None:
    sender = Sender()
    deliver(sender, "live")
    assert (sender.nacked, sender.delivered) == ([], [b"x"])


def test_nothing_is_sent_on_a_closed_channel() -> None:
    sender = Sender(is_open=False)
    deliver(sender, "leaving")
    assert sender.nacked == []


def test_a_frame_with_unreadable_properties_is_marked_and_has_its_true_size() -> None:
    headers = b"\x01xd" + struct.pack(">d", float("nan"))
    payload = struct.pack(">HHQHI", 60, 0, 5, spec.BasicProperties.FLAG_HEADERS, len(headers)) + headers
    buffer = struct.pack(">BHI", 2, 3, len(payload)) + payload + b"\xce"
    with pytest.raises(ValueError, match="NaN"):
        frame.decode_frame(buffer + b"next")
    size, header = _unreadable(buffer + b"next")
    assert size == len(buffer)
    assert (header.channel_number, header.body_size) == (3, 5)
    assert header.properties.content_encoding == UNREADABLE


class Transport:
    """The part of pika's transport that `_send_now` uses."""

    _STATE_ACTIVE = 1

    def __init__(self, taken: int | OSError, *, buffered: bool = False, state: int = 1) -> None:
        self._tx_buffers = [b"earlier"] if buffered else []
        self._state = state
        self._sock = self
        self._taken = taken

    def send(self, data: bytes) -> int:
        if isinstance(self._taken, OSError):
            raise self._taken
        return min(self._taken, len(data))


@pytest.mark.parametrize(
    ("transport", "left"),
    [
        (Transport(100), b""),
        (Transport(2), b"cde"),
        (Transport(BlockingIOError()), b"abcde"),
        (Transport(ConnectionResetError()), b"abcde"),
        (Transport(100, buffered=True), b"abcde"),
        (Transport(100, state=2), b"abcde"),
    ],
)
def test_what_the_socket_does_not_take_at_once_is_left_to_pika(transport: Any, left: bytes) -> None:
    assert _send_now(transport, b"abcde") == left
