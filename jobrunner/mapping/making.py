"""Items become jobs, each its own or several in a batch; what is waited for is expected before it is published."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from jobrunner.envelope import Envelope
from jobrunner.errors import JobrunnerError
from jobrunner.mapping.ends import Ends
from jobrunner.mapping.items import Item, Job
from jobrunner.mapping.recipe import Recipe
from jobrunner.mapping.tally import Tally

Make = Callable[[list[Item]], list[Envelope]]
Batch = tuple[list[Item], Make]
"""Items, and what makes one job of them."""


class Making:
    """waits: whether ends are waited for. is_again: some of the items may have been in a batch before.

    pending: items of a batch that is not full yet.
    """

    def __init__(self, recipe: Recipe, ends: Ends, tally: Tally, *, waits: bool, is_again: bool) -> None:
        self.pending: list[Item] = []
        self._recipe = recipe
        self._ends = ends
        self._tally = tally
        self._waits = waits
        self._is_again = is_again
        self._parts: list[bytes] = []

    def alone(self, items: Sequence[Item]) -> list[Envelope]:
        """A job for each of which one can be made."""
        envelopes = []
        for item in items:
            try:
                envelope = self._recipe.alone(item)
            except JobrunnerError as exc:
                self._never_queued(item, exc)
                continue
            if self._waits:
                self._ends.expect(envelope.job.id, Job([item], item.chain, time.time()))
            envelopes.append(envelope)
        return envelopes

    def batches(self, items: Sequence[Item]) -> Iterator[Batch]:
        """Put them into batches; gives each that is full."""
        for item in items:
            try:
                part = self._recipe.part(item)
            except JobrunnerError as exc:
                self._never_queued(item, exc)
                continue
            self.pending.append(item)
            self._parts.append(part)
            if len(self.pending) >= self._recipe.batch:
                yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        """The batch that is not full, if there is one."""
        if self.pending:
            pending, self.pending = self.pending, []
            parts, self._parts = self._parts, []
            yield pending, partial(self._together, parts)

    def _together(self, parts: Sequence[bytes], items: list[Item]) -> list[Envelope]:
        """One batch; jobs of their own where it would be too large."""
        try:
            envelope = self._recipe.together(items, parts, is_again=self._is_again)
        except JobrunnerError:
            return self.alone(items)
        if self._waits:
            self._ends.expect(envelope.job.id, Job(items, 0, time.time(), list(range(len(items)))))
        return [envelope]

    def _never_queued(self, item: Item, error: JobrunnerError) -> None:
        self._tally.never_queued()
        self._ends.never_queued(item, error)
