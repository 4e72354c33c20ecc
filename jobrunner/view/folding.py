"""A batch of records into the tables: decode, read the rows that they are about, merge, write. One transaction."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.stream import Record
from jobrunner.outcome import Error
from jobrunner.view import causes, schema
from jobrunner.view.draft import Draft
from jobrunner.view.facts import Fact, split, unknown_row
from jobrunner.view.merge import Merge

FACTS_AT_ONCE: Final = 5_000
"""A bulk record holds up to 500 facts."""

_MERGE_ATTEMPT: Final = """
INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  number = max(number, excluded.number), worker = max(worker, excluded.worker), host = max(host, excluded.host),
  pid = max(pid, excluded.pid), ended_at = max(ended_at, excluded.ended_at),
  error = CASE WHEN excluded.outcome > outcome THEN excluded.error WHEN excluded.outcome < outcome THEN error
    ELSE max(error, excluded.error) END,
  outcome = max(outcome, excluded.outcome), stdout = max(stdout, excluded.stdout), stderr = max(stderr, excluded.stderr)
"""
_MERGE_LOG: Final = """
INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  at = min(at, excluded.at), attempt = max(attempt, excluded.attempt), text = max(text, excluded.text)
"""
_MERGE_PROGRESS: Final = """
INSERT INTO progress VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  chain = excluded.chain, copy = excluded.copy, at = excluded.at, fraction = excluded.fraction, text = excluded.text
  WHERE (excluded.chain, excluded.copy, excluded.at) > (chain, copy, at)
"""
_MERGE_CANCEL: Final = """
INSERT INTO cancels VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  at = excluded.at, reason = excluded.reason, by = excluded.by WHERE excluded.at < at
"""
_MERGE_PAUSE: Final = """
INSERT INTO pauses VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at, last = excluded.last
  WHERE (excluded.at, excluded.last) > (at, last)
"""
_MERGE_WORKER: Final = """
INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  last = CASE WHEN (excluded.started_at, excluded.at) > (started_at, at) THEN excluded.last ELSE last END,
  at = CASE WHEN excluded.started_at > started_at THEN excluded.at WHEN excluded.started_at < started_at THEN at
    ELSE max(at, excluded.at) END,
  started_at = max(started_at, excluded.started_at),
  online = CASE WHEN (excluded.online_at, excluded.online) > (online_at, online) THEN excluded.online ELSE online END,
  online_at = max(online_at, excluded.online_at)
"""
_MERGE_SEAL: Final = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"
_KEEP_UNKNOWN: Final = "INSERT OR IGNORE INTO unknown VALUES (?, ?, ?, ?, ?)"

_encode = msgspec.json.Encoder().encode
_errors = msgspec.json.Decoder(Error)


def fold(db: sqlite3.Connection, records: Sequence[Record]) -> str | None:
    """Merge records into the tables, within the caller's transaction. Gives the id in a `genesis` among them.

    Only what was published to the exchange of events counts: anyone who may publish at all can write to the stream.
    """
    genesis: str | None = None
    facts: list[Fact] = []
    unknown: list[tuple[Any, ...]] = []
    for record in records:
        if record.exchange != topology.EVENTS:
            continue
        try:
            event = events.decode(record.body)
        except (ValueError, RecursionError):
            row = unknown_row(record.offset, record.body)
            unknown += [] if row is None else [row]
            continue
        if event.v > events.VERSION and (row := unknown_row(record.offset, record.body)) is not None:
            unknown.append(row)
        facts += split(event)
        if len(facts) >= FACTS_AT_ONCE:
            genesis = _write(db, facts) or genesis
            facts = []
    genesis = _write(db, facts) or genesis
    db.executemany(_KEEP_UNKNOWN, unknown)
    return genesis


def _write(db: sqlite3.Connection, facts: Sequence[Fact]) -> str | None:
    (largest,) = db.execute("SELECT max(n) FROM jobs").fetchone()
    merge = Merge(_drafts(db, facts), (largest or 0) + 1)
    for fact in facts:
        merge.take(fact)
    new = {draft.n for draft in merge.new}
    _complete(merge.drafts.values())
    values = msgspec.structs.astuple
    db.executemany(schema.UPDATE_DRAFT, [values(row) for row in merge.drafts.values() if row.n not in new])
    db.executemany(schema.INSERT_DRAFT, map(values, merge.new))
    db.executemany(_MERGE_ATTEMPT, merge.attempts)
    db.executemany(_MERGE_LOG, merge.logs)
    db.executemany(_MERGE_PROGRESS, merge.progress)
    db.executemany(_MERGE_CANCEL, merge.cancels)
    db.executemany(_MERGE_PAUSE, [(each.queue, each.at, _encode(each).decode()) for each in merge.pauses])
    db.executemany(_MERGE_WORKER, map(_worker_row, merge.workers))
    db.executemany(_MERGE_SEAL, map(_seal_row, merge.seals))
    return merge.genesis


def _drafts(db: sqlite3.Connection, facts: Sequence[Fact]) -> dict[str, Draft]:
    """What is stored of the jobs that these facts are about."""
    ids = {job_id for fact in facts if (job_id := _job_id(fact)) is not None}
    if not ids:
        return {}
    rows = db.execute(schema.SELECT_DRAFTS, (_encode(list(ids)).decode(),))
    return {row[1]: Draft(*row) for row in rows}


def _job_id(fact: Fact) -> str | None:
    body = getattr(fact, "body", None)
    if body is not None:
        return str(body.id)
    # a genesis has an id too, but not that of a job
    return getattr(fact, "id", None) if not isinstance(fact, events.Genesis) else None


def _complete(drafts: Iterable[Draft]) -> None:
    """Columns that follow from the others."""
    for row in drafts:
        row.born = row.first_at if row.created_at is None else row.created_at
        if row.error is None or row.state not in ("dead", "retrying"):
            row.cause = None
        else:
            row.cause = causes.group(row.name, _errors.decode(row.error), row.frame)


def _seal_row(event: events.Sealed) -> tuple[str, str]:
    """How many jobs a run has: a fact about the ledger. The latest is the greatest text."""
    return (f"run:{event.run}", f"{event.at:020.6f} {event.total}")


def _worker_row(event: events.Worker) -> tuple[Any, ...]:
    """Only online events name the functions, so the newest one is kept beside the last event."""
    last = _encode(event).decode()
    online = event.phase == "online"
    return (event.name, event.started_at, event.at, last, event.at if online else 0.0, last if online else None)
