"""What is published, and what the broker can answer to it: two closed sets of types."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pika import spec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.brokerurl import BrokerUrl
from jobrunner.envelope import JOB_TYPE, Envelope
from jobrunner.errors import JobrunnerError

if TYPE_CHECKING:
    from jobrunner.broker.delivery import Delivery
    from jobrunner.keyring import KeyRing
    from jobrunner.signing import Refused as NotBelieved
    from jobrunner.signing import Signature

MAX_HEADER_BYTES: Final = 8 * 1024
"""Of a publish's headers once encoded. A header frame larger than the connection's frame size would end the connection,
and pika does not look."""

_JSON_TYPES = frozenset({JOB_TYPE, events.EVENT_TYPE, events.GROUP_TYPE})
_GENESIS = "genesis."
_PERSISTENT = 2
_TRANSIENT = 1


class Message(msgspec.Struct, frozen=True):
    """One publish. message_id: unique among those in flight. headers: flat, integers and strings only.

    priority: 0 to 9, or None to leave it to the queue. queue: of a job, the one that it is for: its signature names it.
    also: further routing keys.
    """

    exchange: str
    key: str
    body: bytes
    message_id: str
    type: str
    priority: int | None = None
    headers: dict[str, int | str] = {}
    persistent: bool = True
    queue: str | None = None
    also: tuple[str, ...] = ()


class Stored(msgspec.Struct, frozen=True):
    """Confirmed: the broker has it in a queue, and on disk as far as that queue does it."""


class Returned(msgspec.Struct, frozen=True):
    """No queue took it; it is nowhere. text, code: the broker's words, such as NO_ROUTE and 312."""

    text: str
    code: int


class Refused(msgspec.Struct, frozen=True):
    """The broker did not take it; it is nowhere.

    code: 0 for a queue that is full or down, and for what cannot be sent; 403 no permission, 404 no such exchange,
    406 too large. error: why it was not even sent, where that has a sentence of its own.
    """

    reason: str
    code: int = 0
    error: JobrunnerError | None = None


class Unknown(msgspec.Struct, frozen=True):
    """No answer: it may or may not be stored. To be published again with the same ids.

    code: what closed the channel under it (403, 404, 406), or 0: then any of those in flight can be to blame.
    """

    reason: str
    code: int = 0


Answer = Stored | Returned | Refused | Unknown

STORED: Final = Stored()


def could_sign(answer: Answer) -> Answer:
    """The answer. Raises: KeyCannotSign, which no second try mends."""
    if isinstance(answer, Refused) and answer.error is not None:
        raise answer.error
    return answer


def job_message(
    envelope: Envelope, exchange: str, key: str, extra_headers: dict[str, int | str] | None = None
) -> Message:
    """The publish of a job. Its headers are made from its state alone: nothing that was received is ever copied, since
    RabbitMQ up to 3.13 takes a copied `x-death` for a cycle and keeps the message for ever.
    """
    headers = envelope.state.headers()
    if extra_headers:
        headers |= extra_headers
    if envelope.signature:
        headers |= envelope.signature
    job = envelope.job
    return Message(exchange, key, envelope.body, job.id, JOB_TYPE, envelope.priority, headers, queue=job.queue)


def event_message(event: events.Event) -> Message:
    """The publish of an event."""
    kind = events.kind_of(event)
    match event:
        case events.Genesis():
            key = topology.event_key(kind, None, "-")
        case events.Queued(jobs=jobs, run=run):
            message_id = message_id_of(event)
            key = topology.event_key(kind, run, "-" if len(jobs) > 1 else message_id.partition(".")[0])
            return Message(topology.EVENTS, key, events.encode(event), message_id, events.EVENT_TYPE)
        case events.Cancel(jobs=jobs, run=run):
            key = topology.event_key(kind, run, next(iter(jobs)) if len(jobs) == 1 else "-")
        case events.Sealed(run=run):
            key = topology.event_key(kind, run, "-")
        case events.Pause(queue=queue):
            # with the word of cancels, which leads to the stream that workers read before they consume
            key = topology.event_key("cancel", None, topology.encode_word(queue))
        case events.Worker(name=name):
            key = topology.event_key(kind, None, topology.encode_word(name))
        case _:
            key = topology.event_key(kind, event.run, event.id)
    return Message(topology.EVENTS, key, events.encode(event), message_id_of(event), events.EVENT_TYPE)


