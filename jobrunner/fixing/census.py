"""Where the open jobs must be, and where the counts of the broker say that some are not. Pure.

Every open job is at a worker that answers, or its message is ready in a queue or in a delay level. Counts can tell that
something is missing, and how much; which job it is tells only a look into the queue, unless the queue is empty.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from jobrunner.view.rows import JobRow, WorkerRow

GRACE_S: Final = 5.0
"""A job of which something was heard so recently may be on its way from one place to the next."""


class Job(msgspec.Struct, frozen=True):
    """An open job, as far as an audit asks. since: when it was last heard of, or came due."""

    id: str
    chain: int
    copy: int
    queue: str
    state: str
    since: float
    due_at: float | None
    worker: str | None
    parked: bool


def job_of(row: JobRow) -> Job:
    """The part of a row that an audit asks for."""
    due_at = row.not_before
    return Job(row.id, row.chain, row.copy, row.queue, row.state, row.state_at, due_at, row.worker, row.parked)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What broker and workers say. running: ids at workers that answered. silent: workers that did not.

    ready: messages ready in each queue; 0 where there is none. delayed: in all delay levels together. waiting: jobs
    that wait for others, in their queue and at the worker that looks after them. unrouted: those that came when their
    queue was not there.
    """

    running: frozenset[str] = frozenset()
    silent: Sequence[WorkerRow] = ()
    ready: Mapping[str, int] = {}
    delayed: int = 0
    waiting: int = 0
    unrouted: int = 0


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """Open jobs by where they must be.

    moving: heard of a moment ago. held: a silent worker said that it runs them. waiting: in their queues. later: in the
    delay levels. parked: in one or the other, since they go round and tell it only once. after: wait for others.
    """

    running: Sequence[Job]
    moving: Sequence[Job]
    held: Sequence[Job]
    waiting: Mapping[str, Sequence[Job]]
    later: Sequence[Job]
    parked: Sequence[Job]
    after: Sequence[Job] = ()

    @property
    def total(self) -> int:
        """All of them."""
        groups = (self.running, self.moving, self.held, self.later, self.parked, self.after, *self.waiting.values())
        return sum(map(len, groups))


def take(jobs: Iterable[Job], facts: Facts, now: float) -> Census:
    """Sort the open jobs. now: seconds since the epoch."""
    silent = {worker.name for worker in facts.silent}
    running: list[Job] = []
    moving: list[Job] = []
    held: list[Job] = []
    later: list[Job] = []
    parked: list[Job] = []
    after: list[Job] = []
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        if job.id in facts.running:
            running.append(job)
        elif job.state in ("scheduled", "retrying") and (job.due_at or 0.0) > now:
            # what is nearly due is already on its last way
            (later if now - job.since > GRACE_S and (job.due_at or 0.0) - now > GRACE_S else moving).append(job)
        elif now - job.since <= GRACE_S:
            moving.append(job)
        elif job.state == "waiting":
            after.append(job)
        elif job.parked:
            parked.append(job)
        elif job.state == "running" and job.worker in silent:
            held.append(job)
        else:
            waiting.setdefault(job.queue, []).append(job)
    return Census(running=running, moving=moving, held=held, waiting=waiting, later=later, parked=parked, after=after)


def short(census: Census, facts: Facts) -> dict[str, int]:
    """Queue -> how many of the jobs that must wait there have no message in it."""
    found = {}
    for queue, jobs in census.waiting.items():
        missing = len(jobs) - facts.ready.get(queue, 0)
        if missing > 0:
            found[queue] = missing
    return found


def short_later(census: Census, facts: Facts) -> int:
    """How many of the delayed jobs have no message in any delay level."""
    return max(0, len(census.later) - facts.delayed)


def short_after(census: Census, facts: Facts) -> int:
    """How many of the jobs that wait for others have no message where such jobs are."""
    return max(0, len(census.after) - facts.waiting)


def spare(census: Census, facts: Facts) -> int:
    """Messages in queues and delay levels beyond what must be there: of parked and moving jobs, or of nobody known."""
    ready = sum(max(0, count - len(census.waiting.get(queue, ()))) for queue, count in facts.ready.items())
    return ready + max(0, facts.delayed - len(census.later))


def may_hold(worker: WorkerRow, queue: str) -> bool:
    """Whether a worker could have a job of that queue."""
    return queue in worker.queues


def is_short(people: Census, facts: Facts) -> bool:
    """Whether anything is missing anywhere."""
    if short(people, facts) or short_later(people, facts) or short_after(people, facts):
        return True
    return len(people.parked) > spare(people, facts)
