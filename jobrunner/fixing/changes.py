"""What `retry --set` changes of a job, and the envelope that is queued again. Pure.

The id stays; where something of the body changes, the body is a new one.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from jobrunner import envelope as envelopes
from jobrunner.broker.topology import check_queue_name
from jobrunner.durations import parse_backoff, parse_duration
from jobrunner.envelope import Envelope, MalformedMessage, State
from jobrunner.errors import BadValue, JobrunnerError
from jobrunner.view.rows import JobRow

KEYS: Final = ("queue", "timeout", "retries", "priority", "backoff")
COPY_STEP: Final = 1000
"""What the copy of a job that is queued from the ledger goes up by. Messages of it may still lie in the delay levels,
with copies that no event has told of; a run is recognised by its id and copy, so theirs must not be met."""

_PRIORITIES: Final = {"low": 1, "normal": 4, "high": 8}
_MOST_RETRIES: Final = 999_999


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """fields: of the body, None to leave it to the function's own. priority: 0 to 9, None: as it was."""

    fields: dict[str, Any] = {}
    priority: int | None = None


def parse_changes(words: Sequence[str]) -> Changes:
    """From `queue=video`, `timeout=5m`, `retries=3`, `priority=high`, `backoff=10s..1h`; `timeout=` for none.

    Raises: BadValue, BadDuration, QueueNameTooLong.
    """
    fields: dict[str, Any] = {}
    priority: int | None = None
    for word in words:
        key, equals, value = word.partition("=")
        if key not in KEYS or not equals:
            problem = f"--set {word}: it takes KEY=VALUE." if not equals else f"--set does not know '{key}'."
            raise BadValue(problem=problem, hint=", ".join(f"{name}=" for name in KEYS))
        if key == "priority":
            priority = _priority(value)
        else:
            fields |= _FIELDS[key](value)
    return Changes(fields=fields, priority=priority)


def _priority(value: str) -> int:
    if value in _PRIORITIES:
        return _PRIORITIES[value]
    if len(value) == 1 and value in "0123456789":
        return int(value)
    raise BadValue(problem=f"'{value}' is not a priority.", hint="0 to 9, low, normal, high")


def _queue(value: str) -> dict[str, Any]:
    if not value:
        raise BadValue(problem="--set queue= needs a name.", hint="--set queue=video")
    check_queue_name(value)
    return {"queue": value}


def _timeout(value: str) -> dict[str, Any]:
    seconds = parse_duration(value) if value else None
    if seconds is not None and seconds <= 0:
        raise BadValue(problem=f"'{value}' is no time at all.", hint="--set timeout=5m · --set timeout=  (none)")
    return {"timeout_s": seconds}


def _retries(value: str) -> dict[str, Any]:
    if not value:
        return {"max_attempts": None}
    if not (value.isascii() and value.isdigit()) or int(value) > _MOST_RETRIES:
        raise BadValue(problem=f"'{value}' is not a number of retries.", hint="--set retries=3")
    return {"max_attempts": int(value) + 1}


def _backoff(value: str) -> dict[str, Any]:
    first_s, largest_s = parse_backoff(value) if value else (None, None)
    return {"backoff_s": first_s, "backoff_max_s": largest_s}


_FIELDS: Final = {"queue": _queue, "timeout": _timeout, "retries": _retries, "backoff": _backoff}


def again(was: Envelope, changes: Changes, *, delay_s: float = 0.0, copy_step: int = 1) -> Envelope:
    """The same job from the start: no attempt used, the next chain, a later copy. A time to expire that has passed is
    dropped: it would end the job at once.

    Raises: MalformedMessage for a body that cannot be changed.
    """
    now = time.time()
    fields = dict(changes.fields)
    if was.job.expires_at is not None and was.job.expires_at <= now + delay_s:
        fields["expires_at"] = None
    body = _changed(was.body, fields) if fields else was.body
    state = State(
        chain=was.state.chain + 1,
        copy=was.state.copy + copy_step,
        not_before_ms=round((now + delay_s) * 1000) if delay_s else 0,
        submitted_by=was.state.submitted_by,
    )
    priority = was.priority if changes.priority is None else changes.priority
    job = envelopes.decode(body, was.job.id) if fields else was.job
    return Envelope(job=job, state=state, priority=priority, body=body)


def _changed(body: bytes, fields: dict[str, Any]) -> bytes:
    """The body with these fields; all others as they were, also those that this version does not know."""
    try:
        known: dict[str, Any] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(reason=f"not a job: {exc}") from exc
    for name, value in fields.items():
        if value is None:
            known.pop(name, None)
        else:
            known[name] = value
    return msgspec.json.encode(known)


def from_ledger(row: JobRow) -> Envelope | JobrunnerError:
    """A job as the ledger has it, with the newest chain and copy that are known; or why it cannot be queued again."""
    if row.body is None:
        return MalformedMessage(reason="the ledger has no longer what it was")
    try:
        job = envelopes.decode(row.body, row.id)
    except MalformedMessage as exc:
        return exc
    state = State(chain=row.chain, copy=row.copy)
    return Envelope(job=job, state=state, priority=max(0, min(9, row.priority)), body=row.body)
