"""The ledger from a place on: records as they come, and whether all that was there has come."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Self

from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.stream import Record, Start, StreamReader
from jobrunner.durations import format_duration
from jobrunner.errors import BrokerTimeout

BATCH_RECORDS: Final = 4_000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""What is folded at once; so much is held in memory."""

EMPTY_S: Final = 1.0
"""A stream that delivers nothing for so long holds nothing from there on."""

OPEN_S: Final = 0.05
"""Between two looks whether the channel is open."""


class Tail:
    """Reads the ledger on a connection: `with Tail(connection, start, timeout_s) as tail`.

    timeout_s: longest silence of the broker while it owes an answer. Methods raise what ended the reading: `Missing`
    when there is no ledger, else a JobrunnerError; BrokerTimeout.
    """

    def __init__(self, connection: Connection, start: Start, timeout_s: float) -> None:
        self.received = 0
        self._connection = connection
        self._start = start
        self._timeout_s = timeout_s
        self._records: list[Record] = []
        self._bytes = 0
        self._ended: Exception | None = None
        self._happened = asyncio.Event()
        self._reader = StreamReader(connection, topology.LEDGER, self._on_record, self._on_end)

    def __enter__(self) -> Self:
        self._reader.start(self._start)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader.close()

    def _on_record(self, record: Record) -> None:
        self.received += 1
        self._records.append(record)
        self._bytes += len(record.body)
        self._happened.set()

    def _on_end(self, reason: Exception) -> None:
        self._ended = reason
        self._happened.set()

    @property
    def is_full(self) -> bool:
        """Whether what has come should be folded before more is read."""
        return len(self._records) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES

    def take(self) -> list[Record]:
        """What has come since this was last called."""
        records, self._records = self._records, []
        self._bytes = 0
        return records

    async def first(self) -> Record | None:
        """The first record, left in place; None when there is none from there on, by a broker that does answer."""
        if not await self._until(self._has_some, EMPTY_S):
            await self._answer()
            await self._until(self._has_some, EMPTY_S)
        return self._records[0] if self._records else None

    def _has_some(self) -> bool:
        return bool(self._records)

    async def _answer(self) -> None:
        """Wait for any answer: silence could be that of a broker that is stuck. Raises: BrokerTimeout."""
        answered = False

        def on_answer() -> None:
            nonlocal answered
            answered = True
            self._happened.set()

        deadline = time.monotonic() + self._timeout_s
        while not self._reader.probe(on_answer):
            await self._until(self._has_some, OPEN_S)
            if time.monotonic() > deadline:
                raise self._timed_out()
        if not await self._until(lambda: answered, deadline - time.monotonic()):
            raise self._timed_out()

    def _timed_out(self) -> BrokerTimeout:
        return BrokerTimeout(address=self._connection.url.address, timeout=format_duration(self._timeout_s))

    async def more(self, timeout_s: float | None = None) -> bool:
        """Wait for records, so long or for ever. Whether there are any."""
        return await self._until(self._has_some, timeout_s)

    async def reach_end(self) -> bool:
        """Wait for the broker's answer behind all that it had to deliver, or until a batch is full. Whether the end of
        what there was is reached.
        """
        before = self.received
        answered = False

        def on_answer() -> None:
            nonlocal answered
            answered = True
            self._happened.set()

        self._reader.probe(on_answer)
        while not await self._until(lambda: answered or self.is_full, self._timeout_s):
            if self.received == before:
                raise self._timed_out()
            before = self.received
        return answered and self.received == before

    async def _until(self, happened: Callable[[], bool], timeout_s: float | None) -> bool:
        """Whether it happened within that time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not happened():
                    if self._ended is not None:
                        raise self._ended
                    self._happened.clear()
                    await self._happened.wait()
        except TimeoutError:
            return False
        return True


async def last_record(connection: Connection, timeout_s: float) -> Record | None:
    """The last record of the ledger at this moment; None for an empty one. Raises: Missing, JobrunnerError."""
    with Tail(connection, "last", timeout_s) as tail:
        # a ledger begins with a record, so that none is a rare thing, and worth a second look at a busy broker
        if await tail.first() is None and await tail.first() is None:
            return None
        await tail.reach_end()
        return tail.take()[-1]


async def end_of(connection: Connection, timeout_s: float) -> int | None:
    """The offset of the last record; None for an empty ledger. Raises: Missing, JobrunnerError."""
    last = await last_record(connection, timeout_s)
    return None if last is None else last.offset
