"""Questions about many jobs at once: counts of queues, groups of causes, a place in line."""

import sqlite3
from typing import Any, Final

import msgspec

from jobrunner.outcome import Error
from jobrunner.view.filters import Filter
from jobrunner.view.rows import CauseRow, Counts, JobRow

RATE_S: Final = 60.0
"""Rates are over so many seconds."""

_errors = msgspec.json.Decoder(Error)

# both are answered from the index of states alone
_WAITING: Final = """
SELECT queue, state, (due_at IS NULL OR due_at <= ?) AS is_due, count(*), min(COALESCE(due_at, born))
FROM jobs WHERE state IN ('waiting', 'queued', 'scheduled', 'parked', 'running', 'retrying', 'dead')
GROUP BY queue, state, is_due
"""
_AHEAD: Final = """
SELECT count(*) FROM jobs WHERE queue = ? AND id <> ? AND ((state = 'queued' AND COALESCE(due_at, born) < ?)
OR (state IN ('scheduled', 'retrying') AND due_at < ? AND due_at <= ?))
"""


def counts(db: sqlite3.Connection, now: float) -> list[Counts]:
    """Jobs by queue, in the order of their names."""
    found: dict[str, dict[str, Any]] = {}
    for queue, state, is_due, count, oldest_at in db.execute(_WAITING, (now,)):
        queue_counts = found.setdefault(queue, {})
        what = _what(state, is_due=bool(is_due))
        queue_counts[what] = queue_counts.get(what, 0) + count
        if what == "queued":
            queue_counts["oldest_at"] = min(oldest_at, queue_counts.get("oldest_at", oldest_at))
    for name, column in (("in_per_s", "born"), ("out_per_s", "done_at")):
        sql = f"SELECT queue, count(*) FROM jobs WHERE {column} > ? AND {column} <= ? GROUP BY queue"  # noqa: S608
        for queue, count in db.execute(sql, (now - RATE_S, now)):
            found.setdefault(queue, {})[name] = count / RATE_S
    return [Counts(queue=queue, **found[queue]) for queue in sorted(found)]


def _what(state: str, *, is_due: bool) -> str:
    if state in ("running", "dead"):
        return state
    if state in ("waiting", "parked") or (state != "queued" and not is_due):
        return "later"
    return "queued"


def place_in_line(db: sqlite3.Connection, job: JobRow, now: float) -> int:
    """Queued jobs of its queue that were due before it. Priorities are left out: what they do depends on the broker."""
    due_at = job.due_at or job.created_at or job.state_at
    (count,) = db.execute(_AHEAD, (job.queue, job.id, due_at, due_at, now)).fetchone()
    return int(count)


def causes(db: sqlite3.Connection, where: Filter) -> list[CauseRow]:
    """Dead jobs by cause, the group with the newest first; what the newest of a group says stands for it."""
    sql = (
        "SELECT cause, count(*), max(state_at), min(state_at) FROM jobs "  # noqa: S608 - of filters
        f"WHERE state = 'dead' AND cause IS NOT NULL AND ({where.sql}) GROUP BY cause ORDER BY 3 DESC"
    )
    newest = "SELECT name, error, place FROM jobs WHERE state = 'dead' AND cause = ? AND state_at = ? LIMIT 1"
    rows = []
    for cause, count, newest_at, oldest_at in db.execute(sql, where.parameters).fetchall():
        name, error, place = db.execute(newest, (cause, newest_at)).fetchone()
        rows.append(
            CauseRow(
                cause=cause,
                count=count,
                newest=newest_at,
                oldest=oldest_at,
                task=(name or "").removeprefix("/"),
                error=_headline(_errors.decode(error)),
                place=place,
            )
        )
    return rows


def _headline(error: Error) -> str:
    """One line; of a command with its exit code."""
    if error.exit is not None and error.class_name is None and not error.message.startswith("exit"):
        return f"exit {error.exit}: {error.message}"
    return error.headline
