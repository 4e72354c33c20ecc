"""Rows as JSON: the fields that scripts rely on. New ones may come; none of these may go."""

import json

import msgspec

from jobrunner import attempts
from jobrunner.broker.stream import Record
from jobrunner.cli.shared import Shared
from jobrunner.cli.show_text import lines
from jobrunner.view import documents
from jobrunner.view.why import Why
from tests.support import history
from tests.support.history import IDS, NOW, a_view, dead, queued, run, succeeded, words

JOB_FIELDS = {
    "id",
    "state",
    "state_at",
    "task",
    "args",
    "kwargs",
    "argv",
    "queue",
    "priority",
    "created_at",
    "not_before",
    "expires_at",
    "started_at",
    "ended_at",
    "wait_s",
    "took_s",
    "attempt",
    "max_attempts",
    "interruptions",
    "timeout_s",
    "worker",
    "user",
    "run",
    "seq",
    "tags",
    "label",
    "chain",
    "error",
    "result_bytes",
}


def as_json(document: documents.Document) -> dict[str, object]:
    found: dict[str, object] = json.loads(msgspec.json.encode(document))
    return found


def test_a_call_that_succeeded() -> None:
    with a_view([queued(args=["a"], kwargs={"n": 1}, run="r", seq=3, tags=["t"]), succeeded()]) as store:
        row = store.job(IDS[0])
        assert row is not None
        document = as_json(documents.job_document(row))
    assert set(document) >= JOB_FIELDS
    assert document["state_at"] == "2027-01-15T07:59:20.000Z"
    assert (document["args"], document["kwargs"], document["argv"]) == (["a"], {"n": 1}, None)
    assert (document["took_s"], document["wait_s"], document["result_bytes"], document["error"]) == (
        10.0,
        50.0,
        1,
        None,
    )


def test_a_command_that_is_dead_with_its_attempts() -> None:
    output = attempts.Stream(head="x", total_bytes=1)
    with a_view([queued(argv=["curl", "x"]), dead(ran=run(NOW - 40, NOW - 30, stdout=output, stderr=output))]) as store:
        row = store.job(IDS[0])
        assert row is not None
        why = Why(code="c", text="t.", fix="f", label="l")
        document = as_json(documents.show_document(row, store.attempts(IDS[0]), why))
        (cause,) = store.causes(words())
    assert (document["task"], document["args"], document["kwargs"], document["argv"]) == (
        None,
        None,
        None,
        ["curl", "x"],
    )
    assert document["why"] == {"code": "c", "text": "t.", "fix": "f"}
    error = document["error"]
    assert isinstance(error, dict)
    assert error == {
        "reason": "error",
        "class": "TimeoutError",
        "message": "read timed out",
        "exit": None,
        "signal": None,
        "cause": cause.cause,
    }
    (attempt,) = document["attempts"]  # type: ignore[misc]
    assert (attempt["number"], attempt["worker"], attempt["pid"], attempt["outcome"]) == (1, "web3-91c0", 77, "dead")
    assert (attempt["took_s"], attempt["output_bytes"]) == (10.0, 2)
    assert attempt["traceback"].startswith("Traceback")


def test_workers_queues_and_causes() -> None:
    with a_view([history.worker(), queued(), dead(IDS[1])]) as store:
        (worker,) = store.workers(10 * NOW)
        (counts,) = store.counts(NOW)
        (cause,) = store.causes(words())
    fields = {"name", "host", "version", "slots", "busy", "queues", "seen_at", "state"}
    assert set(documents.worker_document(worker, NOW)) >= fields
    states = [documents.worker_document(worker, NOW + later)["state"] for later in (0, 100)]
    assert states == ["idle", "gone"]
    queue = documents.counts_document(counts, NOW)
    assert (queue["name"], queue["queued"], queue["dead"], queue["oldest_s"]) == ("task_queue", 1, 1, 100.0)
    told = documents.cause_document(cause)
    assert (told["count"], told["task"], told["error"], told["place"]) == (
        1,
        "",
        "TimeoutError: read timed out",
        "fetch.py:31",
    )


def test_a_time_that_no_calendar_has_is_null() -> None:
    assert documents.instant(1e18) is None
    assert documents.instant(None) is None


def test_events_of_a_later_version_are_shown_as_far_as_they_are_understood() -> None:
    later = [b'{"kind":"napped","v":2,"at":%s,"id":"%s","until":9}' % (at, IDS[0].encode()) for at in (b"5.5", b"9e99")]
    with a_view([queued()]) as store:
        store.fold([Record(9 + n, "jobrunner.v1.events", "k", None, body) for n, body in enumerate(later)])
        row = store.job(IDS[0], now=NOW)
        assert row is not None
        unknown = store.unknown_events(row.id)
    document = as_json(documents.show_document(row, [], None, unknown))
    assert document["unknown_events"] == [
        {"kind": "napped", "at": "1970-01-01T00:00:05.500Z"},
        {"kind": "napped", "at": None},
    ]
    shown = list(lines(Shared(), row, [], None, unknown))
    assert [line.strip().partition("  ")[2] for line in shown[-2:]] == ["napped (an event of a later version)"] * 2
    assert shown[-1].startswith("  at some time  ")
