"""Enqueue jobs and wait for their ends, from a program or the command line.

The order that keeps the promise: the job is confirmed first, then the record of it; only then is it reported as queued.
"""

import asyncio
import getpass
import socket
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

import msgspec

from jobrunner import events
from jobrunner.broker import declare, topology
from jobrunner.broker.batch import all_answers, batched
from jobrunner.broker.connection import Connection, ConnectionDown, ConnectionMessage, ConnectionUp
from jobrunner.broker.places import Places
from jobrunner.broker.probing import Prober
from jobrunner.broker.publisher import Answer, Message, Publisher, Refused, Returned, Stored, event_message, job_message
from jobrunner.brokerurl import BrokerUrl
from jobrunner.durations import format_duration
from jobrunner.envelope import Envelope, check_size
from jobrunner.errors import BrokerTimeout, JobrunnerError, QueueRefused, Unconfirmed, Unroutable
from jobrunner.failpoint import cut_with, failpoint
from jobrunner.watch import Watch

BATCHES_OPEN = 4
"""Bulk enqueue: batches of up to 500 jobs under way at once. Memory stays flat however long the input is."""

WINDOW = BATCHES_OPEN * events.QUEUED_BATCH_JOBS
"""Publishes under way at once: the broker always has the next ones while the disk writes the last."""

NOT_FOUND = 404

REFUSED_AGAIN_S = 0.2
"""First wait after the broker refused a job (queue full); doubles until the client's timeout."""


