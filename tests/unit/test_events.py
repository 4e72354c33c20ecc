"""The ledger's records: one table of kinds, and each kind is written and read again."""

import typing

import msgspec
import pytest

from jobrunner import attempts, envelope, events
from jobrunner.broker.message import message_id_of
from jobrunner.outcome import Error

RAN = attempts.Run(
    worker="w1", host="h", pid=7, started_at=1.0, ended_at=2.5, stdout=attempts.Stream(head="x", total_bytes=1)
)
ERROR = Error(reason="exit", message="exit 1", exit=1)
FACTS = {"at": 5.0, "id": "k7f2m9xq4tzd8w1r", "run": "r-1", "attempt": 2, "copy": 3, "chain": 1}
JOB = envelope.seal(envelope.new_job(queue="q", task="tasks:add", job_id="k7f2m9xq4tzd8w1r"))

SAMPLES: list[events.Event] = [
    events.Queued(at=1.0, jobs=[events.QueuedJob(job=msgspec.Raw(JOB.body), not_before=9.0)], by="ana@mbp"),
    events.Started(ran=RAN, **FACTS),
    events.Succeeded(ran=RAN, result=msgspec.Raw(b'{"a":1}'), **FACTS),
    events.Released(**FACTS),
    events.Retrying(error=ERROR, due_at=9.0, ran=RAN, **FACTS),
    events.Dead(error=ERROR, queue="q", worker="w1", ran=RAN, **FACTS),
    events.Parked(error=ERROR, due_at=9.0, **FACTS),
    events.Interrupted(ran=RAN, **FACTS),
    events.Expired(expires_at=4.0, **FACTS),
    events.Cancelled(reason="purged", by="ana@mbp", **FACTS),
    events.Suppressed(worker="w1", **FACTS),
    events.Log(stream="out", text="line\n", offset_bytes=0, started_at=1.0, **FACTS),
    events.Progress(fraction=0.4, text="reading", **FACTS),
    events.Cancel(at=2.0, jobs={"k7f2m9xq4tzd8w1r": 0}, by="ana@mbp", reason="typo"),
    events.Sealed(at=2.0, run="r-1", total=200, failed=1, parts=True, by="ana@mbp"),
    events.Pause(at=2.5, queue="a.b", until=9.0, by="ana@mbp", reason="maintenance"),
    events.Worker(
        at=3.0,
        phase="online",
        name="w1",
        host="h",
        pid=7,
        version="0.1.0",
        python="3.11.7",
        slots=2,
        busy=0,
        queues=["q"],
        started_at=1.0,
    ),
    events.Genesis(at=1.0, id="5f0e"),
]


@pytest.mark.parametrize("event", SAMPLES, ids=events.kind_of)
def test_each_event_is_read_as_it_was_written(event: events.Event) -> None:
    again = events.decode(events.encode(event))
    assert type(again) is type(event)
    assert events.encode(again) == events.encode(event)


def test_the_table_of_kinds_is_complete() -> None:
    kinds = {cls.__name__.lower() for cls in typing.get_args(events.Event)}
    assert kinds == set(events.KINDS) == {events.kind_of(sample) for sample in SAMPLES}


def test_message_ids_name_the_job_its_copy_and_the_kind() -> None:
    ids = [message_id_of(sample) for sample in SAMPLES]
    assert ids[:3] == ["k7f2m9xq4tzd8w1r.0.queued", "k7f2m9xq4tzd8w1r.3.started", "k7f2m9xq4tzd8w1r.3.succeeded"]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b'{"kind":"\xff"}',
        b'{"kind":"cancel","at":1,"reason":"\xff"}',
        b'{"kind":"cancel","at":1,"x":' + b"[" * 5000,
        b'{"kind":"of-a-later-version","at":1}',
    ],
)
def test_what_is_no_event_is_told_in_one_way(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        events.decode(body)
