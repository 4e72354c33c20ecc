"""From records to single facts: events taken apart, what no version of ours has written left out."""

from typing import Any, Final

import msgspec

from jobrunner import events
from jobrunner.ids import is_id

LARGEST: Final = 2**53
"""Of the numbers in an event: larger ones are not ours, and SQLite could not hold them."""

_MAX_UNKNOWN_BYTES: Final = 64 * 1024


class Body(msgspec.Struct, gc=False):
    """What a fold needs of a job's body."""

    id: str
    queue: str
    iat: float
    task: str | None = None
    argv: list[str] | None = None
    run: str | None = None
    user: str | None = None
    tags: list[str] = []


class QueuedOne(msgspec.Struct, gc=False):
    """One job of a `queued` event."""

    body: Body
    job: events.QueuedJob
    at: float
    by: str | None


Fact = events.Event | QueuedOne

_bodies = msgspec.json.Decoder(Body)


class _Head(msgspec.Struct):
    """What every event has, of whatever version."""

    kind: str
    v: int = 1
    at: float | None = None
    id: str | None = None


_heads = msgspec.json.Decoder(_Head)


def split(event: events.Event) -> list[Fact]:
    """An event as single facts; of a `queued` event each job that can be read. Numbers that are not ours: none."""
    if isinstance(event, events.Queued):
        return [one for job in event.jobs if (one := _queued_one(event, job)) is not None]
    if isinstance(event, events.Cancel | events.Pause | events.Worker | events.Genesis):
        return [event]
    if isinstance(event, events.Sealed):
        return [event] if 0 <= event.total < LARGEST else []
    if not is_id(event.id):  # SQLite takes a text with a NUL for another in one place and not in the other
        return []
    if 0 <= event.chain < LARGEST and 0 <= event.copy < LARGEST and 0 <= event.attempt < LARGEST:
        return [event]
    return []


def _queued_one(event: events.Queued, job: events.QueuedJob) -> QueuedOne | None:
    try:
        body = _bodies.decode(job.job)
    except (ValueError, RecursionError):
        return None
    if not (is_id(body.id) and 0 <= job.chain < LARGEST and 0 <= job.copy < LARGEST and abs(job.priority) < LARGEST):
        return None
    return QueuedOne(body, job, event.at, event.by)


def unknown_row(offset: int, body: bytes) -> tuple[Any, ...] | None:
    """The row of an event of a later version; None for what is no event, or too large to keep."""
    if len(body) > _MAX_UNKNOWN_BYTES:
        return None
    try:
        head = _heads.decode(body)
    except (ValueError, RecursionError):
        return None
    return (offset, head.at, head.kind, head.id, body)
