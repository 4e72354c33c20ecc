"""How many jobs a run has: what those need to know that wait for its end."""

from collections.abc import Sequence

from jobrunner.envelope import Envelope
from jobrunner.mapping.items import Ended
from jobrunner.mapping.plan import Plan


class Tally:
    """Counts the jobs of a run, those of earlier maps of the same name included."""

    def __init__(self, plan: Plan, *, is_batched: bool) -> None:
        self._seal = plan.seal
        # what fails within a batch is queued alone later, as long as its end is waited for
        self._is_late = is_batched and plan.waits
        self._is_batched = is_batched
        self._total = plan.past.count() if plan.past is not None and plan.seal is not None else 0
        self._failed = 0
        self._batches: set[str] = set()

    def queued(self, envelopes: Sequence[Envelope]) -> None:
        """Jobs go out. One of a later chain was there before."""
        for envelope in envelopes:
            self._total += not envelope.state.chain
            if self._is_late and envelope.job.items:
                self._batches.add(envelope.job.id)

    def never_queued(self) -> None:
        """An input of which no job can be made."""
        self._failed += 1

    def ended(self, ended: Ended) -> None:
        """An input has ended. A call that failed for good within a batch is nobody else's failure."""
        if self._is_late and ended.state != "succeeded" and ended.id in self._batches:
            self._failed += 1

    def is_time(self, *, is_end: bool) -> bool:
        """Whether to seal now."""
        return self._seal is not None and is_end == self._is_late

    async def seal(self) -> None:
        """Do it."""
        if self._seal is not None:
            await self._seal(self._total, self._failed, self._is_batched and not self._is_late)
