"""Many jobs of one `map`: as many at once as was asked for, their ends given in input order or as they come."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from jobrunner.api.call import Call
from jobrunner.api.ends import Ticket
from jobrunner.errors import JobrunnerError

CHUNK = 500
"""Most calls that are read from an input at once."""

Answer = JobrunnerError | None
"""None: the job and its record are confirmed."""

Source = Callable[[int], Awaitable[Sequence[Call[object]]]]
"""Gives the next calls of an input, at most so many; none at its end."""

Put = Callable[[Sequence[Call[object]], int], Awaitable[list[tuple[Ticket, Answer]]]]
"""Queues calls, the first of which has that number in its input."""


class Window:
    """Between an input and its results: never more than `limit` calls are read whose results were not yet taken."""

    def __init__(self, source: Source, put: Put, *, ordered: bool, limit: int) -> None:
        self._source = source
        self._put = put
        self._ordered = ordered
        self._limit = max(1, limit)
        self._refill = max(1, limit // 4)
        self._read = 0
        self._taken = 0
        self._exhausted = False
        self._error: BaseException | None = None
        self._wake = asyncio.Event()
        # ordered: all in input order; else: those that have ended, in the order of their ends
        self._line: deque[Ticket | JobrunnerError] = deque()
        self._held: set[Ticket] = set()

    async def run(self) -> AsyncGenerator[list[Ticket | JobrunnerError]]:
        """What has ended, some at a time; an error for a call that could not be queued. Raises: what the input raised,
        after the results of what was read before.
        """
        feeding: asyncio.Task[None] | None = None
        try:
            while True:
                self._wake.clear()
                if feeding is not None and feeding.done():
                    feeding.result()
                    feeding = None
                if feeding is None and not self._exhausted and self._room >= self._refill:
                    feeding = asyncio.create_task(self._feed())
                    feeding.add_done_callback(lambda _: self._wake.set())
                if ready := self._ready():
                    yield ready
                    self._taken += len(ready)
                elif self._exhausted and not self._line and not self._held and feeding is None:
                    break
                else:
                    await self._wake.wait()
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        if self._error is not None:
            raise self._error

    @property
    def _room(self) -> int:
        return self._limit - (self._read - self._taken)

    async def _feed(self) -> None:
        try:
            calls = await self._source(min(self._room, CHUNK))
        except Exception as exc:  # noqa: BLE001 - the input is the user's own and may raise anything
            self._error = exc
            calls = ()
        if not calls:
            self._exhausted = True
            return
        number, self._read = self._read, self._read + len(calls)
        for ticket, answer in await self._put(calls, number):
            self._add(ticket, answer)

    def _add(self, ticket: Ticket, answer: Answer) -> None:
        if self._ordered:
            self._line.append(answer or ticket)
            ticket.when_ended(self._wake.set)
        elif answer is not None:
            self._line.append(answer)
        else:
            self._held.add(ticket)
            ticket.when_ended(lambda: self._ended(ticket))

    def _ended(self, ticket: Ticket) -> None:
        self._held.discard(ticket)
        self._line.append(ticket)
        self._wake.set()

    def _ready(self) -> list[Ticket | JobrunnerError]:
        ready: list[Ticket | JobrunnerError] = []
        while self._line and (not isinstance(head := self._line[0], Ticket) or head.end is not None):
            ready.append(self._line.popleft())
        return ready
