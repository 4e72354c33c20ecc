"""Questions to the tables and their answers as rows."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from jobrunner import events
from jobrunner.attempts import Stream
from jobrunner.envelope import Job
from jobrunner.outcome import Error
from jobrunner.retry import DEFAULT_RETRIES
from jobrunner.view.merge import OUTCOMES
from jobrunner.view.rows import ENDED, AttemptRow, JobRow, LogChunk, UnknownEvent, WorkerRow

COLUMNS: Final = (
    "n, id, chain, s_copy, state, state_at, due_at, error, cause, result_bytes, truncated, attempt, r_copy, "
    "started_at, ended_at, worker, host, pid, max_attempts, q_copy, queue, priority, run, user, tags, created_at, body"
)
SELECT: Final = f"SELECT {COLUMNS} FROM jobs"  # noqa: S608 - constants only
PAGE: Final = 1000
"""Rows whose extras are looked up at once."""

COMMAND_ATTEMPTS: Final = 1 + DEFAULT_RETRIES
"""Of a command without a wish: no function can say otherwise, so they are known before it runs."""

_INTERRUPTED: Final = OUTCOMES.index("interrupted")
_CUT_SHORT: Final = "interrupted"

_errors = msgspec.json.Decoder(Error)
_streams = msgspec.json.Decoder(Stream)
_workers = msgspec.json.Decoder(events.Worker)
_pauses = msgspec.json.Decoder(events.Pause)
_tags = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


class _Body(Job, frozen=True, kw_only=True):
    """A job as it was published, whatever its id and version: what is shown is not checked again."""

    id: str
    queue: str


_bodies = msgspec.json.Decoder(_Body)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A row of `jobs`, columns in the order of `COLUMNS`."""

    n: int
    id: str
    chain: int
    s_copy: int
    state: str
    state_at: float
    due_at: float | None
    error: str | None
    cause: str | None
    result_bytes: int | None
    truncated: int
    attempt: int
    r_copy: int
    started_at: float | None
    ended_at: float | None
    worker: str | None
    host: str | None
    pid: int | None
    max_attempts: int | None
    q_copy: int
    queue: str
    priority: int
    run: str | None
    user: str | None
    tags: str | None
    created_at: float | None
    body: bytes | None

    def told(self, now: float) -> str:
        """The state at that time: what is due lies in its queue."""
        if self.state == "parked" or (self.state in ("scheduled", "retrying") and (self.due_at or 0.0) <= now):
            return "queued"
        return self.state

    def row(self, now: float, **extras: Any) -> JobRow:
        """What is told of it. extras: what other tables know."""
        state = self.told(now)
        is_due = self.state not in (state, "parked")
        waits = state in ("scheduled", "retrying") or self.state == "parked"
        of_body = _of_body(self.body) if self.body is not None else {}
        wished = of_body.pop("max_attempts", None)
        return JobRow(
            id=self.id,
            state=state,
            state_at=self.due_at if is_due and self.due_at is not None else self.state_at,
            queue=self.queue,
            priority=self.priority,
            created_at=self.created_at,
            not_before=self.due_at if waits else None,
            due_at=self.due_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            attempt=self.attempt,
            max_attempts=wished or self.max_attempts or (COMMAND_ATTEMPTS if of_body.get("argv") else None),
            worker=self.worker,
            host=self.host,
            pid=self.pid,
            user=self.user,
            run=self.run,
            tags=_tags.decode(self.tags) if self.tags else [],
            chain=self.chain,
            copy=max(self.s_copy, self.r_copy, self.q_copy),
            parked=self.state == "parked",
            error=_errors.decode(self.error) if self.error else None,
            cause=self.cause,
            result_bytes=self.result_bytes,
            truncated=bool(self.truncated),
            body=self.body,
            **of_body,
            **extras,
        )


def _of_body(body: bytes) -> dict[str, Any]:
    """The fields that only the body has. Empty for one of a later version that this one cannot read."""
    try:
        job = _bodies.decode(body)
    except (ValueError, RecursionError):
        return {}
    limits = {"max_attempts": job.max_attempts, "timeout_s": job.timeout_s, "expires_at": job.expires_at}
    facts: dict[str, Any] = {**limits, "seq": job.seq, "label": job.label, "task": job.task, "argv": job.argv}
    facts["after"] = job.after
    facts["calls"] = len(job.items) or 1
    if job.task is not None:
        facts |= {"args": msgspec.Raw(bytes(job.args)), "kwargs": msgspec.Raw(bytes(job.kwargs))}
    return facts


def rows(db: sqlite3.Connection, found: Sequence[Stored], now: float, *, with_result: bool = False) -> list[JobRow]:
    """Stored rows with what other tables know of them."""
    told: list[JobRow] = []
    for start in range(0, len(found), PAGE):
        page = found[start : start + PAGE]
        extras = _extras(db, page)
        if with_result:
            for one in page:
                extras.setdefault(one.n, {})["result"] = _result(db, one)
        told += [one.row(now, **extras.get(one.n, {})) for one in page]
    return told


