"""What the ledger holds from some time on up to now, once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.stream import Record, StreamReader
from jobrunner.errors import BrokerLost

EARLIER_S: Final = 60.0
"""How much earlier the ledger is read than was asked: clocks differ."""

LINGER_S: Final = 2.0
"""Read so much longer than to the last record: a replica may be behind."""

FIRST_S: Final = 15.0
"""The first record of a ledger whose broker has just started may take so long."""

SILENT_S: Final = 5.0
"""No record for so long, and the broker answers: there are no more."""


class CatchUp:
    """Reads the ledger from `since_s` (seconds since the epoch) to where it ended when this began, and a little on.

    on_record: each record that is an event. on_reached: called once it has come to that end. on_done: called once, when
    it is over, with whether it came to that end. failure: why it did not.
    """

    def __init__(
        self,
        connection: Connection,
        since_s: float,
        on_record: Callable[[Record], None],
        on_reached: Callable[[], None],
        on_done: Callable[[bool], None],
    ) -> None:
        self._on_record = on_record
        self._on_reached = on_reached
        self._on_done: Callable[[bool], None] | None = on_done
        self.failure: Exception | None = None
        self._since_s = since_s
        self._target: int | None = None
        self._last = StreamReader(connection, topology.LEDGER, self._found_last, self._broken)
        self._reader = StreamReader(connection, topology.LEDGER, self._read, self._broken)
        self._is_reading = self._has_begun = self._lingers = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin: with the place of the last record."""
        try:
            self._last.start("last")
        except BrokerLost:
            return  # whoever holds this hears of it
        self._expect(FIRST_S)

    def close(self) -> None:
        """Read no more; `on_done` is not called any more."""
        self._on_done = None
        if self._timer is not None:
            self._timer.cancel()
        self._last.close()
        self._reader.close()

    def _found_last(self, record: Record) -> None:
        self._target = record.offset
        if not self._is_reading:
            self._is_reading = True
            # answered behind the last record of the chunk
            self._last.probe(self._begin)

    def _begin(self) -> None:
        self._last.close()
        self._has_begun = True
        try:
            self._reader.start(datetime.fromtimestamp(max(0.0, self._since_s - EARLIER_S), UTC))
        except BrokerLost:
            return
        self._expect(SILENT_S)

    def _read(self, record: Record) -> None:
        if record.exchange == topology.EVENTS and self._on_done is not None:
            self._on_record(record)
        if self._lingers or self._target is None:
            return
        if record.offset < self._target:
            self._expect(SILENT_S)
        else:
            self._lingers = True
            self._expect(LINGER_S)
            self._on_reached()

    def _expect(self, within_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(within_s, self._silent)

    def _silent(self) -> None:
        """A broker that stands still for a while is silent too: so it is asked, and has told all before it answers."""
        asked_at = self._timer

        def answered() -> None:
            if self._timer is asked_at:  # nothing has come since
                self._done(True)

        reader = self._reader if self._has_begun else self._last
        if not reader.probe(answered):
            self._done(False)

    def _broken(self, reason: Exception) -> None:
        """No ledger, or no right to read it, or a channel that was closed."""
        self.failure = reason
        self._done(False)

    def _done(self, reached: bool) -> None:
        on_done = self._on_done
        self.close()
        if on_done is None:
            return
        if reached and not self._lingers:
            self._on_reached()
        on_done(reached)
