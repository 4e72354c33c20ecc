"""The other workers: which of them live, how many can have died, and which messages they have lost and lived."""

from collections import OrderedDict
from collections.abc import Set as AbstractSet

TOLD_KEYS = 1000
"""Runs of which is remembered how often others have lost their message."""


class Company:
    """What one worker knows of the others. Who lives is learnt anew with each connection; the rest is kept.

    lost_after_s: so long a worker may be silent. now: monotonic seconds. alive: who lives -> when it came.
    """

    def __init__(self, lost_after_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._listening: float | None = None
        self._alive: dict[str, float] = {}
        self._since: float | None = None
        self._ever: set[str] = set()
        self._told: OrderedDict[tuple[str, int], dict[str, int]] = OrderedDict()

    @property
    def alive(self) -> AbstractSet[str]:
        """Those that are known to live."""
        return self._alive.keys()

    @property
    def is_listening(self) -> bool:
        """Whether it hears of each worker that comes."""
        return self._listening is not None

    def listens(self, now: float, at: float) -> None:
        """From now on it does. at: the same in seconds since the epoch."""
        self._listening = now
        if self._since is None:
            self._since = at

    def is_complete(self, now: float) -> bool:
        """Whether every living worker has had the time to show itself."""
        return self._listening is not None and now - self._listening >= self._lost_after_s

    def said_hello(self, member: str, now: float) -> None:
        """Has just connected."""
        self._alive[member] = now
        self._ever.add(member)

    def spoke(self, member: str, now: float) -> None:
        """Said anything."""
        self._alive.setdefault(member, now)
        self._ever.add(member)

    def left(self, member: str) -> None:
        """Has ended in good order."""
        self._alive.pop(member, None)
        self._ever.discard(member)

    def silent(self, since: float | None, now: float) -> set[str]:
        """Those of the living that have had their time to answer what all have heard then. None: nobody has yet."""
        if since is None:
            return set()
        return {member for member, came in self._alive.items() if now - max(since, came) >= self._lost_after_s}

    def forget(self, member: str) -> None:
        """It is gone without a word. Should it come back, it says hello."""
        del self._alive[member]

    def disconnected(self) -> None:
        """Nobody hears or is heard any more."""
        self._alive.clear()
        self._listening = None

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

    def most_deaths(self, queued_at: float) -> int | None:
        """How many workers can have died since then, at most: those that went without a word. None: not known, since
        this worker is younger than that.
        """
        if self._since is None or queued_at < self._since:
            return None
        return len(self._ever - self._alive.keys())
