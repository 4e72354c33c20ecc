"""Results in the order of the inputs, or as they come; and how many are on their way."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from jobrunner.mapping.items import Ended, Item


class Counts(msgspec.Struct):
    """Of inputs. skipped: not run again by `--resume`. cut: succeeded, but the result was cut."""

    added: int = 0
    succeeded: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    skipped: int = 0
    cut: int = 0

    @property
    def failed(self) -> int:
        """Those that ended otherwise than well."""
        return self.dead + self.cancelled + self.expired

    @property
    def ended(self) -> int:
        """Those of which nothing more comes."""
        return self.succeeded + self.failed

    @property
    def open(self) -> int:
        """Those that go on."""
        return self.added - self.ended

    def count(self, ended: Ended) -> None:
        """One more has ended."""
        match ended.state:
            case "succeeded":
                self.succeeded += 1
                self.cut += ended.truncated
            case "dead":
                self.dead += 1
            case "expired":
                self.expired += 1
            case _:
                self.cancelled += 1


class Line:
    """The inputs that were read and whose results were not given yet: never more than `limit`.

    on_ended: told of each end at once. on_result: gets each result, in the order of the inputs if `ordered`.
    """

    def __init__(
        self,
        limit: int,
        on_ended: Callable[[Ended], None],
        on_result: Callable[[Ended], None],
        *,
        ordered: bool,
    ) -> None:
        self.counts = Counts()
        self.limit = limit
        self._on_ended = on_ended
        self._on_result = on_result
        self._ordered = ordered
        self._line: deque[Item] = deque()
        self._given = 0
        self._changed = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more may be read."""
        return self.limit - (self.counts.added - self._given)

    async def change(self) -> None:
        """Wait until something has ended."""
        self._changed.clear()
        await self._changed.wait()

    def wake(self) -> None:
        """Whoever waits for a change has to look."""
        self._changed.set()

    def add(self, item: Item) -> None:
        """It is on its way."""
        self.counts.added += 1
        if self._ordered:
            self._line.append(item)

    def add_all(self, items: Sequence[Item]) -> None:
        """They are on their way."""
        self.counts.added += len(items)
        if self._ordered:
            self._line.extend(items)

    def drop(self, items: Sequence[Item]) -> None:
        """They were read and will not be queued: as if they had not been."""
        self.counts.added -= len(items)
        dropped = {item.seq for item in items}
        self._line = deque(item for item in self._line if item.seq not in dropped)

    def ended(self, item: Item, ended: Ended) -> None:
        """It has ended: give its result, and those that waited for it."""
        if item.ended is not None:
            return
        item.ended = ended
        self.counts.count(ended)
        self._on_ended(ended)
        if not self._ordered:
            self._given += 1
            self._on_result(ended)
        while self._line and (head := self._line[0].ended) is not None:
            self._line.popleft()
            self._given += 1
            self._on_result(head)
        self._changed.set()

    def give_all(self) -> None:
        """Give what has ended behind one that goes on: nothing more is waited for."""
        for item in self._line:
            if item.ended is not None:
                self._given += 1
                self._on_result(item.ended)
        self._line.clear()
