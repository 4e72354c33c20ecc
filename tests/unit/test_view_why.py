"""Why a job does not run: for each set of facts one sentence and the command that helps."""

from typing import Any

import pytest

from jobrunner.broker.control import Reply, RunningJob
from jobrunner.events import Pause
from jobrunner.instants import show_instant
from jobrunner.view.live import LiveFacts, LiveWorker, live_of_view
from jobrunner.view.rows import ENDED, JobRow
from jobrunner.view.why import explain_why, reason
from tests.support import history
from tests.support.history import IDS, NOW, TIMEOUT, a_view, queued, started

ID = IDS[0]


def job(state: str = "queued", **fields: Any) -> JobRow:
    facts = {
        "id": ID,
        "state": state,
        "state_at": NOW - 9,
        "task": "tasks:fetch",
        "queue": "video",
        "created_at": NOW - 9,
    }
    return JobRow(**{**facts, **fields})


def command(**fields: Any) -> JobRow:
    return job(**{"task": None, "argv": ["ffmpeg", "-i", "in.mov"], **fields})


def worker(name: str = "web3-91c0", **fields: Any) -> LiveWorker:
    facts = {"slots": 4, "busy": 4, "queues": ["video"], "started_at": NOW - 900, "functions": ["tasks:fetch"]}
    return LiveWorker(**{"name": name, **facts, **fields})


def live(*workers: LiveWorker, **fields: Any) -> LiveFacts:
    return LiveFacts(workers=workers, **fields)


ELSEWHERE = [worker(str(number), queues=["high", "task_queue"]) for number in range(6)]
BUSY = worker(running=frozenset({ID}))
WANTED = {"cancel_requested_at": NOW - 12}

TABLE: list[tuple[JobRow, LiveFacts, int, str, str, str]] = [
    (
        command(),
        live(*ELSEWHERE),
        0,
        "no_worker",
        "no live worker listens on 'video' (6 answered; they take high, task_queue).",
        "jobrunner worker -q video --allow-commands",
    ),
    (
        job(queue="task_queue"),
        live(),
        0,
        "no_worker",
        "no live worker listens on 'task_queue' (none answered).",
        "jobrunner worker",
    ),
    (
        job(task="pkg.jobs:go", queue="a b"),
        live(consumers=2),
        0,
        "no_worker",
        "no live worker listens on 'a b' (none answered), but 2 other consumers may take it.",
        "jobrunner worker -q 'a b' -A pkg.jobs",
    ),
    (
        job(),
        live(worker(queues=["low"]), is_asked=False),
        0,
        "no_worker",
        "no live worker listens on 'video' (1 are known; they take low).",
        "jobrunner worker -q video",
    ),
    (
        job(),
        live(worker(), worker("b")),
        37,
        "all_busy",
        "all 8 slots on 'video' are busy; 37 jobs are before it.",
        "jobrunner worker -q video",
    ),
    (
        job(),
        live(worker(slots=1, busy=1)),
        0,
        "all_busy",
        "the one slot on 'video' is busy; it is the next.",
        "jobrunner worker -q video",
    ),
    (
        job(),
        live(worker(busy=3)),
        1,
        "all_busy",
        "1 job is before it on 'video'; 3 of 4 slots there are busy.",
        "jobrunner worker -q video",
    ),
    (
        job(),
        live(worker(busy=3)),
        0,
        "starting",
        "it is the next on 'video', and 1 slot is free: it starts at this moment.",
        "jobrunner show k7f2m9xq",
    ),
    (
        job(copy=1),
        live(worker(), ready=12, full=15),
        37,
        "queue_full",
        "its queue 'video' is full (12 of at most 15 messages); what comes from a delay goes in once there is room.",
        "jobrunner worker -q video",
    ),
    (
        job(due_at=NOW - 5),
        live(ready=10, full=10),
        0,
        "queue_full",
        "its queue 'video' is full (10 of at most 10 messages); what comes from a delay goes in once there is room.",
        "jobrunner worker -q video",
    ),
    (
        job(),
        live(worker(), ready=10, full=10),
        37,
        "all_busy",
        "all 4 slots on 'video' are busy; 37 jobs are before it.",
        "jobrunner worker -q video",
    ),
    (
        job(copy=1),
        live(worker(), ready=12, full=15, paused=Pause(at=NOW - 60, queue="video", by="ana@mbp", reason="new disks")),
        37,
        "queue_paused",
        "its queue 'video' is paused by ana@mbp until it is resumed: new disks.",
        "jobrunner queues resume video",
    ),
    (
        job(queue="a b"),
        live(paused=Pause(at=NOW - 60, queue="a b", until=NOW + 600)),
        0,
        "queue_paused",
        f"its queue 'a b' is paused until {show_instant(NOW + 600, NOW)}.",
        "jobrunner queues resume 'a b'",
    ),
    (
        job(created_at=NOW - 90),
        live(worker(busy=0), ready=0),
        0,
        "not_found",
        "its queue 'video' is empty, and no worker that answered has it.",
        "jobrunner audit",
    ),
    (
        command(),
        live(worker()),
        0,
        "not_allowed",
        "no live worker may run it: worker web3-91c0 on 'video' runs no commands.",
        "jobrunner worker -q video --allow-commands",
    ),
    (
        command(),
        live(worker(allow_programs=["convert"])),
        0,
        "not_allowed",
        "no live worker may run it: worker web3-91c0 on 'video' runs no command 'ffmpeg'.",
        "jobrunner worker -q video --allow-commands",
    ),
    (
        command(),
        live(worker(allow_programs=["convert", "ffmpeg"]), ready=3),
        2,
        "all_busy",
        "all 4 slots on 'video' are busy; 2 jobs are before it.",
        "jobrunner worker -q video --allow-commands",
    ),
    (
        job(task="shop.jobs:pay"),
        live(worker(), worker("b")),
        0,
        "not_allowed",
        "no live worker may run it: none of the 2 workers on 'video' knows shop.jobs:pay.",
        "jobrunner worker -q video -A shop.jobs",
    ),
    (
        job("scheduled", not_before=NOW + 300),
        live(),
        0,
        "due_later",
        "it is due in 5m, at ",
        "jobrunner cancel k7f2m9xq && jobrunner retry k7f2m9xq",
    ),
    (
        job("retrying", not_before=NOW + 20, attempt=1, max_attempts=4, error=TIMEOUT),
        live(),
        0,
        "retry_later",
        "try 2 of 4 is due in 20 s (TimeoutError: read timed out).",
        "jobrunner logs k7f2m9xq",
    ),
    (
        job(parked=True, not_before=NOW + 100),
        live(worker()),
        0,
        "parked",
        "no worker that took it knows tasks:fetch; it is tried again in 1m40s, for a day.",
        "jobrunner worker -q video",
    ),
    (
        job("running", worker="web3-91c0", started_at=NOW - 50),
        live(),
        0,
        "worker_gone",
        "its worker web3-91c0 does not answer, last seen 40 s ago; the broker gives the job to another once",
        "jobrunner workers ping web3-91c0",
    ),
    (
        job("running", worker="web3-91c0", started_at=NOW - 50),
        live(worker(started_at=NOW - 9)),
        0,
        "worker_gone",
        "its worker web3-91c0 has been started again; the broker gives the job to another once it finds the connection",
        "jobrunner workers ping web3-91c0",
    ),
    (
        job(),
        live(worker(), blocked="disk alarm"),
        0,
        "broker_blocked",
        "RabbitMQ takes no messages (disk alarm), so workers start nothing; queued jobs are safe.",
        "rabbitmq-diagnostics alarms",
    ),
    (
        job(),
        live(worker(), has_queue=False),
        0,
        "queue_missing",
        "the broker has no queue 'video' any more, and what was in it went with it.",
        "jobrunner audit",
    ),
    (
        job(expires_at=NOW - 180),
        live(worker()),
        0,
        "expired",
        "its time to start passed 3 min ago; the worker that takes it marks it expired.",
        "jobrunner cancel k7f2m9xq",
    ),
    (
        job(**WANTED),
        live(),
        0,
        "cancel_pending",
        "a cancel was asked for 12 s ago; it will not start, and is marked cancelled when a worker takes it",
        "jobrunner worker -q video",
    ),
    (
        job("running", worker="web3-91c0", **WANTED),
        live(),
        0,
        "cancel_pending",
        "a cancel was asked for 12 s ago; its worker web3-91c0 has not answered.",
        "jobrunner cancel k7f2m9xq",
    ),
    (
        job("running", worker="web3-91c0", **WANTED),
        live(BUSY),
        0,
        "cancel_pending",
        "a cancel was asked for 12 s ago; it is being stopped on web3-91c0.",
        "jobrunner cancel k7f2m9xq",
    ),
]


