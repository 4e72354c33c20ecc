"""Writes the samples of this version: `python -m tests.compat.write`. Those that are there are never written again."""

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import msgspec

from jobrunner import attempts, envelope, events
from jobrunner.broker.message import Message, event_message, job_message
from jobrunner.view import schema
from jobrunner.view.store import Store
from tests.support import history
from tests.support.history import IDS, NOW, TIMEOUT, queued, run

HERE = Path(__file__).parent
CALL, COMMAND, MANUAL, RUNNING = IDS
OUTPUT = attempts.Stream(head="first\n", tail="last\n", total_bytes=200_000)


def jobs() -> list[tuple[str, Message]]:
    """Job messages of all shapes."""
    call = history.body(
        CALL,
        args=["a.jpg", {"deep": [1, None]}],
        kwargs={"width": 800},
        run="nightly",
        seq=3,
        tags=["import"],
        label="Monday's",
        max_attempts=4,
        backoff_s=10.0,
        backoff_max_s=3600.0,
        timeout_s=30.5,
        expires_at=NOW + 3600,
        queue="high",
    )
    command = history.body(COMMAND, argv=["ffmpeg", "-i", "in.mov"], stdin=b"\0\xff", env={"LANG": "C"}, cwd="/tmp")
    foreign = history.body(MANUAL, task="tasks:handle", raw=b"\x00plain")
    states = {
        "call": (call, envelope.State(not_before_ms=1_800_000_000_123)),
        "command": (command, envelope.State(attempt=2, copy=3, chain=1, crashes=1, submitted_by="ana@mbp")),
        "foreign": (foreign, envelope.State(parked_since_ms=1_800_000_000_000)),
        "smallest": (history.body(RUNNING, user=None), envelope.State()),
    }
    made = []
    for name, (body, state) in states.items():
        job = envelope.decode(body, None)
        sealed = envelope.Envelope(job=job, state=state, priority=8, body=body)
        made.append((name, job_message(sealed, "", job.queue)))
    return made


def told() -> list[events.Event]:
    """Events of every kind, with every field; together a small history."""
    facts: dict[str, Any] = {"run": "nightly", "copy": 1, "attempt": 1}
    ran = run(NOW - 50, NOW - 40, stdout=OUTPUT, stderr=OUTPUT)
    call = {"args": ["a.jpg"], "kwargs": {"width": 800}, "run": "nightly", "tags": ["import"], "max_attempts": 4}
    return [
        events.Genesis(at=NOW - 1000, id="5f0e5f0e5f0e5f0e"),
        history.worker(allow_commands=True, allow_import=["shop"], done=7),
        history.worker(phase="heartbeat", at=NOW - 4, busy=2),
        history.worker("old", "offline"),
        queued(CALL, not_before=NOW - 60, priority=8, **call),
        queued(COMMAND, argv=["ffmpeg", "-i", "in.mov"], queue="video"),
        queued(MANUAL, NOW - 90),
        events.Parked(at=NOW - 80, id=CALL, error=TIMEOUT, due_at=NOW - 60, run="nightly"),
        events.Started(at=NOW - 49, id=CALL, ran=run(NOW - 50), **facts),
        events.Log(at=NOW - 49, id=CALL, stream="out", text="first\n", offset_bytes=0, started_at=NOW - 50, **facts),
        events.Progress(at=NOW - 45, id=CALL, fraction=0.4, text="reading", **facts),
        events.Retrying(at=NOW - 40, id=CALL, error=TIMEOUT, due_at=NOW - 20, ran=ran, **facts),
        events.Interrupted(at=NOW - 15, id=CALL, ran=run(NOW - 19, NOW - 15), attempt=2, copy=2),
        events.Succeeded(
            at=NOW - 9, id=CALL, result=msgspec.Raw(b'{"a":[1]}'), truncated=True, ran=ran, attempt=2, copy=2
        ),
        events.Suppressed(at=NOW - 8, id=CALL, worker="web3-91c0", copy=2),
        events.Dead(at=NOW - 30, id=MANUAL, error=TIMEOUT, queue="task_queue", worker="web3-91c0", ran=ran, attempt=1),
        queued(MANUAL, NOW - 20, chain=1, copy=2),
        events.Cancel(at=NOW - 12, jobs={COMMAND: 0, MANUAL: 1}, run="other", reason="typo", by="ana@mbp"),
        events.Cancelled(at=NOW - 11, id=COMMAND, reason="typo", by="ana@mbp", signal="SIGTERM", took_s=2.1, ran=ran),
        events.Expired(at=NOW - 5, id="0" * 16, expires_at=NOW - 6),
        events.Started(at=NOW - 3, id=RUNNING, attempt=1, ran=run(NOW - 4)),
    ]


