"""The workers that were ever heard of: how many of them can have died, and which messages they have lost and lived."""

from collections import OrderedDict
from collections.abc import Iterable

TOLD_KEYS = 1000
"""Runs of which is remembered how often others have lost their message."""


class Company:
    """What one worker knows of the others over its whole life, reconnects included."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._ever: set[str] = set()
        self._told: OrderedDict[tuple[str, int], dict[str, int]] = OrderedDict()

    def listens(self, now: float) -> None:
        """From now on, in seconds since the epoch, it hears of each worker that comes."""
        if self._since is None:
            self._since = now

    def came(self, member: str) -> None:
        """Said something."""
        self._ever.add(member)

    def left(self, member: str) -> None:
        """Has ended in good order."""
        self._ever.discard(member)

    def tells(self, key: tuple[str, int], member: str, lost: int) -> None:
        """How often that worker has lost the message of a run. It is not forgotten when that worker dies."""
        if not lost:
            return
        counts = self._told.setdefault(key, {})
        counts[member] = max(counts.get(member, 0), lost)
        if len(self._told) > TOLD_KEYS:
            self._told.popitem(last=False)

    def lost(self, key: tuple[str, int]) -> int:
        """How often others have lost the message of that run and lived, as they have told."""
        return sum(self._told.get(key, {}).values())

    def most_deaths(self, queued_at: float, alive: Iterable[str]) -> int | None:
        """How many workers can have died since then, at most: those that went without a word. None: not known, since
        this worker is younger than that.
        """
        if self._since is None or queued_at < self._since:
            return None
        return len(self._ever - set(alive))
