"""Rows as JSON documents, field by field; fields are only ever added.

`..._at` and `not_before`: RFC 3339 in UTC with milliseconds. `..._s`: seconds. The caller adds `schema`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobrunner.envelope import After
from jobrunner.outcome import Error
from jobrunner.view.rows import AttemptRow, CauseRow, Counts, JobRow, UnknownEvent, WorkerRow
from jobrunner.view.why import Why

Document = dict[str, Any]


def instant(at: float | None) -> str | None:
    """RFC 3339, such as `2026-11-21T12:05:00.000Z`; None for a time that no calendar has."""
    if at is None:
        return None
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_document(error: Error | None, cause: str | None = None) -> Document | None:
    """An error without its traceback; None without one."""
    if error is None:
        return None
    return {
        "reason": error.reason,
        "class": error.class_name,
        "message": error.message,
        "exit": error.exit,
        "signal": error.signal,
        "cause": cause,
    }


def job_document(row: JobRow) -> Document:
    """A job. args and kwargs stay JSON as they came."""
    return {
        "id": row.id,
        "state": row.state,
        "state_at": instant(row.state_at),
        "task": row.task,
        "args": row.args,
        "kwargs": row.kwargs,
        "argv": row.argv,
        "queue": row.queue,
        "priority": row.priority,
        "created_at": instant(row.created_at),
        "not_before": instant(row.not_before),
        "expires_at": instant(row.expires_at),
        "started_at": instant(row.started_at),
        "ended_at": instant(row.ended_at),
        "wait_s": _seconds(row.wait_s),
        "took_s": _seconds(row.took_s),
        "attempt": row.attempt,
        "max_attempts": row.max_attempts,
        "interruptions": row.interruptions,
        "timeout_s": row.timeout_s,
        "worker": row.worker,
        "user": row.user,
        "run": row.run,
        "seq": row.seq,
        "tags": row.tags,
        "label": row.label,
        "chain": row.chain,
        "error": error_document(row.error, row.cause),
        "result_bytes": row.result_bytes,
        "truncated": row.truncated,
        "progress": row.progress,
        "progress_text": row.progress_text,
        "cancel_requested_at": instant(row.cancel_requested_at),
        "after": after_document(row.after),
    }


def after_document(after: After | None) -> Document | None:
    """What a job waits for, or waited for."""
    return None if after is None else {"jobs": list(after.jobs), "run": after.run, "when": after.when}


def attempt_document(row: AttemptRow) -> Document:
    """One run of a job."""
    took_s = None if row.ended_at is None else max(0.0, row.ended_at - row.started_at)
    return {
        "number": row.number,
        "chain": row.chain,
        "worker": row.worker,
        "host": row.host,
        "pid": row.pid,
        "started_at": instant(row.started_at),
        "ended_at": instant(row.ended_at),
        "took_s": _seconds(took_s),
        "outcome": row.outcome,
        "error": error_document(row.error),
        "traceback": row.error.traceback if row.error else None,
        "output_bytes": sum(stream.total_bytes for stream in (row.stdout, row.stderr) if stream is not None),
    }


def why_document(why: Why | None) -> Document | None:
    """Why a job does not run."""
    return None if why is None else {"code": why.code, "text": why.text, "fix": why.fix or None}


def show_document(
    row: JobRow, attempts: Sequence[AttemptRow], why: Why | None, unknown: Sequence[UnknownEvent] = ()
) -> Document:
    """A job with its attempts, why it does not run, and events of a later version: their kinds and times."""
    return {
        **job_document(row),
        "why": why_document(why),
        "attempts": [attempt_document(attempt) for attempt in attempts],
        "unknown_events": [{"kind": event.kind, "at": instant(event.at)} for event in unknown],
    }


def worker_document(row: WorkerRow, now: float) -> Document:
    """A worker. state: gone, busy or idle."""
    state = "gone" if row.gone(now) else "busy" if row.busy >= row.slots else "idle"
    return {
        "name": row.name,
        "host": row.host,
        "pid": row.pid,
        "version": row.version,
        "python": row.python,
        "slots": row.slots,
        "busy": row.busy,
        "queues": row.queues,
        "functions": row.functions,
        "allow_commands": row.allow_commands,
        "allow_programs": row.allow_programs,
        "started_at": instant(row.started_at),
        "seen_at": instant(row.seen_at),
        "done": row.done,
        "state": state,
    }


def counts_document(row: Counts, now: float) -> Document:
    """A queue as the ledger tells of it; the broker's part (type, ready, consumers) is the caller's."""
    return {
        "name": row.queue,
        "queued": row.queued,
        "running": row.running,
        "later": row.later,
        "dead": row.dead,
        "oldest_s": None if row.oldest_at is None else _seconds(max(0.0, now - row.oldest_at)),
        "in_per_s": round(row.in_per_s, 3),
        "out_per_s": round(row.out_per_s, 3),
    }


def cause_document(row: CauseRow) -> Document:
    """A group of dead jobs."""
    return {
        "cause": row.cause,
        "count": row.count,
        "newest_at": instant(row.newest),
        "oldest_at": instant(row.oldest),
        "task": row.task,
        "error": row.error,
        "place": row.place,
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
