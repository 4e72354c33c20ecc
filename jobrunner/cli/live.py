"""What happens to some jobs, as it happens: their events from now on, across lost connections."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, Self

import msgspec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.connection import Connection, ConnectionMessage
from jobrunner.broker.following import Follower
from jobrunner.broker.publisher import Publisher
from jobrunner.broker.stream import Record
from jobrunner.broker.subscription import Subscription
from jobrunner.config import Settings
from jobrunner.errors import PermissionRefused
from jobrunner.events import JobEvent

KINDS: Final = ("log", "started", "retrying", "interrupted", "parked", *events.TERMINAL)
MOST_BINDINGS: Final = 64
"""Of more jobs than this all events come, and those of others are dropped here."""


class Events(Protocol):
    """Where events come from."""

    async def next(self) -> JobEvent:
        """The next event, whenever it comes."""


class Recorded:
    """The events of jobs as a view folds them: only what the ledger keeps. jobs: id -> chain."""

    def __init__(self, jobs: Mapping[str, int]) -> None:
        self._jobs = dict(jobs)
        self._events: deque[JobEvent] = deque()
        self._arrived = asyncio.Event()

    def fold(self, records: Sequence[Record]) -> None:
        """Records of the ledger."""
        for record in records:
            if record.exchange == topology.EVENTS and record.key.rpartition(".")[2] in self._jobs:
                self.take(record.body)

    def take(self, body: bytes) -> None:
        """The body of an event; one of a later version, or of an earlier chain, is left out."""
        try:
            event = events.decode(body)
        except msgspec.DecodeError:
            return
        if isinstance(event, JobEvent) and event.chain >= self._jobs.get(event.id, event.chain + 1):
            self.add(event)

    def add(self, event: JobEvent) -> None:
        """An event."""
        self._events.append(event)
        self._arrived.set()

    async def next(self) -> JobEvent:
        """The next event, whenever it comes."""
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()


class Live:
    """The events of jobs from `async with` on, also output that the ledger does not keep. jobs: id -> chain.

    Entering raises the broker's errors. An event may come twice after a reconnect: the ledger is read again from the
    start. Events of an earlier chain are left out.
    """

    def __init__(self, settings: Settings, jobs: Mapping[str, int]) -> None:
        self._jobs = dict(jobs)
        self._found = Recorded(jobs)
        words = sorted(self._jobs) if len(self._jobs) <= MOST_BINDINGS else ["*"]
        # a binding for each kind: a `*` there might lie outside what the user may read
        keys = [f"{kind}.*.{word}" for kind in KINDS for word in words]
        self.connection = Connection(
            settings.url, role="follow", notify=_ignore, connect_timeout_s=settings.connect_timeout_s
        )
        self._publisher = Publisher(self.connection)
        self._subscription = Subscription(self.connection, keys, self._found.take, time.time())
        self._follower = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.connection.connect_once()
        try:
            await self._subscribe()
        except BaseException:
            await self.connection.close()
            raise
        return self

    async def _subscribe(self) -> None:
        await self._subscription.open_or_declare()
        if len(self._jobs) <= MOST_BINDINGS:
            with contextlib.suppress(PermissionRefused):  # then only what the ledger keeps is seen
                await self._follower.enter_async_context(
                    Follower(self.connection, self._publisher, self._jobs, self._found.add)
                )

    async def __aexit__(self, *exc_info: object) -> None:
        await self._follower.aclose()
        await self._subscription.close()
        await self.connection.close()
        self._publisher.close()

    async def next(self) -> JobEvent:
        """The next event, whenever it comes."""
        return await self._found.next()


def _ignore(_message: ConnectionMessage) -> None:
    """A lost connection is opened again; the command goes on."""
