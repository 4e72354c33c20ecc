"""What both faces of `enqueue_many` have in common: how many calls were queued, and that it ends where one was not."""

from collections.abc import Sequence

from jobrunner.api.ends import Ticket
from jobrunner.api.window import Answer
from jobrunner.errors import JobrunnerError, NotAllQueued


class Count:
    """Calls of one input, counted as their answers come."""

    def __init__(self) -> None:
        self._queued = 0
        self._failed = 0
        self._first: JobrunnerError | None = None

    def take(self, batch: Sequence[tuple[Ticket | None, Answer]]) -> list[Ticket]:
        """Count these. The tickets of those that were queued, in input order; none where nobody waits for them."""
        found = []
        for ticket, error in batch:
            self._queued += error is None
            self._failed += error is not None
            self._first = self._first or error
            if error is None and ticket is not None:
                found.append(ticket)
        return found

    @property
    def is_short(self) -> bool:
        """Whether one was not queued; then no more is to be read."""
        return self._first is not None

    def total(self) -> int:
        """How many were queued: all. Raises: NotAllQueued."""
        if self._first is not None:
            raise NotAllQueued(queued=self._queued, failed=self._failed, error=self._first) from self._first
        return self._queued
