"""Which job decides which inputs, and what its end means for each of them."""

import time
from collections.abc import Callable, Sequence

from jobrunner.errors import JobrunnerError
from jobrunner.mapping.items import FINAL, Ended, Item, Job, ended_alone, ended_within, never_queued, parts_of
from jobrunner.mapping.line import Line
from jobrunner.outcome import Part
from jobrunner.watch import End


class Ends:
    """The jobs that are waited for.

    again_alone: gets the calls of a batch that are to be tried on their own: what did not run, and what failed.
    retries: how often that may be, None: what the function says, and not at all if it says so.
    """

    def __init__(self, line: Line, again_alone: Callable[[list[Item]], None], *, retries: int | None) -> None:
        self._line = line
        self._again_alone = again_alone
        self._retries = retries
        self._jobs: dict[str, Job] = {}
        self.running: set[str] = set()

    def wants(self, job_id: str, chain: int) -> bool:
        """Whether that end is waited for."""
        job = self._jobs.get(job_id)
        return job is not None and job.end is None and chain >= job.chain

    def open(self) -> dict[str, int]:
        """Jobs that go on: id -> chain."""
        return {job_id: job.chain for job_id, job in self._jobs.items() if job.end is None}

    def oldest_at(self) -> float:
        """When the oldest of them was queued, in seconds since the epoch."""
        return next((job.at for job in self._jobs.values()), time.time())

    def expect(self, job_id: str, job: Job) -> None:
        """Wait for a job; before it is published, so that its end is not missed."""
        self._jobs[job_id] = job

    def join(self, job_id: str, item: Item, index: int) -> None:
        """One more input that a batch decides which was queued before."""
        job = self._jobs[job_id]
        if job.end is not None:
            self._decide([item], [index], job.end)
        elif job.indexes is not None:
            job.items.append(item)
            job.indexes.append(index)

    def note_running(self, job_id: str, is_running: bool) -> None:
        """A job has begun to run, or will run again later."""
        if is_running and job_id in self._jobs:
            self.running.add(job_id)
        else:
            self.running.discard(job_id)

    def take(self, end: End) -> None:
        """A job has ended. One that is not waited for is left alone."""
        if not self.wants(end.id, end.chain):
            return
        self.running.discard(end.id)
        job = self._jobs[end.id]
        if job.indexes is None:
            del self._jobs[end.id]
            self._line.ended(job.items[0], ended_alone(job.items[0], end))
            return
        if job.is_adopted:
            job.end = end  # inputs that are still to be read may be part of it
        else:
            del self._jobs[end.id]
        items, job.items = job.items, []
        self._decide(items, job.indexes, end)

    def _decide(self, items: Sequence[Item], indexes: Sequence[int], end: End) -> None:
        parts = parts_of(end)
        if parts is None and self._is_final(end):
            for item in items:
                self._line.ended(item, ended_alone(item, end))
            return
        alone: list[Item] = []
        for item, index in zip(items, indexes, strict=True):
            part = parts[index] if parts is not None and index < len(parts) else None
            if part is None or self._may_retry(part):
                alone.append(item)
            else:
                self._line.ended(item, ended_within(item, part, end))
        if alone:
            self._again_alone(alone)

    def _may_retry(self, part: Part) -> bool:
        may = not part.once if self._retries is None else self._retries > 0
        return part.error is not None and may and part.error.reason not in FINAL

    @staticmethod
    def _is_final(end: End) -> bool:
        """Whether the end of a whole batch is the end of each call: nothing else would come of it alone."""
        if end.state == "succeeded":
            return False
        return end.state != "dead" or (end.error is not None and end.error.reason in FINAL)

    def cancelled(self, items: Sequence[Item]) -> None:
        """These will not run any more."""
        for item in items:
            self._line.ended(item, Ended(seq=item.seq, given=item.given, id=item.id, state="cancelled"))

    def never_queued(self, item: Item, error: JobrunnerError) -> None:
        """No job can be made of it."""
        self._line.ended(item, never_queued(item, error.code, error.message))

    def withdraw(self, job_ids: Sequence[str]) -> list[Item]:
        """These jobs are not queued after all. Gives the items that they would have decided."""
        jobs = [self._jobs.pop(job_id) for job_id in job_ids if job_id in self._jobs]
        return [item for job in jobs for item in job.items]

    def give_up(self) -> None:
        """Nothing more is waited for: what goes on counts as cancelled."""
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            if job.end is None:
                self.cancelled(job.items)
