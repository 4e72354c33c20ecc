"""One program's way to the broker and back, on one event loop: what both faces of the API are made of."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from jobrunner import client as wire
from jobrunner.api.call import Call
from jobrunner.api.ends import PREFIX, SHORT, Ends, Ticket
from jobrunner.api.options import NONE_GIVEN, Options
from jobrunner.api.outbox import Outbox
from jobrunner.api.window import CHUNK, Answer, Source, Window
from jobrunner.config import Settings
from jobrunner.durations import format_about
from jobrunner.envelope import Envelope
from jobrunner.errors import JobrunnerError, NotFound, WaitTimeout
from jobrunner.ids import new_id
from jobrunner.watch import End, end_in
from jobrunner.wishes import Mold

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store


PROOF_S = 2.0
"""Of a cancel: for workers to answer that the job is not there, or has been killed. The wish holds in any case."""

_log = logging.getLogger("jobrunner")

Answers = AsyncGenerator[Sequence[tuple[Ticket | None, Answer]]]
Arrivals = AsyncGenerator[list[Ticket | JobrunnerError]]
_Put = Callable[[Sequence[Call[object]], Options, int], Awaitable[Sequence[tuple[Ticket | None, Answer]]]]


class Core(Protocol):
    """What a client needs. `BrokerCore` has a broker; `inline.InlineCore` runs jobs where they are queued, for tests.

    run: the run that all jobs of this client belong to. job_id may be the beginning of an id, of at least 4 characters.
    """

    run: str

    async def open(self) -> None:
        """Connect. Raises: the broker's errors."""

    async def close(self) -> None:
        """Wait for what is being enqueued, then leave. Jobs go on."""

    async def enqueue(self, call: Call[object], options: Options) -> Ticket:
        """Queue one job; its ticket once it is confirmed. Raises: why it is not."""

    def enqueue_many(self, source: Source, options: Options, *, waited_for: bool) -> "Answers":
        """Queue what the source gives; answers in input order, some at a time. waited_for: with tickets."""

    def map(self, source: Source, options: Options, *, ordered: bool, max_in_flight: int) -> "Arrivals":
        """Queue what the source gives and wait for the ends, some at a time."""

    async def listen(self, tickets: Sequence[Ticket]) -> None:
        """See to it that these are settled when their jobs end. Raises: the broker's errors."""

    async def end_of(self, job_id: str, timeout_s: float | None) -> End:
        """The end of any job, also of one that is not this client's. Raises: WaitTimeout, NotFound, AmbiguousId."""

    async def status(self, job_id: str) -> "JobRow":
        """All that the ledger tells of a job. Raises: NotFound, AmbiguousId."""

    async def cancel(self, job_id: str, reason: str) -> None:
        """Cancel a job: it will not start, or is stopped where it runs. Raises: NotFound, AmbiguousId."""

    async def members(self, run: str, most: int | None = None) -> Sequence["JobRow"]:
        """The jobs of a run, the first one first."""

    async def seal(self, run: str, total: int, failed: int) -> None:
        """Record that all jobs of a run are queued. failed: those that were not. Raises: Unconfirmed."""


