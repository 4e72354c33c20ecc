"""A question that a worker has open, what became of it, and what makes one needless."""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from jobrunner.broker.consumer import Delivery
from jobrunner.worker.settlement import Run

RETURNED_KEYS = 1000
"""Runs that are remembered as handed back in good order."""


class Finding(Enum):
    """What became of a question."""

    FREE = "free"
    RUNNING = "running"
    ENDED = "ended"


OnDecided = Callable[[Run, Finding], None]
"""Called once for each question."""


class Question:
    """A job that waits for answers.

    since: monotonic seconds. asked: when last. heard: when our own question first came back to us, so that all who are
    connected have it too. said_no: who has answered that it is not theirs.
    """

    __slots__ = ("asked", "heard", "run", "said_no", "since")

    def __init__(self, run: Run, now: float) -> None:
        self.run = run
        self.since = self.asked = now
        self.heard: float | None = None
        self.said_no: set[str] = set()


class Returns:
    """The runs that were handed back in good order, here or elsewhere: they are nobody's."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, int], int] = OrderedDict()

    def note(self, key: tuple[str, int], count: int) -> None:
        """count: of the message's returns, as its next delivery will tell it."""
        self._counts[key] = count
        if len(self._counts) > RETURNED_KEYS:
            self._counts.popitem(last=False)

    def know(self, key: tuple[str, int]) -> bool:
        """Whether that run was handed back."""
        return key in self._counts

    def explain(self, key: tuple[str, int], delivery: Delivery) -> bool:
        """Whether it is this very return that has brought the delivery. Classic queues do not count: it may not be."""
        return delivery.delivery_count is not None and self._counts.get(key) == delivery.delivery_count
