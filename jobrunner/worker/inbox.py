"""The worker's inbox: everything that happens to it is a message here, taken by one coroutine."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

import msgspec

from jobrunner.broker.control import Reply, Request
from jobrunner.broker.publisher import Answer
from jobrunner.errors import JobrunnerError
from jobrunner.events import Cancel

M = TypeVar("M")


class Inbox(Generic[M]):
    """An unbounded queue for one reader on one loop. What fills it is bounded: slots, open publishes, timers."""

    def __init__(self) -> None:
        self._messages: deque[M] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, message: M) -> None:
        """Add a message; called from callbacks of the same loop."""
        self._messages.append(message)
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    async def get(self) -> M:
        """The oldest message; waits for one only when there is none."""
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.popleft()


class Confirmed(msgspec.Struct, frozen=True):
    """The broker's answer to publish number `index` of the run with that key."""

    key: tuple[str, int]
    index: int
    answer: Answer


class RouteReady(msgspec.Struct, frozen=True):
    """The ladder and the binding of `queue` are there; or error says why not."""

    queue: str
    error: JobrunnerError | None


class PublishAgain(msgspec.Struct, frozen=True):
    """The wait before another try of an unconfirmed consequence is over."""

    key: tuple[str, int]


class StopRequested(msgspec.Struct, frozen=True):
    """A signal, or the end of a burst (signal 0)."""

    signal: int


class GraceOver(msgspec.Struct, frozen=True):
    """Running jobs had their time to finish."""


class GiveUp(msgspec.Struct, frozen=True):
    """What is not confirmed by now stays unacked: the broker has it still."""


class ConsumersPaused(msgspec.Struct, frozen=True):
    """No consumer is left: nothing more will be delivered."""


class Asked(msgspec.Struct, frozen=True):
    """A question over the control exchange."""

    request: Request


class Answered(msgspec.Struct, frozen=True):
    """Another worker's answer to a question of ours."""

    reply: Reply


class CancelSeen(msgspec.Struct, frozen=True):
    """A cancel arrived: what runs here of it is killed."""

    event: Cancel


class RenewRequested(msgspec.Struct, frozen=True):
    """SIGHUP, or a source file changed. reason: for the log."""

    reason: str


class DumpRequested(msgspec.Struct, frozen=True):
    """SIGUSR1: the children's stacks to stderr."""


class Tick(msgspec.Struct, frozen=True):
    """Ten a second. late_s: how much later than due the loop came to it."""

    late_s: float


Local = (
    Confirmed
    | RouteReady
    | PublishAgain
    | StopRequested
    | GraceOver
    | GiveUp
    | ConsumersPaused
    | Asked
    | Answered
    | CancelSeen
    | RenewRequested
    | DumpRequested
    | Tick
)
"""The messages that the worker's own timers, signals and publishes leave."""
