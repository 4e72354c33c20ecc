"""Jobs that wait for other jobs: from what is heard to which of them may run, and which never will. Pure.

Facts may come in any order, and more than once. Of a job that was retried by hand the latest chain counts.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from jobrunner import events
from jobrunner.envelope import After
from jobrunner.outcome import Release
from jobrunner.textset import TextSet

SHORT: Final = 8
"""Characters of an id that people are shown."""

Subject = tuple[str, str]
"""What is waited for: `job` and an id, or `run` and a name."""

End = events.Succeeded | events.Dead | events.Cancelled | events.Expired

_RANK: Final = {"expired": 1, "cancelled": 2, "dead": 3, "succeeded": 4}
"""Of two ends of one chain the higher counts, as in the view."""

_HOW: Final = {"succeeded": "succeeded", "dead": "died", "cancelled": "was cancelled", "expired": "expired"}


class Drop(msgspec.Struct, frozen=True):
    """It will not run. reason: for people."""

    reason: str


class _Job:
    """A job that is waited for: its latest end."""

    def __init__(self) -> None:
        self.chain = -1
        self.state = ""

    def take(self, event: events.Event) -> bool:
        if not isinstance(event, End):
            return False
        state = events.kind_of(event)
        if (event.chain, _RANK[state]) <= (self.chain, _RANK.get(self.state, 0)):
            return False
        self.chain, self.state = event.chain, state
        return True


class _Run:
    """A run that is waited for: about ten bytes for each job of it that has ended, and the id of each that failed."""

    def __init__(self) -> None:
        self.seal: events.Sealed | None = None
        self._first = TextSet()  # those whose first chain has ended
        self._ended = self._parts = 0  # of them, those with no later chain
        self._failed: set[str] = set()
        self._later: dict[str, tuple[int, str, int]] = {}  # id -> chain, state (empty: goes on), failed calls
        self._later_ended = 0

    def take(self, event: events.Event) -> bool:
        if isinstance(event, events.Sealed):
            if self.seal is None or event.at > self.seal.at:
                self.seal = event
        elif isinstance(event, events.Queued):
            for queued in event.jobs:
                if queued.chain and (job_id := _id_of(queued)) is not None:
                    self._later_chain(job_id, queued.chain, "", 0)
        elif isinstance(event, End):
            self._end(event)
        return self.is_over

    def _end(self, event: End) -> None:
        state = events.kind_of(event)
        failed = event.failed if isinstance(event, events.Succeeded) else 0
        if event.chain or event.id in self._later:
            self._later_chain(event.id, event.chain, state, failed)
        elif not self._first.add(event.id):
            self._ended += 1
            self._parts += failed
            if state != "succeeded":
                self._failed.add(event.id)
        elif state == "succeeded" and event.id in self._failed:
            self._failed.discard(event.id)
            self._parts += failed

    def _later_chain(self, job_id: str, chain: int, state: str, failed: int) -> None:
        """A job that was retried by hand. What its first chain came to counts no more: only what fails is retried."""
        known = self._later.get(job_id)
        if known is None and job_id in self._first:
            self._ended -= 1
            self._failed.discard(job_id)
        if known is None or (chain, _RANK.get(state, 0)) > (known[0], _RANK.get(known[1], 0)):
            self._later_ended += bool(state) - bool(known and known[1])
            self._later[job_id] = (chain, state, failed)

    @property
    def is_over(self) -> bool:
        """Whether all of its jobs were queued, and have ended."""
        return self.seal is not None and self._ended + self._later_ended >= self.seal.total

    @property
    def failed(self) -> int:
        """How many failed: jobs, inputs without a job, calls within batches."""
        jobs = len(self._failed) + sum(1 for _, state, _ in self._later.values() if state not in ("", "succeeded"))
        if self.seal is None:
            return jobs
        parts = self._parts + sum(failed for _, _, failed in self._later.values()) if self.seal.parts else 0
        return jobs + self.seal.failed + parts


class Book:
    """Who waits for what, and what is known of that."""

    def __init__(self) -> None:
        self._afters: dict[str, After] = {}
        self._facts: dict[Subject, _Job | _Run] = {}
        self._waiters: dict[Subject, set[str]] = {}

    def add(self, job_id: str, after: After) -> list[Subject]:
        """A job waits. Gives those subjects that nobody waited for before."""
        self._afters[job_id] = after
        fresh = []
        for subject in subjects_of(after):
            waiters = self._waiters.setdefault(subject, set())
            if not waiters:
                fresh.append(subject)
            waiters.add(job_id)
            self._facts.setdefault(subject, _Run() if subject[0] == "run" else _Job())
        return fresh

    def remove(self, job_id: str) -> list[Subject]:
        """It waits no more. Gives those subjects that nobody waits for now; they are forgotten."""
        after = self._afters.pop(job_id, None)
        gone = []
        for subject in subjects_of(after) if after else ():
            waiters = self._waiters[subject]
            waiters.discard(job_id)
            if not waiters:
                gone.append(subject)
                del self._waiters[subject], self._facts[subject]
        return gone

    def wants(self, subject: Subject) -> bool:
        """Whether somebody waits for it."""
        return subject in self._waiters

    def take(self, event: events.Event) -> set[str]:
        """Something was heard. Gives those waiting jobs for which it may be the last thing."""
        changed: set[str] = set()
        for subject in _about(event):
            facts = self._facts.get(subject)
            if facts is not None and facts.take(event):
                changed |= self._waiters[subject]
        return changed

    def decide(self, job_id: str) -> Release | Drop | None:
        """Whether a waiting job may run, or never will; None: not yet."""
        after = self._afters[job_id]
        failures: list[str] = []
        open_ones = 0
        for name, chain in after.jobs.items():
            job = self._facts["job", name]
            assert isinstance(job, _Job)  # noqa: S101 - by its subject
            if job.chain < chain:
                open_ones += 1
            elif job.state != "succeeded":
                failures.append(f"{name[:SHORT]}, which {_HOW[job.state]}")
        if failures and after.when == "success":
            # that of one job is final; a run may still be mended while it goes on
            return Drop(f"it waited for the success of {failures[0]}")
        if after.run is not None:
            run = self._facts["run", after.run]
            assert isinstance(run, _Run)  # noqa: S101 - by its subject
            if not run.is_over:
                open_ones += 1
            elif run.failed:
                failures.append(f"the run {after.run}, of which {run.failed:,} failed")
        return None if open_ones else _verdict(after, failures)


def _verdict(after: After, failures: list[str]) -> Release | Drop:
    """All has ended."""
    if after.when == "end" or bool(failures) == (after.when == "failure"):
        return Release()
    if failures:
        return Drop(f"it waited for the success of {failures[0]}")
    names = [name[:SHORT] for name in after.jobs] + ([f"the run {after.run}"] if after.run else [])
    return Drop(f"it waited for a failure of {', '.join(names)}, and nothing failed")


def subjects_of(after: After) -> list[Subject]:
    """All that it waits for."""
    return [("job", job_id) for job_id in after.jobs] + ([("run", after.run)] if after.run is not None else [])


def _about(event: events.Event) -> Iterable[Subject]:
    """Whom an event is about."""
    job_id = getattr(event, "id", None)
    run = getattr(event, "run", None)
    if job_id is not None:
        yield "job", job_id
    if run is not None:
        yield "run", run


class _OnlyId(msgspec.Struct):
    id: str


def _id_of(queued: events.QueuedJob) -> str | None:
    """None for what is no job: anyone may have written it."""
    try:
        return msgspec.json.decode(queued.job, type=_OnlyId).id
    except (ValueError, RecursionError):
        return None
