"""A message as it was delivered, and what a slot's consumer reports."""

from collections.abc import Mapping
from typing import Any

import msgspec
from pika import spec

from jobrunner.broker.amqp import AmqpChannel
from jobrunner.errors import JobrunnerError


class Delivery(msgspec.Struct, eq=False):
    """One delivery to one slot.

    epoch: of the connection that it came by. tag: counts from 1 on each channel, so it means nothing on another.
    priority: 0 to 9, or as received; None: not set. headers: as received, whatever they hold. delivery_count: how
    often it was returned before; None where the queue does not count. queue: the queue consumed, whatever the
    message says of itself. settled: acked or handed back. lost: counted as taken back by the broker.
    stamped: it has a timestamp, as all that is published here has.
    """

    epoch: int
    slot: int
    tag: int
    body: bytes
    message_id: str | None = None
    type: str | None = None
    content_encoding: str | None = None
    priority: int | None = None
    headers: Mapping[str, Any] = {}
    redelivered: bool = False
    delivery_count: int | None = None
    queue: str = ""
    settled: bool = False
    channel: AmqpChannel | None = None
    lost: bool = False
    stamped: bool = True

    def __repr__(self) -> str:
        # bodies hold arguments, which may be secrets; they never reach a log line by accident
        return f"<Delivery {self.message_id} of {self.queue}: epoch {self.epoch}, slot {self.slot}, tag {self.tag}>"

    @property
    def is_current(self) -> bool:
        """Whether its channel still stands: otherwise the broker delivers the message again, here or elsewhere."""
        return self.channel is not None and self.channel.usable


class Delivered(msgspec.Struct, frozen=True):
    """A message has come for a slot."""

    delivery: Delivery


class HandedBack(msgspec.Struct, frozen=True):
    """A message has come too late for a slot, and is on its way back to its queue."""

    delivery: Delivery


class ConsumerReady(msgspec.Struct, frozen=True):
    """A slot consumes from all of its queues."""

    slot: int


class ConsumerLost(msgspec.Struct, frozen=True):
    """A slot does not consume any more; it goes on trying.

    error: why, or None when the broker cancelled it without a word (queue deleted, ack timeout). missing: no such
    queue.
    """

    slot: int
    queue: str
    error: JobrunnerError | None
    missing: bool


class QueueUnavailable(msgspec.Struct, frozen=True):
    """The broker has failed at a queue, and it is left out for so many seconds."""

    queue: str
    wait_s: float


ConsumerMessage = Delivered | HandedBack | ConsumerReady | ConsumerLost | QueueUnavailable


def received(
    channel: AmqpChannel,
    origin: tuple[int, int, str],
    method: Any,
    properties: spec.BasicProperties,
    body: bytes,
) -> Delivery:
    """The delivery in what pika gives. origin: epoch, slot, queue. method: of `basic.deliver` or `basic.get-ok`."""
    headers = properties.headers or {}
    redelivered = bool(method.redelivered)
    epoch, slot, queue = origin
    return Delivery(
        epoch,
        slot,
        method.delivery_tag,
        body,
        _text(properties.message_id),
        _text(properties.type),
        _text(properties.content_encoding),
        properties.priority,
        headers,
        redelivered,
        # a first delivery's count was written by its producer: RabbitMQ passes it through
        _count(headers.get("x-delivery-count")) if redelivered else None,
        queue,
        False,
        channel,
        False,
        properties.timestamp is not None,
    )


def _text(value: object) -> str | None:
    """pika gives bytes for what is not UTF-8."""
    if value is None or isinstance(value, str):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None
