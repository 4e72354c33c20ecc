"""A busy worker on a terminal: over 20 lines a second become one summary a second."""

import asyncio
import logging
from collections import Counter
from typing import Final, TextIO

from jobrunner.cli import out
from jobrunner.cli.pretty import clock
from jobrunner.cli.records import action_of

LINES_A_SECOND: Final = 20
_WORDS: Final = {
    "job.started": "started",
    "job.succeeded": "succeeded",
    "job.retrying": "to be tried again",
    "job.parked": "parked",
    "job.dead": "dead",
    "job.expired": "expired",
    "job.handed_back": "handed back",
}


class SummaryHandler(logging.StreamHandler[TextIO]):
    """Writes records as they come; after 20 lines of jobs in a second the rest is counted, and told at its end."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._second = 0
        self._lines = 0
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        action = action_of(record)
        if not action.startswith("job."):
            self._tell(record)
            super().emit(record)
            return
        if int(record.created) != self._second:
            self._tell(record)
            self._second, self._lines = int(record.created), 0
        self._lines += 1
        if self._lines <= LINES_A_SECOND:
            super().emit(record)
            return
        self._counts[action] += 1
        self._tell_later(record)

    def _tell_later(self, record: logging.LogRecord) -> None:
        """The last second of a burst has no record after it: a timer tells of it."""
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._timer = loop.call_later(max(0.0, self._second + 1 - record.created), self._tell, record)

    def _tell(self, record: logging.LogRecord) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._counts:
            return
        words = ", ".join(f"{count:,} {_WORDS.get(action, action)}" for action, count in self._counts.items())
        self._counts.clear()
        self.stream.write(out.plain(f"{clock(record)} … and {words}\n", self.stream))
        self.flush()

    def close(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().close()
