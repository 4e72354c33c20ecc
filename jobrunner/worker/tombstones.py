"""Cancelled jobs and runs, as every worker knows them: read from the stream of cancels before anything is consumed.

A job that waits in the delay ladder cannot be taken out of it; it is stopped when it comes.
"""

import asyncio
from collections.abc import Callable

import msgspec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing
from jobrunner.broker.stream import Record, StreamReader
from jobrunner.envelope import Envelope
from jobrunner.errors import BrokerLost, PermissionRefused
from jobrunner.worker.cancelled import CancelledJobs
from jobrunner.worker.delivered import CancelNote

QUIET_S = 0.15
"""No record for so long, once the broker reads: all that were there have been read. A stream has no end mark."""

AGAIN_S = 0.5
REFUSED_S = 5.0
"""Between two tries to read, where the broker is not ready and where it refuses."""


class Tombstones:
    """The cancels of this broker. on_cancel: called with each that arrives after `read_all`. on_pause: with each word
    on a queue, since these lie in the same stream.
    """

    def __init__(
        self,
        connection: Connection,
        on_cancel: Callable[[events.Cancel], None],
        on_pause: Callable[[events.Pause], None],
    ) -> None:
        self._connection = connection
        self._on_cancel = on_cancel
        self._on_pause = on_pause
        self._jobs = CancelledJobs()
        self._runs: dict[str, tuple[float, CancelNote]] = {}
        self._next: int | str = "first"
        self._reader: StreamReader | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._all_read: asyncio.Future[None] | None = None
        self._again: asyncio.TimerHandle | None = None

    async def read_all(self) -> None:
        """Read what is there, and go on reading; returns when it has been read, or cannot be."""
        self._all_read = asyncio.get_running_loop().create_future()
        self._connection.attach(self)
        await self._all_read

    def find(self, envelope: Envelope) -> CancelNote | None:
        """Why this attempt of the job must not start, or None.

        A job that was retried by hand after its cancel has a higher chain and starts.
        """
        state = envelope.state
        if (note := self._jobs.find(envelope.job.id, state.chain)) is not None:
            return note
        run = self._runs.get(envelope.job.run) if envelope.job.run else None
        if run is not None and envelope.job.iat <= run[0] and not state.chain:
            return run[1]
        return None

    def connection_up(self) -> None:
        """Go on after the last record that was read."""
        self._read()

    def connection_down(self) -> None:
        """The reader ends by itself. What it has not read is read on the next connection."""
        self._reader = None
        if self._quiet is not None:
            self._quiet.cancel()

    def _read(self) -> None:
        self._reader = StreamReader(self._connection, topology.CANCELS, self._take, self._ended)
        try:
            self._reader.start(self._next, on_attached=self._attached)
        except BrokerLost:
            return  # the connection comes back, and with it this call

    def _attached(self) -> None:
        """Silence tells nothing before the broker has answered a question that was asked after it: it may be slow."""
        if self._reader is not None:
            self._reader.probe(self._expect_more)

    def _take(self, record: Record) -> None:
        self._next = record.offset + 1
        self._expect_more()
        if record.exchange != topology.EVENTS:
            return
        try:
            event = events.decode(record.body)
        except msgspec.DecodeError:
            return
        if isinstance(event, events.Cancel):
            self.add(event)
        elif isinstance(event, events.Pause):
            self._on_pause(event)

    def add(self, event: events.Cancel) -> None:
        """Note a cancel, from the stream or told directly: whichever comes first."""
        note = CancelNote(event.reason, event.by)
        self._jobs.add(event.jobs, note)
        if event.run is not None:
            self._runs[event.run] = (event.at, note)
        if self._all_read is None or self._all_read.done():
            self._on_cancel(event)

    def _ended(self, reason: Exception) -> None:
        """No such stream, or no right to read it: then cancels told directly still count. Else it is there soon."""
        self._reader = None
        refused = isinstance(reason, Missing | PermissionRefused)
        if refused:
            self._done()
        self._again = asyncio.get_running_loop().call_later(REFUSED_S if refused else AGAIN_S, self._retry)

    def _retry(self) -> None:
        if self._reader is None and self._connection.is_open:
            # it may have been deleted, and one of its name has other records at the same places
            self._next = "first"
            self._read()

    def _expect_more(self) -> None:
        if self._all_read is None or self._all_read.done():
            return
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(QUIET_S, self._done)

    def _done(self) -> None:
        if self._all_read is not None and not self._all_read.done():
            self._all_read.set_result(None)

    def close(self) -> None:
        """Read no more."""
        self._connection.detach(self)
        for timer in (self._quiet, self._again):
            if timer is not None:
                timer.cancel()
        if self._reader is not None:
            self._reader.close()