def added() -> list[events.Event]:
    """Samples of what came to this version later: fields and kinds. A list is only ever made longer."""
    facts: dict[str, Any] = {"id": CALL, "attempt": 2, "copy": 1, "max_attempts": 4}
    ran = run(NOW - 50, NOW - 40, stdout=OUTPUT)
    return [
        events.Started(at=NOW - 49, ran=run(NOW - 50), **facts),
        events.Succeeded(at=NOW - 40, result=msgspec.Raw(b"5"), ran=ran, **facts),
        events.Retrying(at=NOW - 40, error=TIMEOUT, due_at=NOW - 20, ran=ran, **facts),
        events.Dead(at=NOW - 40, error=TIMEOUT, queue="high", worker="web3-91c0", ran=ran, **facts),
        events.Interrupted(at=NOW - 40, ran=ran, **facts),
        events.Released(at=NOW - 2, id=CALL, run="nightly"),
        events.Sealed(at=NOW - 1, run="nightly", total=200, failed=1, parts=True, by="ana@mbp"),
        events.Pause(at=NOW - 30, queue="video", until=NOW + 600, reason="maintenance", by="ana@mbp"),
        events.Pause(at=NOW - 20, queue="video", paused=False, by="ana@mbp"),
    ]


def known(store: Store) -> dict[str, Any]:
    """What a view tells, as JSON."""
    ids = (*IDS, "0" * 16)
    found = {
        "jobs": [store.job(each, now=NOW) for each in ids],
        "attempts": [store.attempts(each) for each in ids],
        "logs": [store.logs(each) for each in ids],
        "workers": store.workers(10 * NOW),
        "anchor": store.anchor,
        "genesis": store.genesis,
    }
    plain: dict[str, Any] = json.loads(msgspec.json.encode(found))
    return plain


def message_document(message: Message) -> dict[str, Any]:
    """A message as JSON; bodies are text."""
    return msgspec.structs.asdict(message) | {"body": message.body.decode()}


def write_events(path: Path, told: list[events.Event]) -> None:
    """Events as messages. Raises: FileExistsError."""
    samples = [{"kind": events.kind_of(event), **message_document(event_message(event))} for event in told]
    with path.open("x") as file:
        file.write(json.dumps(samples, indent=1, ensure_ascii=False) + "\n")


def main(folder: Path) -> None:
    """Write them all. Raises: FileExistsError."""
    folder.mkdir()
    samples = [{"name": name, **message_document(message)} for name, message in jobs()]
    (folder / "jobs.json").write_text(json.dumps(samples, indent=1, ensure_ascii=False) + "\n")
    write_events(folder / "events.json", told())
    write_events(folder / "added.json", added())
    with history.a_view(told()) as store:
        dump = "\n".join(store._db.iterdump())
        (folder / "view.json").write_text(json.dumps(known(store), indent=1, ensure_ascii=False) + "\n")
    pragmas = f"PRAGMA application_id = {schema.APPLICATION_ID};\nPRAGMA user_version = {schema.VERSION};\n"
    (folder / "view.sql").write_text(f"-- SQLite {sqlite3.sqlite_version}\n{pragmas}{dump}\n")


if __name__ == "__main__":
    main(HERE / f"v{events.VERSION}")
    sys.exit()
