"""A run that is taken up again: what is queued once more, what is only waited for, and what is skipped."""

import time
from collections.abc import Sequence
from typing import Final

from jobrunner.mapping.ends import Ends
from jobrunner.mapping.items import Item, Job
from jobrunner.mapping.known import Known, Past
from jobrunner.mapping.line import Line

COPY_STEP: Final = 1000
"""What the copy of a job goes up by when it is queued once more: messages of it may still lie in the delay levels."""


class Resuming:
    """Sorts inputs by what the ledger tells of them.

    only_dead: nothing else runs again. waits: what goes on is adopted.
    requeued: dead jobs that are queued once more, id -> their new chain.
    """

    def __init__(self, past: Past, line: Line, ends: Ends, *, only_dead: bool, waits: bool) -> None:
        self.requeued: dict[str, int] = {}
        self._past = past
        self._line = line
        self._ends = ends
        self._only_dead = only_dead
        self._adopts = waits and not only_dead

    async def begin(self) -> None:
        """Expect the batches that go on, and only then read the ledger once more: no end falls between."""
        active = self._past.batches() if self._adopts else {}
        for job_id, chain in active.items():
            job = Job([], chain, time.time(), [])
            job.is_adopted = True
            self._ends.expect(job_id, job)
        await self._look_again(list(active))

    async def sort(self, items: Sequence[Item]) -> list[Item]:
        """The items that are to be queued; those that go on are waited for, the others skipped."""
        todo: list[Item] = []
        adopted: list[str] = []
        for item in items:
            known = self._past.find(item.id)
            if known is None or known.state != "active" or not self._adopts:
                if self._runs(known):
                    self._line.add(item)
                    self._prepare(item, known)
                    todo.append(item)
                else:
                    self._line.counts.skipped += 1
            else:
                self._line.add(item)
                if known.job_id is not None:
                    self._ends.join(known.job_id, item, known.index)
                else:
                    item.chain, item.copy = known.chain or 0, known.copy
                    self._ends.expect(item.id, Job([item], item.chain, time.time()))
                    adopted.append(item.id)
        await self._look_again(adopted)
        return todo

    def withdraw(self, items: Sequence[Item]) -> None:
        """These are not queued after all."""
        for item in items:
            self.requeued.pop(item.id, None)

    def _runs(self, known: Known | None) -> bool:
        if self._only_dead:
            return known is not None and known.state == "dead"
        return known is None or known.state not in ("succeeded", "active")

    def _prepare(self, item: Item, known: Known | None) -> None:
        """A job that was there before is retried under its id, as the next chain of attempts."""
        if known is None or known.chain is None:
            return
        item.chain, item.copy = known.chain + 1, known.copy + COPY_STEP
        if known.state == "dead":
            self.requeued[item.id] = item.chain

    async def _look_again(self, job_ids: Sequence[str]) -> None:
        """Take the ends of jobs that ended before they were expected."""
        if not job_ids:
            return
        await self._past.refresh()
        for job_id in job_ids:
            end = self._past.end_of(job_id)
            if end is not None:
                self._ends.take(end)
