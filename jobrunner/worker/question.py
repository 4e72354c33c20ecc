"""A question that a worker has open, what became of it, and what makes one needless."""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from jobrunner.broker.consumer import Delivery
from jobrunner.worker.delivered import Run

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
        self._known: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()

    def note(self, key: tuple[str, int], count: int) -> None:
        """count: of the message's returns, as its next delivery will tell it."""
        last, times = self._known.get(key, (0, 0))
        self._known[key] = (count, times + (count != last))
        if len(self._known) > RETURNED_KEYS:
            self._known.popitem(last=False)

    def know(self, key: tuple[str, int]) -> bool:
        """Whether that run was handed back."""
        return key in self._known

    def explain(self, key: tuple[str, int], delivery: Delivery) -> bool:
        """Whether it is this very return that has brought the delivery. Classic queues do not count: it may not be."""
        return delivery.delivery_count is not None and self._known.get(key, (0, 0))[0] == delivery.delivery_count

    def excuse(self, key: tuple[str, int], delivery: Delivery) -> int:
        """How many deliveries of that message have ended so. Of a classic queue, which does not count them, one for
        each return that is known of, and once: otherwise a job that kills its workers would be excused for ever.
        """
        if delivery.redelivered and delivery.delivery_count is None:
            return int(self._known.pop(key, None) is not None)
        return self._known.get(key, (0, 0))[1]
