"""Where open jobs must be, and what the counts say."""

from jobrunner.fixing import census
from jobrunner.fixing.census import GRACE_S, Facts, Job
from jobrunner.view.rows import WorkerRow

NOW = 1_000_000.0
OLD = NOW - 2 * GRACE_S


def job(name: str, state: str = "queued", since: float = OLD, **fields: object) -> Job:
    facts: dict[str, object] = {"queue": "q", "due_at": None, "worker": None, "parked": False} | fields
    return Job(id=name, chain=0, copy=0, state=state, since=since, **facts)  # type: ignore[arg-type]


def worker(name: str) -> WorkerRow:
    facts = {"host": "h", "pid": 1, "version": "1", "python": "3", "slots": 1, "busy": 0, "queues": ["q"]}
    rest = {"functions": [], "allow_commands": False, "allow_import": [], "started_at": 1.0, "seen_at": NOW}
    return WorkerRow(name=name, phase="heartbeat", **facts, **rest)  # type: ignore[arg-type]


def test_each_open_job_is_in_one_place() -> None:
    jobs = [
        job("waits"),
        job("runs", "running", worker="w1"),
        job("held", "running", worker="w2"),
        job("orphan", "running", worker="w3"),
        job("fresh", since=NOW - 1),
        job("later", "scheduled", due_at=NOW + 100),
        job("nearly-due", "retrying", due_at=NOW + 1),
        job("parked", parked=True, due_at=NOW - 100),
    ]
    facts = Facts(running=frozenset({"runs"}), silent=[worker("w2")], ready={"q": 2}, delayed=1)
    found = census.take(jobs, facts, NOW)
    assert [one.id for one in found.running] == ["runs"]
    assert [one.id for one in found.held] == ["held"]
    assert [one.id for one in found.waiting["q"]] == ["waits", "orphan"]
    assert [one.id for one in found.moving] == ["fresh", "nearly-due"]
    assert [one.id for one in found.later] == ["later"]
    assert [one.id for one in found.parked] == ["parked"]
    assert found.total == len(jobs)
    assert (census.short(found, facts), census.short_later(found, facts)) == ({}, 0)


def test_fewer_messages_than_jobs_are_a_shortage_of_that_queue_alone() -> None:
    jobs = [job("a"), job("b"), job("c", queue="r"), job("d", "scheduled", due_at=NOW + 100)]
    facts = Facts(ready={"q": 5, "r": 0}, delayed=0)
    found = census.take(jobs, facts, NOW)
    assert census.short(found, facts) == {"r": 1}
    assert census.short_later(found, facts) == 1
    assert census.spare(found, facts) == 3


def test_a_queue_that_nobody_counted_has_no_message() -> None:
    found = census.take([job("a")], Facts(), NOW)
    assert census.short(found, Facts()) == {"q": 1}
