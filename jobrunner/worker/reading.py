"""Whether a delivered message is a job: its bytes become an envelope, or a refusal."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

import msgspec

from jobrunner import envelope as envelopes
from jobrunner import signing
from jobrunner.broker.topology import check_queue_name
from jobrunner.envelope import Envelope, Job, MalformedMessage
from jobrunner.errors import JobrunnerError
from jobrunner.ids import id_of, is_id
from jobrunner.outcome import Error, clip
from jobrunner.worker.policy import Policy

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_RAW_BODY_BYTES = 5 * 1024 * 1024
"""A foreign body travels on as base64 within a job, which must stay under the broker's usual 8 MiB."""


class Received(Protocol):
    """What is read of a delivery (`broker.consumer.Delivery`)."""

    body: bytes
    message_id: str | None
    content_encoding: str | None
    priority: int | None
    headers: Mapping[str, object]
    redelivered: bool
    delivery_count: int | None
    queue: str


class Unreadable(msgspec.Struct, frozen=True):
    """A message that is no job: it is dead-lettered with its body intact.

    job_id: derived from the body's hash, never the claimed id, which may be someone else's.
    """

    job_id: str
    sha256: str
    error: Error


def read(received: Received, policy: Policy) -> Envelope | Unreadable:
    """The envelope of a delivery; with a raw handler, foreign bytes become a job of that handler."""
    if len(received.body) > MAX_BODY_BYTES:
        return unreadable(received, "too_large", f"the body has {len(received.body)} bytes, over {MAX_BODY_BYTES}")
    signature = None
    if policy.ring is not None:
        where = (policy.vhost, received.queue)
        believed = signing.verify_job(policy.ring, where, received.message_id, received.body, received.headers)
        if isinstance(believed, signing.Refused):
            return unreadable(received, believed.reason, believed.message)
        signature = believed
    try:
        if received.content_encoding:
            raise MalformedMessage(reason=f"content_encoding is set: {received.content_encoding!r}")
        job = _decode(received.body, received.message_id)
        _check_queue(job.queue)
        return Envelope(
            job=job,
            state=envelopes.state_of(dict(received.headers)),
            priority=_priority(received.priority),
            body=received.body,
            signature=signature,
        )
    except MalformedMessage as exc:
        if signature is not None or (policy.raw_handler is None and policy.raw_handler_command is None):
            return unreadable(received, "malformed", str(exc))
    if len(received.body) > MAX_RAW_BODY_BYTES:
        return unreadable(received, "too_large", f"the body has {len(received.body)} bytes, over {MAX_RAW_BODY_BYTES}")
    return adopt_foreign(received, policy)


@lru_cache(maxsize=1024)
def _check_queue(name: str) -> None:
    """A retry goes to the queue that the job names: one that no routing key can hold, or one of ours, is refused."""
    try:
        check_queue_name(name)
    except JobrunnerError as exc:
        raise MalformedMessage(reason=exc.message) from exc


class _Later(msgspec.Struct):
    """The least that a job of a later version must have, to be parked until a worker of that version comes."""

    v: int
    id: str
    queue: str


def _decode(body: bytes, message_id: str | None) -> Job:
    try:
        return envelopes.decode(body, message_id)
    except MalformedMessage:
        try:
            later = msgspec.json.decode(body, type=_Later)
        except (ValueError, RecursionError, MemoryError):
            later = None
        if later is None or later.v <= envelopes.LATEST or not is_id(later.id) or message_id != later.id:
            raise
        return Job(v=later.v, id=later.id, queue=later.queue, iat=0.0, task="unknown:unknown")


def _priority(value: int | None) -> int:
    return envelopes.DEFAULT_PRIORITY if value is None else max(0, min(9, value))


def unreadable(received: Received, reason: str, message: str) -> Unreadable:
    """The refusal of a message that is no job."""
    return Unreadable(
        job_id=id_of(received.body),
        sha256=hashlib.sha256(received.body).hexdigest(),
        error=Error(reason=reason, message=clip(message)),
    )


def adopt_foreign(received: Received, policy: Policy) -> Envelope:
    """A job whose input is the body of a plain producer's message.

    With a `message_id` the job's id follows from it and the body, so that a redelivery is recognised; without, it is
    random, since two equal bodies may well be two jobs.
    """
    job_id = id_of(received.message_id.encode(), received.body) if received.message_id else None
    if policy.raw_handler is not None:
        job = envelopes.new_job(queue=received.queue, job_id=job_id, task=policy.raw_handler, raw=received.body)
    else:
        argv = list(policy.raw_handler_command or ())
        job = envelopes.new_job(queue=received.queue, job_id=job_id, argv=argv, stdin=received.body)
    return envelopes.seal(job, priority=_priority(received.priority))