def _extras(db: sqlite3.Connection, page: Sequence[Stored]) -> dict[int, dict[str, Any]]:
    extras: dict[int, dict[str, Any]] = {}
    numbers = _encode([one.n for one in page if one.r_copy >= 0 or one.chain]).decode()
    sql = "SELECT n, count(*) FROM attempts WHERE n IN (SELECT value FROM json_each(?)) AND outcome = ? GROUP BY n"
    for n, count in db.execute(sql, (numbers, _INTERRUPTED)):
        extras.setdefault(n, {})["interruptions"] = count
    by_n = {one.n: one for one in page}
    sql = "SELECT n, chain, copy, fraction, text FROM progress WHERE n IN (SELECT value FROM json_each(?))"
    for n, chain, copy, fraction, text in db.execute(sql, (_encode(list(by_n)).decode(),)):
        if (chain, copy) >= (by_n[n].chain, by_n[n].r_copy):  # not that of an earlier run
            extras.setdefault(n, {}).update(progress=fraction, progress_text=text)
    for one in page:
        if one.state not in ENDED and (at := _cancel_requested(db, one)) is not None:
            extras.setdefault(one.n, {})["cancel_requested_at"] = at
    return extras


def _cancel_requested(db: sqlite3.Connection, one: Stored) -> float | None:
    sql = "SELECT min(at) FROM cancels WHERE target IN (?, ?) AND chain >= ?"
    (at,) = db.execute(sql, (f"id:{one.id}", f"run:{one.run}", one.chain)).fetchone()
    return None if at is None else float(at)


def stored(db: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Iterator[Stored]:
    """The rows of a statement that selects `COLUMNS`."""
    for row in db.execute(sql, parameters):
        yield Stored(*row)


def _result(db: sqlite3.Connection, one: Stored) -> msgspec.Raw | None:
    """The result of a job that succeeded; that of an earlier chain counts no more."""
    if one.state != "succeeded":
        return None
    (data,) = db.execute("SELECT result FROM jobs WHERE n = ?", (one.n,)).fetchone()
    return None if data is None else msgspec.Raw(data)


def attempts(db: sqlite3.Connection, job: Stored) -> list[AttemptRow]:
    """The runs of a job, in order. Of those that told no end, only the newest can be running."""
    sql = (
        "SELECT number, chain, copy, started_at, worker, host, pid, ended_at, outcome, error, stdout, stderr "
        "FROM attempts WHERE n = ? ORDER BY chain, copy, started_at"
    )
    found = db.execute(sql, (job.n,)).fetchall()
    return [_attempt(row, alive=job.state == "running" and row is found[-1]) for row in found]


def _attempt(row: Sequence[Any], *, alive: bool) -> AttemptRow:
    number, chain, copy, started_at, worker, host, pid, ended_at, outcome, error, stdout, stderr = row
    name = OUTCOMES[outcome]
    return AttemptRow(
        number=number,
        chain=chain,
        copy=copy,
        worker=worker,
        host=host,
        pid=pid,
        started_at=started_at,
        ended_at=ended_at or None,
        outcome=name if alive or name != "running" else _CUT_SHORT,
        error=_errors.decode(error) if error else None,
        stdout=_streams.decode(stdout) if stdout else None,
        stderr=_streams.decode(stderr) if stderr else None,
    )


def logs(
    db: sqlite3.Connection, n: int, attempt: int | None, stream: str | None, since: float | None
) -> list[LogChunk]:
    """Output as it came, run by run in the order in which it was read."""
    sql = (
        "SELECT at, attempt, started_at, stream, offset_bytes, text FROM logs WHERE n = ?1 "
        "AND (?2 IS NULL OR attempt = ?2) AND (?3 IS NULL OR stream = ?3) "
        "AND (?4 IS NULL OR at >= ?4) ORDER BY started_at, at, stream, offset_bytes"
    )
    names = LogChunk.__struct_fields__
    return [LogChunk(**dict(zip(names, row, strict=True))) for row in db.execute(sql, (n, attempt, stream, since))]


def workers(db: sqlite3.Connection, since: float) -> list[WorkerRow]:
    """Workers that told something since then, by name."""
    found = db.execute("SELECT last, online FROM workers WHERE at >= ? ORDER BY name", (since,))
    return [_worker(_workers.decode(last), _workers.decode(online) if online else None) for last, online in found]


def pauses(db: sqlite3.Connection) -> list[events.Pause]:
    """The newest word on each queue that was ever paused, by name."""
    return [_pauses.decode(last) for (last,) in db.execute("SELECT last FROM pauses ORDER BY queue")]


def _worker(last: events.Worker, online: events.Worker | None) -> WorkerRow:
    same = online is not None and online.started_at == last.started_at
    return WorkerRow(
        name=last.name,
        host=last.host,
        pid=last.pid,
        version=last.version,
        python=last.python,
        slots=last.slots,
        busy=last.busy,
        queues=last.queues,
        functions=online.functions if online is not None and same else last.functions,
        allow_commands=last.allow_commands,
        allow_programs=last.allow_programs,
        allow_import=last.allow_import,
        started_at=last.started_at,
        seen_at=last.at,
        phase=last.phase,
        done=last.done,
    )


def unknown(db: sqlite3.Connection, job_id: str) -> list[UnknownEvent]:
    """Events of a job that this version does not know."""
    sql = 'SELECT "offset", at, kind, id, body FROM unknown WHERE id = ? ORDER BY "offset"'
    return [UnknownEvent(offset=o, at=a, kind=k, id=i, body=b) for o, a, k, i, b in db.execute(sql, (job_id,))]


def first_of(found: Iterable[Stored]) -> Stored | None:
    """The one row, if there is one."""
    return next(iter(found), None)
