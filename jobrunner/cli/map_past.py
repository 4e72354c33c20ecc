"""An earlier map of the same name, as the view tells of it."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from jobrunner import envelope as envelopes
from jobrunner.cli import selecting, viewing
from jobrunner.cli.shared import Shared
from jobrunner.errors import JobrunnerError, NotFound, RunDiffers, RunExists
from jobrunner.mapping.items import parts_of
from jobrunner.mapping.known import Known
from jobrunner.mapping.recipe import IN_BATCHES
from jobrunner.textset import TextSet
from jobrunner.watch import End, end_in

if TYPE_CHECKING:
    from jobrunner.envelope import Job
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

PAGE: Final = 200
MANY: Final = 10**9


class ViewPast:
    """The jobs of one run. Those of single inputs are looked up when they are asked for; batches are read once."""

    def __init__(self, shared: Shared, store: "Store", run: str) -> None:
        self._shared = shared
        self._store = store
        self._run = run
        self._where = selecting.parsed([f"run:{run}"], default="all")
        self._is_batched = False
        self._own: dict[str, Known] = {}
        self._succeeded = TextSet()
        self._in_batches: dict[str, Known] = {}
        self._active: dict[str, int] = {}

    async def open(self, made_with: str, *, resumes: bool, needs_it: bool) -> bool:
        """Bring the view up to date. Gives whether there is such a run.

        resumes: whether it is to be taken up again. needs_it: whether there is nothing to do without it.
        Raises: RunExists, RunDiffers, NotFound, the broker's errors.
        """
        await self.refresh()
        template = self._template()
        if template is None and not self._store.jobs(self._where, limit=1):
            if needs_it:
                raise NotFound(message=f"There is no run '{self._run}'.", hint="jobrunner list")
            return False
        if template != made_with:
            raise RunDiffers(run=self._run, made_with=template or "another command than 'map'")
        if not resumes:
            raise RunExists(run=self._run)
        self._is_batched = made_with.endswith(IN_BATCHES)
        for row, job in self._jobs() if self._is_batched else ():
            if job.items:
                self._note(row, job)
            else:
                self._own[row.id] = _alone(row)
        return True

    def _template(self) -> str | None:
        for row in self._store.jobs(self._where, limit=1):
            job = _job(row)
            return job.template if job else None
        return None

    def _jobs(self) -> Iterator[tuple["JobRow", "Job"]]:
        """All jobs of the run, the oldest first."""
        after = None
        while True:
            rows = self._store.jobs(self._where, limit=PAGE, after=after, reverse=True)
            jobs = [(row, job) for row in rows if (job := _job(row)) is not None]
            yield from jobs
            if len(rows) < PAGE:
                return
            after = rows[-1].id

    async def refresh(self) -> None:
        """Read what has happened since."""
        await viewing.catch_up(self._shared, self._store)

    def find(self, item_id: str) -> Known | None:
        """What is known of an input. Its own job tells more than a batch that it was in."""
        if not self._is_batched:
            row = self._store.job(item_id)
            return _alone(row) if row is not None and row.run == self._run else None
        if (own := self._own.get(item_id)) is not None:
            return own
        if item_id in self._succeeded:
            return Known(state="succeeded")
        return self._in_batches.get(item_id)

    async def callbacks(self, job_id: Callable[[int], str]) -> tuple[int | None, float]:
        """Of the jobs with these ids, the number of the first that is not there; None if one of them has not ended.
        And when the first job of the run was made.
        """
        await self.refresh()
        first = self._store.jobs(self._where, limit=1, reverse=True)
        since_s = (first[0].created_at or first[0].state_at) if first else 0.0
        number = 0
        while (row := self._store.job(job_id(number))) is not None:
            if not row.is_ended:
                return None, since_s
            number += 1
        return number, since_s

    def count(self) -> int:
        """Jobs of the run."""
        return self._store.count(self._where, MANY) or 0

    def batches(self) -> dict[str, int]:
        """Batches that go on: id -> chain."""
        return dict(self._active)

    def end_of(self, job_id: str) -> End | None:
        """How a job ended; None while it goes on."""
        row = self._store.job(job_id)
        if row is None or not row.is_ended:
            return None
        attempts = self._store.attempts(job_id)
        last = attempts[-1] if attempts else None
        return msgspec.structs.replace(
            end_in(row),
            stdout=last.stdout if last else None,
            stderr=last.stderr if last else None,
            chain=row.chain,
            host=row.host,
        )

    def _note(self, row: "JobRow", job: "Job") -> None:
        """What a batch says of its inputs. One that succeeded anywhere has succeeded."""
        end = self.end_of(row.id)
        if end is None:
            self._active[row.id] = row.chain
            for index, item in enumerate(job.items):
                self._in_batches[item] = Known(state="active", job_id=row.id, index=index)
            return
        parts = parts_of(end)
        failed = Known(state="dead" if end.state == "succeeded" else end.state)
        for index, item in enumerate(job.items):
            part = parts[index] if parts is not None and index < len(parts) else None
            if part is not None and part.error is None:
                self._succeeded.add(item)
                self._in_batches.pop(item, None)
            else:
                self._in_batches.setdefault(item, failed)


def _alone(row: "JobRow") -> Known:
    return Known(state=row.state if row.is_ended else "active", chain=row.chain, copy=row.copy)


def _job(row: "JobRow") -> "Job | None":
    if row.body is None:
        return None
    try:
        return envelopes.decode(row.body, None)
    except JobrunnerError:
        return None