def message_id_of(event: events.Event) -> str:
    """Unique among what is in flight: `<id>.<copy>.<kind>`; a bulk `queued` has the id of its first job."""
    match event:
        case events.Queued(jobs=jobs):
            first = msgspec.json.decode(jobs[0].job, type=_OnlyId)
            return f"{first.id}.{jobs[0].copy}.queued"
        case events.Genesis(id=genesis_id):
            return f"{genesis_id}.0.genesis"
        case events.Cancel(jobs=cancelled, run=run):
            return f"{next(iter(cancelled), run)}.{event.at:.6f}.cancel"
        case events.Sealed(run=run, at=at):
            return f"{run}.{at:.6f}.sealed"
        case events.Pause(queue=queue):
            return f"{queue}.{event.at:.6f}.pause"
        case events.Worker(name=name, phase=phase):
            return f"{name}.{event.at:.3f}.{phase}"
        case events.Log(offset_bytes=offset, stream=stream):
            return f"{event.id}.{event.copy}.log.{stream}.{offset}"
        case events.Progress():
            return f"{event.id}.{event.copy}.{event.at:.3f}.progress"
        case _:
            return f"{event.id}.{event.copy}.{events.kind_of(event)}"


class _OnlyId(msgspec.Struct):
    id: str


def properties_of(message: Message, url: BrokerUrl | None = None) -> spec.BasicProperties:
    """The AMQP properties of a publish, signed if `url` has keys.

    Raises: ValueError when the headers are over 8 KiB; KeyCannotSign.
    """
    headers: dict[str, int | str | list[str]] = dict(message.headers)
    if message.also:
        headers["CC"] = list(message.also)
    if url is not None and url.ring is not None:
        headers |= _signed(message, url.vhost, url.ring)
    if headers and (size := _encoded_bytes(headers)) > MAX_HEADER_BYTES:
        raise ValueError(f"its headers have {size} bytes, over {MAX_HEADER_BYTES}")
    return spec.BasicProperties(
        content_type="application/json" if message.type in _JSON_TYPES else None,
        headers=headers or None,
        delivery_mode=_PERSISTENT if message.persistent else _TRANSIENT,
        priority=message.priority,
        message_id=message.message_id,
        timestamp=int(time.time()) if message.exchange != topology.EVENTS else None,
        type=message.type,
    )


def _signed(message: Message, vhost: str, ring: "KeyRing") -> dict[str, int | str]:
    """The headers with what signs the message. What is no job, event or control message is not signed; nor is what
    only asks whether the broker takes it, which anybody may.
    """
    from jobrunner import signing

    if message.queue is not None:
        where = (vhost, message.queue)
        return signing.sign_job(ring, where, message.message_id, message.body, message.headers)
    if message.type.endswith("probe"):
        return message.headers
    if message.exchange in (topology.EVENTS, topology.CONTROL) and not message.key.startswith(_GENESIS):
        domain = "event" if message.exchange == topology.EVENTS else "control"
        return message.headers | signing.sign_note(ring, domain, (vhost, message.key), message.body)
    return message.headers


def signature_of(url: BrokerUrl, queue: str, delivery: "Delivery") -> "Signature | NotBelieved | None":
    """The job's own signature, made for `queue`, with which it travels on; or why it is not believed. None: no key is
    set, and nothing is asked for.
    """
    if url.ring is None:
        return None
    from jobrunner import signing

    return signing.verify_job(url.ring, (url.vhost, queue), delivery.message_id, delivery.body, delivery.headers)


def is_believed(url: BrokerUrl, domain: str, method: Any, properties: spec.BasicProperties, body: bytes) -> bool:
    """Whether what was received may be acted upon: all of it where no key is set. domain: `event` or `control`."""
    if url.ring is None:
        return True
    from jobrunner import signing

    return signing.is_believed(url.ring, domain, (url.vhost, method.routing_key), properties.headers, body)


def _encoded_bytes(headers: Mapping[str, int | str | list[str]]) -> int:
    """Size of a header table, from above. Source: AMQP 0-9-1 specification, 4.2.5.5 "Field tables"."""
    return 4 + sum(1 + len(name.encode()) + _value_bytes(value) for name, value in headers.items())


def _value_bytes(value: int | str | list[str]) -> int:
    if isinstance(value, list):
        return 5 + sum(map(_value_bytes, value))
    return 5 + len(value.encode()) if isinstance(value, str) else 9