def whoami() -> str:
    """user@host, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class Client:
    """A connection to the broker for one program: `async with Client(url) as client`.

    timeout_s: for connecting and for each confirm. by: who enqueues, for the ledger.
    Entering raises the broker errors of `jobrunner.errors` (exit code 3).
    """

    def __init__(self, url: BrokerUrl, *, timeout_s: float = 10.0, by: str | None = None) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.by = by or whoami()
        self.connection = Connection(url, role="client", notify=self._notified, connect_timeout_s=timeout_s)
        self._publisher = Publisher(self.connection, window=WINDOW, confirm_timeout_s=timeout_s)
        self._places = Places(self.connection)
        self._declaring = asyncio.Lock()
        self._prober = Prober(self._publisher, timeout_s)
        self._up = asyncio.Event()
        self._down: JobrunnerError | None = None

    async def __aenter__(self) -> Self:
        await self.connection.connect_once()
        cut_with(lambda: self.connection.abort("cut at a failpoint"))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._prober.close()
        await self.connection.close()
        self._publisher.close()

    def _notified(self, message: ConnectionMessage) -> None:
        self._prober.hear(message)
        if isinstance(message, ConnectionUp):
            self._up.set()
        elif isinstance(message, ConnectionDown):
            self._up.clear()
            self._down = message.error

    async def wait_open(self) -> None:
        """Return once connected: a lost connection comes back by itself. Raises: why it did not, after `timeout_s`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._up.wait()
        except TimeoutError as exc:
            address, timeout = self.url.address, format_duration(self.timeout_s)
            raise self._down or BrokerTimeout(address=address, timeout=timeout) from exc

    async def depth(self, queue: str) -> tuple[int, int] | None:
        """Messages ready and consumers of a queue, as the broker counts them now; None: there is no such queue."""
        found = await declare.queue_depth(self.connection, queue)
        if found is not None:
            self._places.found(queue)
        return found

    async def enqueue(self, envelope: Envelope) -> None:
        """Queue one job. Returns once the job and its record are confirmed; creates a missing queue.

        Raises: MessageTooLarge, Unroutable, QueueRefused, BrokerBlocked, Unconfirmed (the job may be queued or not).
        """
        await self._prober.ask()
        await self._store(envelope, time.monotonic() + self.timeout_s)
        await self._record([envelope])
        failpoint("enqueue.after_confirm")

    async def enqueue_many(
        self,
        envelopes: Iterable[Envelope] | AsyncIterable[Envelope],
        on_answer: Callable[[Envelope, JobrunnerError | None], None],
    ) -> None:
        """Queue jobs as they come, many confirms under way at once; the input is read no faster than they arrive.

        on_answer is called for each job in input order: None once it and its record are confirmed, else why not.
        Raises: BrokerBlocked, BrokerTimeout and others; then the jobs without an answer were not queued.
        """
        under_way: deque[asyncio.Task[list[JobrunnerError | None]]] = deque()
        batches: deque[list[Envelope]] = deque()

        async def report() -> None:
            answers = await under_way.popleft()
            for envelope, answer in zip(batches.popleft(), answers, strict=True):
                on_answer(envelope, answer)

        async with aclosing(batched(envelopes)) as source:
            async for batch in source:
                try:
                    await self._prober.ask()
                    await self._places.ensure_all(batch)
                except JobrunnerError:
                    while under_way:  # these are on their way, and may be stored
                        await report()
                    raise
                batches.append(batch)
                under_way.append(asyncio.create_task(self._enqueue_batch(batch)))
                await asyncio.sleep(0)
                while len(under_way) >= BATCHES_OPEN or (under_way and under_way[0].done()):
                    await report()
        while under_way:
            await report()

    async def enqueue_batch(self, batch: Sequence[Envelope]) -> list[JobrunnerError | None]:
        """Queue up to 500 jobs of together at most 256 KiB (or one larger) at once, each with an answer of its own.

        Gives for each, in order, None once it and its record are confirmed, else why not.
        Raises: BrokerBlocked, BrokerTimeout, and then nothing was queued.
        """
        await self._prober.ask()
        refused: dict[str, JobrunnerError] = {}
        for envelope in batch:
            if not self._places.has(envelope) and envelope.job.queue not in refused:
                try:
                    await self._places.ensure(envelope)
                except JobrunnerError as exc:
                    refused[envelope.job.queue] = exc
        accepted = [envelope for envelope in batch if envelope.job.queue not in refused]
        answers = iter(await self._enqueue_batch(accepted))
        return [refused.get(envelope.job.queue) or next(answers) for envelope in batch]

    async def _enqueue_batch(self, batch: Sequence[Envelope]) -> list[JobrunnerError | None]:
        began = time.monotonic()
        answers = await all_answers(self._publisher, [self._message(envelope) for envelope in batch])
        results: list[JobrunnerError | None] = []
        deadline = time.monotonic() + self.timeout_s  # for all of them: each has its try, but not each the whole time
        for envelope, answer in zip(batch, answers, strict=True):
            is_stored = isinstance(answer, Stored)
            results.append(None if is_stored else await self._insist(envelope, answer, began, deadline))
        stored = [envelope for envelope, error in zip(batch, results, strict=True) if error is None]
        if stored:
            try:
                await self._record(stored)
            except Unconfirmed:  # which names the first of them; each is told by its own id
                unconfirmed = [self._unconfirmed(envelope.job.id, began) for envelope in batch]
                return [error or other for error, other in zip(results, unconfirmed, strict=True)]
            except JobrunnerError as exc:
                return [error or exc for error in results]
        return results

    async def _insist(self, envelope: Envelope, answer: Answer, began: float, deadline: float) -> JobrunnerError | None:
        """What the one-by-one way makes of a job that the batch could not store."""
        if isinstance(answer, Returned) or getattr(answer, "code", 0) == NOT_FOUND:
            self._places.lost(envelope.job.queue)
        if not isinstance(answer, Returned | Refused):
            return self._unconfirmed(envelope.job.id, began)
        try:
            await self._store(envelope, deadline)
        except JobrunnerError as exc:
            return exc
        return None

    def _message(self, envelope: Envelope) -> Message:
        if envelope.waits:
            return job_message(envelope, topology.WAITING, topology.encode_word(envelope.job.queue))
        if self.url.route == "jobs":  # a delayed job as well: the worker that gets it puts it into the ladder
            return job_message(envelope, *topology.route(0.0, envelope.job.queue))
        if not envelope.state.not_before_ms:
            return job_message(envelope, "", envelope.job.queue)
        delay_s = envelope.state.not_before_ms / 1000 - time.time()
        return job_message(envelope, *topology.route(max(0.0, delay_s), envelope.job.queue))

    async def _store(self, envelope: Envelope, deadline: float) -> None:
        """Publish the job until it is stored. A queue that vanished is created again; a full one is tried again."""
        check_size(envelope)
        await self._places.ensure(envelope)
        wait_s = REFUSED_AGAIN_S
        while True:
            published = time.monotonic()
            failpoint("enqueue.before_publish")
            answer = await self._publisher.publish_confirmed(self._message(envelope))
            failpoint("enqueue.after_publish")
            match answer:
                case Stored():
                    self._prober.answered()
                    return
                case Returned() | Refused(code=404):  # its queue is gone, or an exchange on the way there
                    self._places.lost(envelope.job.queue)
                    error: JobrunnerError = Unroutable(queue=envelope.job.queue, user=self.url.user)
                    if time.monotonic() > deadline:
                        raise error
                    await asyncio.sleep(wait_s if isinstance(answer, Refused) else 0.0)
                    await self._places.ensure(envelope)
                case Refused(code=403):
                    raise self._prober.forbidden()
                case Refused():
                    if time.monotonic() + wait_s > deadline:
                        raise QueueRefused(queue=envelope.job.queue)
                    await asyncio.sleep(wait_s)
                    wait_s *= 2
                case _:
                    raise self._unconfirmed(envelope.job.id, published)

    async def _record(self, stored: Sequence[Envelope]) -> None:
        """The `queued` event of jobs that are stored."""
        jobs = [
            events.QueuedJob(
                job=msgspec.Raw(envelope.body),
                priority=envelope.priority,
                not_before=envelope.state.not_before_ms / 1000 or None,
                chain=envelope.state.chain,
                copy=envelope.state.copy,
                waits=envelope.waits,
            )
            for envelope in stored
        ]
        runs = {envelope.job.run for envelope in stored}
        event = events.Queued(at=time.time(), jobs=jobs, by=self.by, run=runs.pop() if len(runs) == 1 else None)
        await self._tell(event, stored[0].job.id)

    async def seal(self, run: str, total: int, *, failed: int = 0, parts: bool = False) -> None:
        """Record that all jobs of a run are queued, see `events.Sealed`. Raises: Unconfirmed."""
        event = events.Sealed(at=time.time(), run=run, total=total, failed=failed, parts=parts, by=self.by)
        await self._tell(event, run, f"the end of run {run}")

    async def _tell(self, event: events.Event, full_id: str, name: str = "") -> None:
        """Bring an event into the ledger. Raises: Unconfirmed, of that id."""
        message = event_message(event)
        began = time.monotonic()
        while not isinstance(await self._publisher.publish_confirmed(message), Stored):
            # the exchange may not exist yet on a broker where no worker ever started. Several batches meet that at
            # once, and a channel that closes over the record of one takes the others' along: so more than one try
            try:
                async with self._declaring:
                    await declare.declare_startup(self.connection, self._publisher)
            except JobrunnerError as exc:
                # the job itself is stored: whatever went wrong since, it must not be told as refused
                raise self._unconfirmed(full_id, began, name) from exc
            if time.monotonic() > began + self.timeout_s:
                raise self._unconfirmed(full_id, began, name)

    def _unconfirmed(self, full_id: str, began: float, name: str = "") -> JobrunnerError:
        return Unconfirmed(until=self.until(began), job_id=name or full_id[:8], full_id=full_id)

    def until(self, began: float) -> str:
        """How long a confirm was waited for that did not come. began: since when, on the monotonic clock."""
        in_time = time.monotonic() - began < self.timeout_s
        return "before the connection was lost" if in_time else f"within {format_duration(self.timeout_s)}"

    def watch(
        self,
        *,
        ids: Sequence[str] = (),
        run: str | None = None,
        wanted: Callable[[str, int], bool] | None = None,
    ) -> Watch:
        """The ends of these jobs, or of all jobs of a run: enter it before enqueueing, so that none is missed.

        wanted: as for `Watch`; of jobs that have ended before, which chain's end is.
        """
        return Watch(self.url, ids=ids, run=run, wanted=wanted, timeout_s=self.timeout_s)