@pytest.mark.parametrize(
    ("row", "facts", "ahead", "code", "text", "fix"), TABLE, ids=[f"{n}-{row[3]}" for n, row in enumerate(TABLE)]
)
def test_the_reason(row: JobRow, facts: LiveFacts, ahead: int, code: str, text: str, fix: str) -> None:
    why = reason(row, now=NOW, live=facts, ahead=ahead, seen_at=NOW - 40)
    assert why is not None
    assert (why.code, why.fix) == (code, fix)
    assert why.text.startswith(text)
    assert why.text.endswith(".")
    assert why.label


@pytest.mark.parametrize("state", ENDED)
def test_a_job_that_has_ended_needs_no_reason(state: str) -> None:
    assert reason(job(state, **WANTED), now=NOW, live=live(), ahead=0) is None


def test_a_job_that_a_worker_is_running_needs_no_reason() -> None:
    assert reason(job(), now=NOW, live=live(BUSY), ahead=0) is None
    row = job("running", worker="web3-91c0", started_at=NOW - 5)
    assert reason(row, now=NOW, live=live(worker()), ahead=0) is None


def test_modules_that_a_worker_may_import_are_counted_in() -> None:
    row = job(task="shop.jobs:pay")
    for prefixes, allowed in [(["shop"], True), (["shop.jobs"], True), (["*"], True), (["sho"], False)]:
        assert worker(allow_import=prefixes).may_run(row) is allowed


def test_workers_are_those_that_answer_or_else_those_of_the_ledger() -> None:
    reply = Reply(
        worker="w",
        host="h",
        pid=1,
        version="1",
        slots=2,
        busy=1,
        queues=["video"],
        started_at=NOW,
        running=[RunningJob(id=ID, attempt=1, started_at=NOW, pid=3, slot=1)],
    )
    assert reason(job(), now=NOW, live=live(LiveWorker.of_reply(reply)), ahead=0) is None
    others = [history.worker(at=NOW - 5), history.worker("gone", at=NOW - 90), history.worker("off", "offline")]
    with a_view([*others, queued(), queued(IDS[1], history.NOW - 50), started(IDS[2])]) as store:
        facts = LiveFacts(
            workers=[LiveWorker.of_row(row) for row in store.workers(10 * NOW) if not row.gone(NOW)], is_asked=False
        )
        assert [one.name for one in facts.workers] == ["web3-91c0"]
        row = store.job(IDS[1])
        assert row is not None
        why = explain_why(store, row, now=NOW, live=facts)
        assert why is not None
        assert (why.code, why.text) == ("all_busy", "1 job is before it on 'task_queue'; 1 of 4 slots there are busy.")
        assert live_of_view(store, "task_queue", NOW + 999).workers == []
