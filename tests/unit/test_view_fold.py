"""The fold: the same rows in whatever order events come and however often; and what each event makes of a job."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrunner import attempts, events
from jobrunner.broker.stream import Record
from jobrunner.outcome import Error
from jobrunner.view.live import paused_queues
from jobrunner.view.rows import JobRow
from jobrunner.view.store import Store
from tests.support import history as ledger
from tests.support.history import IDS, NOW, TIMEOUT, a_view, dead, queued, retrying, run, started, succeeded

ID = IDS[0]


# --- one state, whatever the order ----------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[events.Event]:
    """Any events of three jobs, also ones that no worker would write. Each has a time of its own."""
    kinds = draw(st.lists(st.sampled_from(sorted(_MAKE)), min_size=1, max_size=9))
    told: list[events.Event] = []
    for number, kind in enumerate(kinds):
        facts: dict[str, Any] = {
            "at": NOW - 500 + draw(st.integers(0, 40)) + number / 64,
            "id": draw(st.sampled_from(IDS[:2])),
            "run": draw(st.sampled_from([None, "nightly"])),
            "attempt": draw(st.integers(0, 3)),
            "copy": draw(st.integers(0, 2)),
            "chain": draw(st.integers(0, 1)),
        }
        began = NOW - 450 + draw(st.integers(0, 2))
        ran = run(began, facts["at"], worker=draw(st.sampled_from(["w1", "w2"])))
        told.append(_MAKE[kind](facts, ran))
    return told


def _queued(facts: dict[str, Any], ran: attempts.Run) -> events.Queued:
    own = {name: facts[name] for name in ("chain", "copy", "at")}
    due = ran.started_at if facts["attempt"] else None
    argv = {"argv": ["curl", "x"]} if facts["attempt"] == 2 else {}
    return queued(facts["id"], **own, not_before=due, iat=NOW - 600, queue=f"q{facts['copy']}", **argv)


def _same(facts: dict[str, Any]) -> dict[str, Any]:
    return {"at": facts["at"], "name": "w1", "started_at": NOW - 450 + facts["copy"]}


_MAKE: dict[str, Any] = {
    "queued": _queued,
    "started": lambda facts, ran: events.Started(
        ran=msgspec.structs.replace(ran, ended_at=None), max_attempts=facts["copy"] + facts["chain"], **facts
    ),
    "succeeded": lambda facts, ran: events.Succeeded(ran=ran, result=msgspec.Raw(b"%d" % facts["at"]), **facts),
    "retrying": lambda facts, ran: events.Retrying(
        ran=ran, error=TIMEOUT, due_at=facts["at"] + 1, max_attempts=facts["attempt"] or None, **facts
    ),
    "dead": lambda facts, ran: events.Dead(ran=ran, error=TIMEOUT, queue=f"q{facts['copy']}", **facts),
    "unread": lambda facts, _ran: events.Dead(error=Error(reason="malformed", message="no job"), queue="q", **facts),
    "parked": lambda facts, _ran: events.Parked(error=TIMEOUT, due_at=facts["at"] + 1, **facts),
    "interrupted": lambda facts, ran: events.Interrupted(ran=ran, **facts),
    "expired": lambda facts, _ran: events.Expired(expires_at=NOW, **facts),
    "cancelled": lambda facts, _ran: events.Cancelled(reason="typo", **facts),
    "stopped": lambda facts, ran: events.Cancelled(reason="typo", by="ana", signal="SIGTERM", ran=ran, **facts),
    "suppressed": lambda facts, _ran: events.Suppressed(worker="w1", **facts),
    "log": lambda facts, ran: events.Log(
        stream="out", text=f"{facts['at']}", offset_bytes=facts["attempt"], started_at=ran.started_at, **facts
    ),
    "progress": lambda facts, _ran: events.Progress(fraction=0.5, text=f"{facts['at']}", **facts),
    "cancel": lambda facts, _ran: events.Cancel(at=facts["at"], jobs={facts["id"]: facts["chain"]}, run=facts["run"]),
    "pause": lambda facts, _ran: events.Pause(
        at=facts["at"], queue=f"q{facts['copy']}", paused=bool(facts["chain"]), reason=f"{facts['attempt']}"
    ),
    "worker": lambda facts, _ran: ledger.worker(
        phase=("online", "heartbeat", "offline")[facts["copy"]], **_same(facts)
    ),
}


def snapshot(told: Sequence[events.Event], cuts: Sequence[int] = ()) -> list[Any]:
    """All that a view tells of a history, folded in parts."""
    found = ledger.records(told)
    bounds = [0, *sorted(cut % (len(found) + 1) for cut in cuts), len(found)]
    with a_view() as store:
        for begin, end in pairwise(bounds):
            store.fold(found[begin:end])
        jobs = [(store.job(each, now=NOW), store.attempts(each), store.logs(each)) for each in IDS]
        return [
            jobs,
            store.pauses(),
            store.workers(10 * NOW),
            store.counts(NOW),
            store.causes(ledger.words()),
            _columns(store),
        ]


def _columns(store: Store) -> list[Any]:
    """What filters and sorting see; the number of a row is that of its arrival, a stale result is not told."""
    found = store._db.execute("SELECT * FROM jobs ORDER BY id")
    names = [column[0] for column in found.description]
    return [{k: v for k, v in zip(names, row, strict=True) if k not in ("n", "result")} for row in found]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), data=st.data())
def test_any_order_and_any_repetition_of_a_history_give_the_same_rows(
    history: list[events.Event], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(history), max_size=4))
    shuffled = data.draw(st.permutations([*history, *again]))
    cuts = data.draw(st.lists(st.integers(0, 20), max_size=2))
    assert snapshot(shuffled, cuts) == snapshot(history)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), cut=st.integers(0, 9))
def test_a_part_of_a_history_and_then_all_of_it_give_the_same_rows_as_all_of_it(
    history: list[events.Event], cut: int
) -> None:
    assert snapshot([*history[cut:], *history], [3]) == snapshot(history)


# --- what becomes of a job ------------------------------------------------------------------------------------------


def told(*history: events.Event, now: float = NOW) -> JobRow:
    with a_view(history) as store:
        row = store.job(ID, now=now)
        assert row is not None
        return row


CANCELLED = events.Cancelled(at=NOW - 20, id=ID, reason="typo", by="ana@mbp")
EXPIRED = events.Expired(at=NOW - 20, id=ID, expires_at=NOW - 21)
PARKED = events.Parked(at=NOW - 20, id=ID, error=TIMEOUT, due_at=NOW + 20)
INTERRUPTED = events.Interrupted(at=NOW - 20, id=ID, attempt=1, ran=run(NOW - 50, NOW - 20))

STATES: list[tuple[str, list[events.Event], float]] = [
    ("queued", [queued()], NOW),
    ("scheduled", [queued(not_before=NOW + 1)], NOW),
    ("queued", [queued(not_before=NOW + 1)], NOW + 1),
    ("running", [queued(), started()], NOW),
    ("running", [events.Log(at=NOW, id=ID, attempt=1, stream="out", text="x", offset_bytes=0, started_at=NOW)], NOW),
    ("running", [queued(), events.Progress(at=NOW, id=ID, attempt=1, fraction=0.4)], NOW),
    ("retrying", [queued(), started(), retrying()], NOW),
    ("queued", [queued(), started(), retrying()], NOW + 20),
    ("running", [queued(), retrying(), started(copy=1, at=NOW - 30)], NOW),
    ("retrying", [retrying(copy=1), started(copy=1, at=NOW - 45)], NOW),
    ("queued", [queued(), PARKED], NOW),
    ("queued", [queued(), PARKED], NOW + 30),
    ("queued", [queued(), started(), INTERRUPTED], NOW),
    ("running", [queued(), INTERRUPTED, started(at=NOW - 10)], NOW),
    ("succeeded", [succeeded(), dead(copy=4)], NOW),
    ("dead", [dead(), CANCELLED], NOW),
    ("cancelled", [CANCELLED, EXPIRED], NOW),
    ("expired", [queued(), EXPIRED], NOW),
    ("queued", [succeeded(), queued(chain=1, copy=2)], NOW),
    ("succeeded", [dead(chain=0, copy=9), succeeded(chain=1)], NOW),
]


@pytest.mark.parametrize(("state", "history", "now"), STATES)
def test_the_state_after_these_events(state: str, history: list[events.Event], now: float) -> None:
    assert told(*history, now=now).state == state
    assert told(*reversed(history), now=now).state == state


def test_a_job_is_told_whole() -> None:
    call = {"args": ["a.jpg"], "kwargs": {"width": 8}}
    options = {"max_attempts": 4, "timeout_s": 30.0, "tags": ["x"], "label": "l", "run": "r", "seq": 3, "priority": 8}
    row = told(queued(**call, **options), succeeded(result=b'{"a":1}', truncated=True))
    assert row.name == "tasks.fetch('a.jpg', width=8)"
    assert (row.max_attempts, row.timeout_s, row.tags, row.label, row.run, row.seq) == (4, 30.0, ["x"], "l", "r", 3)
    assert (row.priority, row.user, row.attempt, row.worker, row.host, row.pid) == (
        8,
        ledger.ME,
        1,
        "web3-91c0",
        "web3",
        77,
    )
    assert (row.wait_s, row.took_s, row.is_ended, row.short_id) == (50, 10, True, "k7f2m9xq")
    assert row.result is not None
    assert (bytes(row.result), row.result_bytes, row.truncated) == (b'{"a":1}', 7, True)


def test_of_a_job_whose_beginning_was_never_seen_the_rest_is_told() -> None:
    row = told(dead())
    assert (row.state, row.task, row.argv, row.body, row.queue, row.created_at) == (
        "dead",
        None,
        None,
        None,
        "task_queue",
        None,
    )


def test_a_manual_retry_begins_anew_and_keeps_its_history() -> None:
    history = [queued(), dead(), queued(chain=1, copy=2, at=NOW - 5, iat=NOW - 100)]
    row = told(*history)
    assert (row.state, row.attempt, row.error, row.started_at, row.chain, row.due_at) == (
        "queued",
        0,
        None,
        None,
        1,
        NOW - 5,
    )
    with a_view(history) as store:
        assert [(attempt.chain, attempt.outcome) for attempt in store.attempts(ID)] == [(0, "dead")]


def test_how_many_attempts_there_are_is_the_jobs_wish_else_what_its_last_run_had() -> None:
    assert told(queued()).max_attempts is None
    assert told(queued(argv=["curl"])).max_attempts == 4
    assert told(queued(), started(max_attempts=2)).max_attempts == 2
    assert told(queued(), retrying(max_attempts=6), started(copy=1, at=NOW - 5, max_attempts=3)).max_attempts == 3
    assert told(queued(max_attempts=7), dead(max_attempts=2)).max_attempts == 7
    assert told(queued(), dead(max_attempts=2), queued(chain=1, copy=2, at=NOW - 5)).max_attempts is None
    assert told(queued(), dead(max_attempts=2**70)).max_attempts is None


def test_hand_backs_are_counted_once_for_each_run() -> None:
    other = events.Interrupted(at=NOW - 3, id=ID, attempt=1, ran=run(NOW - 9, NOW - 3))
    assert told(queued(), INTERRUPTED, INTERRUPTED, other).interruptions == 2


def test_a_run_that_told_no_end_counts_as_cut_short_once_another_began() -> None:
    with a_view([queued(), started(), started(at=NOW - 10)]) as store:
        assert [attempt.outcome for attempt in store.attempts(ID)] == ["interrupted", "running"]
        store.fold(ledger.records([succeeded(at=NOW, ran=run(NOW - 10, NOW))], 9))
        assert [attempt.outcome for attempt in store.attempts(ID)] == ["interrupted", "succeeded"]


def test_attempts_have_their_error_with_its_traceback_and_their_output() -> None:
    output = attempts.Stream(head="line\n", total_bytes=5)
    with a_view([dead(ran=run(NOW - 50, NOW - 40, stdout=output))]) as store:
        (attempt,) = store.attempts(ID)
        row = store.job(ID)
    assert attempt.error == TIMEOUT
    assert attempt.stdout == output
    assert row is not None
    assert row.error is not None
    assert row.error.traceback is None


def test_logs_come_in_the_order_in_which_they_were_read_each_once() -> None:
    def log(at: float, stream: str, text: str, offset_bytes: int) -> events.Log:
        facts = {"id": ID, "attempt": 1, "started_at": NOW - 50, "worker": "w1"}
        return events.Log(at=at, stream=stream, text=text, offset_bytes=offset_bytes, **facts)

    chunks = [log(NOW - 1, "out", "b", 1), log(NOW - 2, "err", "!", 0), log(NOW - 3, "out", "a", 0)]
    with a_view([*chunks, *chunks]) as store:
        assert [chunk.text for chunk in store.logs(ID)] == ["a", "!", "b"]
        assert [chunk.text for chunk in store.logs(ID, stream="out", since=NOW - 2)] == ["b"]


def test_progress_is_that_of_the_newest_run() -> None:
    first = events.Progress(at=NOW - 45, id=ID, attempt=1, fraction=0.9, text="nearly")
    assert told(queued(), started(), first).progress == 0.9
    assert told(queued(), started(), first, retrying(), started(copy=1, at=NOW - 5)).progress is None


def test_a_cancel_request_is_told_until_the_job_ends_or_is_retried() -> None:
    request = events.Cancel(at=NOW - 8, jobs={ID: 0}, by="ana", reason="typo")
    whole_run = events.Cancel(at=NOW - 7, run="r")
    assert told(queued(), request).cancel_requested_at == NOW - 8
    assert told(queued(run="r"), whole_run).cancel_requested_at == NOW - 7
    assert told(queued(), request, CANCELLED).cancel_requested_at is None
    assert told(queued(chain=1), request, whole_run).cancel_requested_at is None


def test_the_newest_word_on_a_queue_counts_until_its_time_is_over() -> None:
    paused = events.Pause(at=NOW - 9, queue="video", until=NOW + 5, by="ana")
    resumed = events.Pause(at=NOW - 3, queue="video", paused=False)
    with a_view([paused]) as store:
        assert store.pauses() == [paused]
        assert paused_queues(store, (), NOW) == {"video": paused}
        assert paused_queues(store, (), NOW + 5) == {}
    with a_view([resumed, paused]) as store:
        assert paused_queues(store, (), NOW) == {}


def test_a_worker_is_told_by_its_newest_life_and_knows_its_functions_from_its_first_word() -> None:
    beat = ledger.worker(phase="heartbeat", at=NOW - 1, busy=3, done=7)
    old = ledger.worker(phase="offline", at=NOW + 9, started_at=NOW - 5000)
    with a_view([beat, ledger.worker(), old]) as store:
        (row,) = store.workers(10 * NOW)
    assert (row.busy, row.done, row.phase, row.functions) == (3, 7, "heartbeat", ["tasks:fetch"])
    assert [row.gone(NOW + 63), row.gone(NOW + 65)] == [False, True]


def test_a_worker_that_has_other_functions_after_a_reload_is_told_with_those() -> None:
    again = ledger.worker(at=NOW - 3, functions=["tasks:send"])
    told = [again, ledger.worker(), ledger.worker(phase="heartbeat", at=NOW - 1)]
    for order in (told, told[::-1]):
        with a_view(order) as store:
            (row,) = store.workers(10 * NOW)
        assert row.functions == ["tasks:send"]


def test_what_was_not_published_to_the_exchange_of_events_does_not_count() -> None:
    forged = Record(0, "", "jobrunner.v1.ledger", "x", events.encode(queued()))
    with a_view() as store:
        store.fold([forged])
        assert store.job(ID) is None
        assert store.anchor == (0, "x")


def test_events_of_a_later_version_are_kept_and_told_as_far_as_they_are_understood() -> None:
    later = b'{"kind":"paused","v":2,"at":5.5,"id":"%s","until":9}' % ID.encode()
    newer = events.encode(queued()).replace(b'"v":1,"at"', b'"v":2,"mood":"blue","at"', 1)
    with a_view() as store:
        store.fold([Record(n, "jobrunner.v1.events", "k", None, each) for n, each in enumerate([later, newer])])
        (unknown,) = store.unknown_events(ID)
        row = store.job(ID, now=NOW)
    assert (unknown.kind, unknown.at, unknown.body) == ("paused", 5.5, later)
    assert row is not None
    assert row.state == "queued"


HOSTILE = [
    b"",
    b"{",
    b"[" * 3000,
    b'{"kind":"succeeded"}',
    b'{"kind":5}',
    events.encode(dead(copy=2**63)),
    events.encode(dead(ran=run(pid=2**70))),
    events.encode(queued()).replace(b'"iat":', b'"iat":"x","old":'),
    b'{"kind":"queued","at":1.0,"jobs":[{"job":[]},{"job":{"id":"x"}}]}',
    b'{"kind":"cancel","at":1.0,"jobs":{"x":99999999999999999999}}',
]


@pytest.mark.parametrize("body", HOSTILE)
def test_what_nobody_of_ours_wrote_does_no_harm(body: bytes) -> None:
    with a_view() as store:
        store.fold([Record(0, "jobrunner.v1.events", "k", None, body), ledger.record(queued(IDS[1]), 1)])
        assert store.job(IDS[1]) is not None


def test_many_jobs_of_one_record_are_folded_together() -> None:
    jobs = [events.QueuedJob(job=msgspec.Raw(ledger.body(each))) for each in IDS]
    with a_view([events.Queued(at=NOW, jobs=jobs)]) as store:
        assert store.count(ledger.words()) == len(IDS)
