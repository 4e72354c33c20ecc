"""The ends of jobs, as they come: what `--wait` waits for."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from jobrunner import attempts, events
from jobrunner.broker import topology
from jobrunner.broker.connection import Connection, ConnectionMessage
from jobrunner.broker.subscription import Subscription
from jobrunner.brokerurl import BrokerUrl
from jobrunner.outcome import Error

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow

RUNNING = ("started", "retrying", "interrupted")
"""Kinds that say whether a job runs now."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended.

    state: succeeded, dead, cancelled or expired. result: JSON of one that succeeded. truncated: cut at the limit.
    took_s: seconds of the last attempt, None if it never ran. stdout, stderr: what was kept of its output.
    chain: manual retries before. host: where it ran.
    """

    id: str
    state: str
    attempt: int
    result: msgspec.Raw | None = None
    truncated: bool = False
    error: Error | None = None
    started_at: float | None = None
    took_s: float | None = None
    stdout: attempts.Stream | None = None
    stderr: attempts.Stream | None = None
    chain: int = 0
    host: str | None = None


class Watch:
    """The ends of some jobs: `async with client.watch(ids=[...]) as watch`, entered before they are enqueued.

    ids: job ids, or run: the name of a run, all of whose ends come. Goes on across reconnects. Each end comes once.
    wanted: told an id and its chain, whether that end is still waited for. Without it every end comes, and the ids of
    those that came are remembered for as long as the watch lasts; with it nothing is.
    on_running: also told, of a run, which jobs begin to run (after 250 ms) and which do so no more before their end.
    Entering raises the broker errors of `jobrunner.errors`.
    """

    def __init__(
        self,
        url: BrokerUrl,
        *,
        ids: Sequence[str] = (),
        run: str | None = None,
        wanted: Callable[[str, int], bool] | None = None,
        on_running: Callable[[str, bool], None] | None = None,
        timeout_s: float,
    ) -> None:
        self._ids = frozenset(ids)
        self._run = run
        self._wanted = wanted or self._is_new
        self._on_running = on_running
        self._seen: set[str] = set()
        self._ends: deque[End] = deque()
        self._arrived = asyncio.Event()
        self._connection = Connection(url, role="watch", notify=_ignore, connect_timeout_s=timeout_s)
        self._subscription = Subscription(self._connection, self._keys(), self._take, time.time())

    def _keys(self) -> list[str]:
        """One binding for each kind: a `*` there might lie outside what the user may read."""
        if self._run is not None:
            kinds = (*events.TERMINAL, *(RUNNING if self._on_running else ()))
            return [topology.event_key(kind, self._run, "*") for kind in kinds]
        return [f"{kind}.*.{job_id}" for kind in events.TERMINAL for job_id in sorted(self._ids)]

    async def __aenter__(self) -> Self:
        await self._connection.connect_once()
        try:
            await self._subscription.open_or_declare()
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._subscription.close()
        await self._connection.close()

    async def next(self, timeout_s: float | None = None) -> End | None:
        """The next end; None when none came within `timeout_s` seconds (None: for ever)."""
        if not self._ends:
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._arrived.wait()
            except TimeoutError:
                return None
        return self._ends.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> End:
        end = await self.next()
        if end is None:
            raise StopAsyncIteration
        return end

    def _take(self, body: bytes) -> None:
        try:
            event = events.decode(body)
        except msgspec.DecodeError:
            return  # a kind of a later version, or not an event at all: not an end that this version knows
        if isinstance(event, events.Started | events.Retrying | events.Interrupted):
            if self._on_running is not None and event.run == self._run:
                self._on_running(event.id, isinstance(event, events.Started))
            return
        if not isinstance(event, events.Succeeded | events.Dead | events.Cancelled | events.Expired):
            return
        is_ours = event.run == self._run if self._run is not None else event.id in self._ids
        if is_ours and self._wanted(event.id, event.chain):
            self._ends.append(end_of(event))
            self._arrived.set()

    def _is_new(self, job_id: str, _chain: int) -> bool:
        is_new = job_id not in self._seen
        self._seen.add(job_id)
        return is_new

    def since(self, at: float) -> None:
        """No end before then is waited for any more: after a lost connection the ledger is read from there."""
        self._subscription.since_s = at

    def take_all(self) -> list[End]:
        """The ends that have come, without waiting."""
        ends = list(self._ends)
        self._ends.clear()
        return ends


def end_of(event: events.Succeeded | events.Dead | events.Cancelled | events.Expired) -> End:
    """What a terminal event says of its job's end."""
    ran = event.ran if isinstance(event, events.Succeeded | events.Dead) else None
    succeeded = event if isinstance(event, events.Succeeded) else None
    return End(
        id=event.id,
        state=events.kind_of(event),
        attempt=event.attempt,
        result=None if succeeded is None else msgspec.Raw(bytes(succeeded.result)),
        truncated=succeeded is not None and succeeded.truncated,
        error=event.error if isinstance(event, events.Dead) else None,
        started_at=ran.started_at if ran else None,
        took_s=ran.ended_at - ran.started_at if ran is not None and ran.ended_at is not None else None,
        stdout=ran.stdout if ran else None,
        stderr=ran.stderr if ran else None,
        chain=event.chain,
        host=ran.host if ran else None,
    )


def _ignore(_message: ConnectionMessage) -> None:
    """A lost connection is opened again; the wait goes on."""


def end_in(row: "JobRow") -> End:
    """The end that the ledger tells of."""
    return End(
        id=row.id,
        state=row.state,
        attempt=row.attempt,
        result=row.result,
        truncated=row.truncated,
        error=row.error,
        started_at=row.started_at,
        took_s=row.took_s,
    )
