"""How some jobs end, told as it happens."""

import asyncio
import time
from typing import Final, Self

import msgspec

from jobrunner import events
from jobrunner.broker.connection import Connection
from jobrunner.broker.subscription import Subscription
from jobrunner.brokerurl import BrokerUrl

MOST_BINDINGS: Final = 64
"""Of more jobs than this the ends of all come, and those of others are dropped here."""

End = events.Succeeded | events.Dead | events.Cancelled | events.Expired


class Endings:
    """The ends of jobs from `async with` on, in `found`: id -> event. jobs: id -> chain; earlier chains are old.

    Entering raises the broker's errors.
    """

    def __init__(self, url: BrokerUrl, jobs: dict[str, int], *, timeout_s: float) -> None:
        self.found: dict[str, End] = {}
        self._jobs = jobs
        self._arrived = asyncio.Event()
        words = sorted(jobs) if len(jobs) <= MOST_BINDINGS else ["*"]
        keys = [f"{kind}.*.{word}" for kind in events.TERMINAL for word in words]
        self._connection = Connection(url, role="ends", notify=lambda _: None, connect_timeout_s=timeout_s)
        self._subscription = Subscription(self._connection, keys, self._take, time.time())

    async def __aenter__(self) -> Self:
        await self._connection.connect_once()
        try:
            await self._subscription.open_or_declare()
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._subscription.close()
        await self._connection.close()

    async def more(self, timeout_s: float) -> None:
        """Return when another end has come, or after `timeout_s`."""
        self._arrived.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return

    def _take(self, body: bytes) -> None:
        try:
            event = events.decode(body)
        except msgspec.DecodeError:
            return  # of a later version
        if not isinstance(event, End) or event.chain < self._jobs.get(event.id, event.chain + 1):
            return
        known = self.found.get(event.id)
        if known is None or isinstance(event, events.Succeeded):  # what has succeeded has succeeded
            self.found[event.id] = event
            self._arrived.set()
