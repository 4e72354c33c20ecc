"""Histories for tests of the view: jobs, their events, and views made of them."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from jobrunner import attempts, envelope, events
from jobrunner.broker import topology
from jobrunner.broker.message import message_id_of
from jobrunner.broker.stream import Record
from jobrunner.outcome import Error
from jobrunner.view import schema
from jobrunner.view.filters import Filter, parse
from jobrunner.view.store import Store

NOW = 1_800_000_000.0
ME = "ana@mbp"
IDS = ("k7f2m9xq4tzd8w1r", "k7f2c01b5vxe9a2s", "p3h8w2ac1n5kv7t2", "h4m2x0v81srqn5k3")
TIMEOUT = Error(
    reason="error",
    class_name="TimeoutError",
    message="read timed out",
    traceback='Traceback (most recent call last):\n  File "/app/fetch.py", line 31, in fetch\n    get()\n',
)


def record(event: events.Event, offset: int) -> Record:
    """An event as it is read."""
    return Record(offset, topology.EVENTS, "key", message_id_of(event), events.encode(event))


def records(told: Iterable[events.Event], first: int = 0) -> list[Record]:
    """Events as they are read, one after the other."""
    return [record(event, offset) for offset, event in enumerate(told, first)]


@contextmanager
def a_view(told: Iterable[events.Event] = ()) -> Iterator[Store]:
    """A view in memory in which these events are folded."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    schema.prepare(db)
    with Store(Path("view.sqlite"), db, print) as store:
        store.fold(records(told))
        yield store


def words(*typed: str, now: float = NOW, user: str = ME) -> Filter:
    """A filter."""
    return parse(typed, now=now, user=user)


def body(job_id: str = IDS[0], **fields: Any) -> bytes:
    """The body of a job. args and kwargs are given as values."""
    for name in ("args", "kwargs"):
        if name in fields:
            fields[name] = msgspec.Raw(msgspec.json.encode(fields[name]))
    if "argv" not in fields:
        fields.setdefault("task", "tasks:fetch")
    fields = {"queue": "task_queue", "iat": NOW - 100, "user": ME, **fields}
    return msgspec.json.encode(envelope.Job(v=1, id=job_id, **fields))


def queued(job_id: str = IDS[0], at: float = NOW - 100, **fields: Any) -> events.Queued:
    """A job is accepted. fields: of the job, and priority, not_before, chain, copy of the event."""
    own = {name: fields.pop(name) for name in ("priority", "not_before", "chain", "copy") if name in fields}
    fields.setdefault("iat", at)
    return events.Queued(at=at, jobs=[events.QueuedJob(job=msgspec.Raw(body(job_id, **fields)), **own)], by=ME)


def run(started_at: float = NOW - 50, ended_at: float | None = None, **fields: Any) -> attempts.Run:
    """Where an attempt runs."""
    return attempts.Run(
        **{"worker": "web3-91c0", "host": "web3", "pid": 77, "started_at": started_at, "ended_at": ended_at, **fields}
    )


def started(job_id: str = IDS[0], at: float = NOW - 50, **fields: Any) -> events.Started:
    """It has been running for 250 ms."""
    return events.Started(**{"at": at + 0.25, "id": job_id, "attempt": 1, "ran": run(at), **fields})


def succeeded(job_id: str = IDS[0], at: float = NOW - 40, result: bytes = b"5", **fields: Any) -> events.Succeeded:
    """It returned."""
    facts: dict[str, Any] = {"at": at, "id": job_id, "attempt": 1, "ran": run(at - 10, at), **fields}
    return events.Succeeded(result=msgspec.Raw(result), **facts)


def retrying(
    job_id: str = IDS[0], at: float = NOW - 40, due_at: float = NOW + 20, error: Error = TIMEOUT, **fields: Any
) -> events.Retrying:
    """It failed and runs again."""
    facts: dict[str, Any] = {"at": at, "id": job_id, "attempt": 1, "ran": run(at - 10, at), **fields}
    return events.Retrying(error=error, due_at=due_at, **facts)


def dead(job_id: str = IDS[0], at: float = NOW - 30, error: Error = TIMEOUT, **fields: Any) -> events.Dead:
    """It failed for good."""
    facts: dict[str, Any] = {"at": at, "id": job_id, "attempt": 1, "ran": run(at - 10, at), **fields}
    return events.Dead(error=error, queue="task_queue", worker="web3-91c0", **facts)


def worker(name: str = "web3-91c0", phase: str = "online", at: float = NOW - 5, **fields: Any) -> events.Worker:
    """A worker tells of itself."""
    return events.Worker(
        **{
            "at": at,
            "phase": phase,
            "name": name,
            "host": "web3",
            "pid": 77,
            "version": "0.1.0",
            "python": "3.11.7",
            "slots": 4,
            "busy": 1,
            "queues": ["task_queue"],
            "started_at": NOW - 1000,
            "functions": ["tasks:fetch"] if phase == "online" else [],
            **fields,
        }
    )
