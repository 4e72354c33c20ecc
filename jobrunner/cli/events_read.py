"""The records of the ledger, from a time on, to its present end or for ever."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Final

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing
from jobrunner.broker.stream import Record, Start, StreamReader
from jobrunner.config import Settings
from jobrunner.errors import BadValue, BrokerLost, JobrunnerError
from jobrunner.view.tail import Tail, last_record

SKEW_S: Final = 60.0
"""The ledger is read from a time by the broker's clock, and its records tell of their own: so much may lie between."""
SURE_S: Final = 10.0
"""How long a record is waited for that must come: a busy broker takes its time. Only a clock that is wrong by less than
the above makes it not come."""

UNSURE_S: Final = 1.0
"""The same for one that need not."""

AGAIN_S: Final = 1.0
"""Between two looks for a ledger that is not there."""


class Wanted:
    """Which records to show. words: beginnings of ids. kinds: as typed, with commas. Raises: BadValue."""

    def __init__(self, words: Sequence[str], kinds: str | None) -> None:
        self._prefixes = tuple(word.lower() for word in words)
        self._kinds = frozenset(kinds.split(",")) if kinds else frozenset()
        for kind in self._kinds - events.KINDS.keys():
            from jobrunner.cli.table import nearest

            known = list(events.KINDS)
            raise BadValue(problem=f"There is no kind of event '{kind}'.{nearest(kind, known)}", hint=", ".join(known))

    def takes(self, record: Record) -> bool:
        """Whether a record is one of them. Only those that came through the events exchange count."""
        if record.exchange != topology.EVENTS:
            return False
        kind, job_id = kind_of(record), record.key.rpartition(".")[2]
        if self._kinds and kind not in self._kinds:
            return False
        if not self._prefixes or job_id.startswith(self._prefixes):
            return True
        return kind in ("queued", "cancel") and any(f'"{prefix}'.encode() in record.body for prefix in self._prefixes)


def kind_of(record: Record) -> str:
    """The kind of an event, by its routing key; a pause travels under that of cancels."""
    kind = record.key.partition(".")[0]
    return "pause" if kind == "cancel" and b'"kind":"pause"' in record.body else kind


async def recorded(settings: Settings, start: float) -> AsyncGenerator[Record]:
    """Records from a time on (seconds since the epoch) up to now, in order.

    Raises: the broker's errors. A ledger that does not exist is an empty one.
    """
    begun, timeout_s = time.time(), settings.connect_timeout_s
    connection = Connection(settings.url, role="events", notify=lambda _: None, connect_timeout_s=timeout_s)
    await connection.connect_once()
    try:
        last = await last_record(connection, timeout_s)
        if last is None or (last_at := _at(last, begun)) < start - SKEW_S:
            return
        patience_s = SURE_S if last_at >= start else UNSURE_S
        with Tail(connection, datetime.fromtimestamp(start, UTC), timeout_s) as tail:
            is_over = False
            while not is_over and await tail.more(patience_s):
                await tail.reach_end()
                for record in tail.take():
                    yield record
                    is_over |= record.offset >= last.offset
    except Missing:
        return
    finally:
        await connection.close()


def _at(record: Record, unknown: float) -> float:
    try:
        return events.decode(record.body).at
    except (ValueError, RecursionError):
        return unknown


async def followed(settings: Settings, start: float | None) -> AsyncGenerator[Record]:
    """Records from a time on (None: from now on), in order and for ever; across lost connections.

    Raises: the broker's errors. A ledger that does not exist is waited for.
    """
    reading = _Reading(settings, "next" if start is None else datetime.fromtimestamp(start, UTC))
    try:
        await reading.open()
        while True:
            yield await reading.next()
    finally:
        await reading.close()


class _Reading:
    """The stream across connections: each new one goes on after the last record."""

    def __init__(self, settings: Settings, start: Start) -> None:
        self._start: Start = start
        self._found: deque[Record] = deque()
        self._changed = asyncio.Event()
        self._error: JobrunnerError | None = None
        self._reader: StreamReader | None = None
        self._again: asyncio.TimerHandle | None = None
        self._timeout_s = timeout_s = settings.connect_timeout_s
        self._connection = Connection(settings.url, role="events", notify=lambda _: None, connect_timeout_s=timeout_s)

    async def open(self) -> None:
        """Connect and begin. Raises: the broker's errors."""
        await self._connection.connect_once()
        if self._start == "next":
            # by its number: what is told while the connection is lost is not to be missed, also before the first record
            with contextlib.suppress(Missing):
                last = await last_record(self._connection, self._timeout_s)
                self._start = "first" if last is None else last.offset + 1
        self._connection.attach(self)

    def connection_up(self) -> None:
        """Begin, or go on."""
        self._reader = StreamReader(self._connection, topology.LEDGER, self._take, self._ended)
        self._reader.start(self._start)

    def connection_down(self) -> None:
        """The next connection goes on."""
        self._reader = None

    def _take(self, record: Record) -> None:
        self._start = record.offset + 1
        self._found.append(record)
        self._changed.set()

    def _ended(self, reason: Exception) -> None:
        self._reader = None
        if isinstance(reason, JobrunnerError) and not isinstance(reason, BrokerLost):
            self._error = reason
        else:
            # it does not exist yet; or its broker has just started, and takes logins while its streams are not there
            if isinstance(reason, Missing):
                self._start = "first"  # all of it is new, once it exists
            self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._look_again)
        self._changed.set()

    def _look_again(self) -> None:
        if self._connection.is_open and self._reader is None:
            self.connection_up()

    async def next(self) -> Record:
        """The next record. Raises: what ended the reading for good."""
        while not self._found:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        return self._found.popleft()

    async def close(self) -> None:
        """Leave."""
        if self._again is not None:
            self._again.cancel()
        if self._reader is not None:
            self._reader.close()
        self._connection.detach(self)
        await self._connection.close()