class BrokerCore:
    """A client's connections: one publishes, one listens from the first job on that somebody may wait for."""

    def __init__(self, settings: Settings, run: str) -> None:
        self.run = run
        self.settings = settings
        self._client = wire.Client(settings.url, timeout_s=settings.connect_timeout_s)
        self._ends = Ends(settings.url, run, timeout_s=settings.connect_timeout_s)
        self._outbox = Outbox(self._client)

    async def open(self) -> None:
        """Connect. Raises: the broker's errors."""
        await self._client.__aenter__()

    async def close(self) -> None:
        """Wait for what is being enqueued, then leave. Jobs go on."""
        try:
            await self._outbox.close()
        finally:  # also where whoever closes it does not wait so long
            try:
                await self._ends.close()
            finally:
                await self._client.__aexit__(None, None, None)

    async def enqueue(self, call: Call[object], options: Options) -> Ticket:
        """Queue one job; its ticket once it is confirmed. Raises: why it is not."""
        heard = await self._ends.hear(options.run)
        envelope = call.seal(options, self.run, self._client.by, options.number())
        ticket = self._ends.expect(envelope.job.id, heard, options.run)
        (answer,) = await self._outbox.put([envelope])
        if answer is not None:
            raise answer
        return ticket

    async def enqueue_many(self, source: Source, options: Options, *, waited_for: bool) -> Answers:
        """Queue what the source gives; answers in input order, some at a time. waited_for: with tickets."""
        under_way: deque[asyncio.Future[Sequence[tuple[Ticket | None, Answer]]]] = deque()
        put: _Put = self._put if waited_for else self._put_alone
        number = 0
        failure: Exception | None = None
        try:
            while failure is None:
                try:
                    calls = await source(CHUNK)
                except Exception as exc:  # noqa: BLE001 - the input is the user's own and may raise anything
                    failure, calls = exc, ()
                if not calls:
                    break
                under_way.append(asyncio.ensure_future(put(calls, options, number)))
                number += len(calls)
                while len(under_way) >= wire.BATCHES_OPEN or (under_way and under_way[0].done()):
                    yield await under_way.popleft()
            while under_way:  # these are on their way, whatever became of the input
                yield await under_way.popleft()
        finally:
            await asyncio.gather(*under_way, return_exceptions=True)
        if failure is not None:
            raise failure

    async def _put(self, calls: Sequence[Call[object]], options: Options, number: int) -> list[tuple[Ticket, Answer]]:
        """Each with its answer, also those that cannot be sent at all."""
        sealed = self._sealed(calls, options, number)
        heard = await self._ends.hear(options.run) if options.run is not None else None
        ids = [one.job.id if isinstance(one, Envelope) else new_id() for one in sealed]
        tickets = [self._ends.expect(job_id, heard, options.run) for job_id in ids]
        return list(zip(tickets, await self._answers(sealed), strict=True))

    async def _put_alone(
        self, calls: Sequence[Call[object]], options: Options, number: int
    ) -> list[tuple[Ticket | None, Answer]]:
        """The same where nobody can wait for them later."""
        return [(None, answer) for answer in await self._answers(self._sealed(calls, options, number))]

    async def _answers(self, sealed: Sequence[Envelope | JobrunnerError]) -> list[Answer]:
        answers = await self._outbox.put([one for one in sealed if isinstance(one, Envelope)])
        if len(answers) == len(sealed):
            return answers
        found = iter(answers)
        return [next(found) if isinstance(one, Envelope) else one for one in sealed]

    def _sealed(self, calls: Sequence[Call[object]], options: Options, number: int) -> list[Envelope | JobrunnerError]:
        """Their envelopes, or why there is none."""
        sealed: list[Envelope | JobrunnerError] = []
        mold: Mold | None = None
        for place, call in enumerate(calls, start=number):
            seq = options.number(place)
            try:
                if call.given is not NONE_GIVEN:
                    sealed.append(call.seal(options, self.run, self._client.by, seq))
                    continue
                mold = mold or Mold(options.wishes(run=self.run), self._client.by)
                sealed.append(call.seal_in(mold, seq))
            except JobrunnerError as exc:
                sealed.append(exc)
        return sealed

    async def map(self, source: Source, options: Options, *, ordered: bool, max_in_flight: int) -> Arrivals:
        """Queue what the source gives and wait for the ends, some at a time."""
        await self._ends.open()
        window = Window(
            source, lambda calls, number: self._put(calls, options, number), ordered=ordered, limit=max_in_flight
        )
        arrivals = window.run()
        try:
            async for batch in arrivals:
                yield batch
        finally:
            await arrivals.aclose()

    async def listen(self, tickets: Sequence[Ticket]) -> None:
        """See to it that these are settled when their jobs end. Raises: the broker's errors."""
        await self._ends.listen(tickets)

    async def end_of(self, job_id: str, timeout_s: float | None) -> End:
        """The end of any job, also of one that is not this client's. Raises: WaitTimeout, NotFound, AmbiguousId."""
        row = await self.status(job_id)
        if row.is_ended:
            return end_in(row)
        # after a lost connection the ledger is read again: what may come of that are ends before a retry by hand
        async with self._client.watch(ids=[row.id], wanted=lambda _, chain: chain >= row.chain) as watch:
            row = await self.status(row.id)  # it may have ended before anybody listened
            end = end_in(row) if row.is_ended else await watch.next(timeout_s)
        if end is None:
            after = format_about(timeout_s or 0.0)
            raise WaitTimeout(after=after, job_id=row.id[:SHORT], prefix=row.id[:PREFIX], full_id=row.id)
        return end

    async def status(self, job_id: str) -> "JobRow":
        """All that the ledger tells of a job. Raises: NotFound, AmbiguousId."""
        with self._view() as store:
            return await self._look_up(store, job_id)

    async def cancel(self, job_id: str, reason: str) -> None:
        """Cancel a job: it will not start, or is stopped where it runs. Raises: NotFound, AmbiguousId."""
        from jobrunner.fixing.cancelling import Canceller

        url, timeout_s = self.settings.url, self.settings.connect_timeout_s
        with self._view() as store:
            row = await self._look_up(store, job_id)
            if not row.is_ended:
                async with wire.Client(url, timeout_s=timeout_s) as client:
                    await Canceller(store, client, reason=reason, wait_s=PROOF_S).run([row])

    async def members(self, run: str, most: int | None = None) -> Sequence["JobRow"]:
        """The jobs of a run, the first one first."""
        from jobrunner.view import filters, recorder

        with self._view() as store:
            await recorder.sync(store, self.settings.url, timeout_s=self.settings.connect_timeout_s)
            where = filters.parse([f"run:{run}"], now=time.time(), user="")
            rows = store.jobs(where, limit=most, reverse=True)
            # as they were queued: those of one batch have one time
            rows.sort(key=lambda row: (row.seq is None, row.seq or 0))
            return [store.job(row.id) or row for row in rows] if most is None else rows

    async def seal(self, run: str, total: int, failed: int) -> None:
        """Record that all jobs of a run are queued. failed: those that were not. Raises: Unconfirmed."""
        await self._client.wait_open()
        await self._client.seal(run, total, failed=failed)

    def _view(self) -> "Store":
        from jobrunner.view import recorder

        return recorder.open_view(self.settings, on_notice=_log.warning)

    async def _look_up(self, store: "Store", job_id: str) -> "JobRow":
        from jobrunner.view import recorder

        await recorder.sync(store, self.settings.url, timeout_s=self.settings.connect_timeout_s)
        row = store.job(store.resolve(job_id))
        if row is None:
            raise NotFound(message=f"No job is '{job_id}'.", hint="jobrunner list")
        return row
