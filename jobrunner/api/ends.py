"""The ends of a client's jobs: one queue for all of them, and one ticket for each that somebody waits for."""

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.connection import Connection, ConnectionDown, ConnectionMessage
from jobrunner.broker.subscription import Subscription
from jobrunner.brokerurl import BrokerUrl
from jobrunner.durations import format_about, format_duration
from jobrunner.errors import (
    BrokerTimeout,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobrunnerError,
    ResultCut,
    WaitTimeout,
)
from jobrunner.watch import End, end_of

SHORT = 8
"""Characters of an id that people are shown."""

PREFIX = 4

_Watcher = tuple[Callable[[], None], asyncio.AbstractEventLoop | None]

_ENDS = events.Succeeded | events.Dead | events.Cancelled | events.Expired


class Ticket:
    """A job that somebody may wait for. end: how it ended, once that is known; read from any thread.

    Nothing keeps it but who waits: when the last handle goes, its result is dropped as it comes. run: its own; None
    where jobs run inline. chain: of a job that was retried by hand the ends of earlier chains are old. heard: keeps its
    run heard, of each client that waits for it.

    Several clients may wait for one ticket, each on its own loop, and any of them may be the first to learn of the end.
    """

    __slots__ = ("__weakref__", "_watchers", "at_s", "chain", "end", "heard", "id", "run")

    def __init__(self, job_id: str, run: str | None = None) -> None:
        self.id = job_id
        self.run = run
        self.heard: tuple[Heard, ...] = ()
        self.at_s = time.time()
        self.chain = 0
        self.end: End | None = None
        self._watchers: list[_Watcher] = []

    def settle(self, end: End) -> None:
        """It has ended. From the loop of any client."""
        if self.end is None:
            self.end = end
            self._tell()

    def when_ended(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` from this loop once it has ended; at once if it has."""
        self._watchers.append((watcher, _this_loop()))
        if self.end is not None:
            self._tell()

    def forget(self, watcher: Callable[[], None]) -> None:
        """The opposite of when_ended."""
        with contextlib.suppress(ValueError):
            self._watchers.remove((watcher, _this_loop()))

    def _tell(self) -> None:
        """Tell each once, whoever else does the same now: taking one out of a list is one step."""
        while True:
            try:
                watcher, loop = self._watchers.pop(0)
            except IndexError:
                return
            if loop is None or loop is _this_loop():
                watcher()
            else:
                with contextlib.suppress(RuntimeError):  # its loop is closed, and nobody waits there
                    loop.call_soon_threadsafe(watcher)

    async def ended(self, timeout_s: float | None = None) -> End:
        """The end, waited for. Raises: WaitTimeout after `timeout_s` seconds; None waits for ever."""
        if self.end is None and not (timeout_s is not None and timeout_s <= 0):
            arrived = asyncio.Event()
            self.when_ended(arrived.set)
            try:
                async with asyncio.timeout(timeout_s):
                    await arrived.wait()
            except TimeoutError:
                pass
            finally:
                self.forget(arrived.set)
        if self.end is None:
            raise WaitTimeout(
                after=format_about(timeout_s or 0.0), job_id=self.id[:SHORT], prefix=self.id[:PREFIX], full_id=self.id
            )
        return self.end


class Heard:
    """While it is kept, the ends of the jobs of one more run are heard. bound: done once none can be missed."""

    __slots__ = ("__weakref__", "bound")

    def __init__(self, bound: "asyncio.Future[None]") -> None:
        self.bound = bound


class Ends:
    """Listens for the ends of all jobs of a run, on a connection of its own, and settles their tickets."""

    def __init__(self, url: BrokerUrl, run: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._run = run
        self._tickets: WeakValueDictionary[str, Ticket] = WeakValueDictionary()
        self._heard: WeakValueDictionary[str, Heard] = WeakValueDictionary()
        self._connection = Connection(url, role="results", notify=self._notified, connect_timeout_s=timeout_s)
        self._subscription = Subscription(self._connection, _keys(run), self._take, time.time())
        self._opening = asyncio.Lock()
        self._is_open = False

    def expect(self, job_id: str, heard: Heard | None = None, run: str | None = None) -> Ticket:
        """The ticket of a job that is going to be queued, or that is still waited for. heard: of that run."""
        ticket = self._tickets.setdefault(job_id, Ticket(job_id, run or self._run))
        ticket.heard = () if heard is None else (heard,)
        return ticket

    async def hear(self, run: str | None) -> Heard | None:
        """Listen for the ends of another run as well, as long as what is given is kept.

        Raises: the broker's errors, also where the connection is lost and does not come back in time.
        """
        await self.open()
        if run is None:
            return None
        heard = self._heard.get(run)
        if heard is None:
            heard = self._heard[run] = Heard(asyncio.ensure_future(self._subscription.add(_keys(run))))
            weakref.finalize(heard, _later, asyncio.get_running_loop(), self._leave, run).atexit = False
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(heard.bound)  # of all who ask at once, whoever gives up
        except TimeoutError as exc:
            raise self._timed_out() from exc
        return heard

    def _timed_out(self) -> BrokerTimeout:
        return BrokerTimeout(address=self._connection.url.address, timeout=format_duration(self._timeout_s))

    def _leave(self, run: str) -> None:
        if run not in self._heard:
            self._subscription.remove(_keys(run))

    async def open(self) -> None:
        """Listen; once is enough. What has ended meanwhile of the jobs that are waited for already is found as well.

        Raises: the broker's errors.
        """
        async with self._opening:
            if self._is_open:
                return
            await self._connection.connect_once()
            waited = self._oldest()
            self._subscription.since_s = waited or time.time()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._subscription.open_or_declare(catch_up=waited is not None)
            except BaseException as exc:
                await self.close()
                if isinstance(exc, TimeoutError):
                    raise self._timed_out() from exc
                raise
            self._is_open = True

    async def listen(self, tickets: Iterable[Ticket]) -> None:
        """See to it that the ends of these are noticed: also of what was queued before anybody listened, before this
        process was forked, or by another client. Raises: the broker's errors.
        """
        strange = [ticket for ticket in tickets if ticket.end is None and self._tickets.get(ticket.id) is not ticket]
        for ticket in strange:
            self._tickets[ticket.id] = ticket
            if ticket.run != self._run and (heard := await self.hear(ticket.run)) is not None:
                ticket.heard = (*ticket.heard, heard)
        if not self._is_open:
            await self.open()
        elif strange:
            self._subscription.read_again(min(ticket.at_s for ticket in strange))

    def _oldest(self) -> float | None:
        """When the first job was queued that is still waited for."""
        return min((ticket.at_s for ticket in list(self._tickets.values())), default=None)

    async def close(self) -> None:
        """Listen no more."""
        await self._subscription.close()
        await self._connection.close()

    def _notified(self, message: ConnectionMessage) -> None:
        """After a lost connection the ledger is read, no further back than the oldest job that is waited for."""
        if isinstance(message, ConnectionDown):
            self._subscription.since_s = self._oldest() or time.time()

    def _take(self, body: bytes) -> None:
        try:
            event = events.decode(body)
        except msgspec.DecodeError:
            return  # a kind of a later version, or no event at all
        if not isinstance(event, _ENDS):
            return
        ticket = self._tickets.get(event.id)
        if ticket is not None and event.chain >= ticket.chain:
            del self._tickets[event.id]
            ticket.chain = event.chain
            ticket.settle(end_of(event))


def _this_loop() -> asyncio.AbstractEventLoop | None:
    """None where jobs run inline."""
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def _keys(run: str) -> list[str]:
    return [topology.event_key(kind, run, "*") for kind in events.TERMINAL]


def _later(loop: asyncio.AbstractEventLoop, leave: Callable[[str], None], run: str) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
        loop.call_soon_threadsafe(leave, run)


def value_of(end: End) -> Any:
    """The result of a job: plain JSON values. Raises: JobFailed, JobExpired, JobCancelled, ResultCut."""
    error = failure_of(end)
    if error is not None:
        raise error
    return None if end.result is None else msgspec.json.decode(end.result)


def failure_of(end: End) -> JobrunnerError | None:
    """Why a job has no result; None if it has."""
    short = end.id[:SHORT]
    common = {"job_id": short, "prefix": end.id[:PREFIX], "full_id": end.id}
    match end.state:
        case "succeeded":
            return ResultCut(**common) if end.truncated else None
        case "expired":
            return JobExpired(**common)
        case "cancelled":
            return JobCancelled(**common)
        case _:
            tries = f"{end.attempt} {'try' if end.attempt == 1 else 'tries'}"
            reason = end.error.headline if end.error else "no reason given"
            return JobFailed(**common, tries=tries, error=reason, details=end.error)


def taken(one: Ticket | JobrunnerError) -> Any:
    """The result of what has arrived. Raises: why there is none."""
    if isinstance(one, JobrunnerError):
        raise one
    assert one.end is not None  # noqa: S101 - it has arrived
    return value_of(one.end)
