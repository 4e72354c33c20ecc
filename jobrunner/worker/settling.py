"""The one way on which a job leaves a worker: publish what follows, wait for every confirm, then ack."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from jobrunner.broker import declare, places, topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.consumer import ConsumerLost, Delivery
from jobrunner.broker.publisher import Answer, Message, OnAnswer, Publisher, Returned, Stored
from jobrunner.errors import JobrunnerError
from jobrunner.failpoint import failpoint
from jobrunner.outcome import Cancelled, Dead, Defer, Done, Expired, HandBack, Release, Verdict
from jobrunner.worker import journal, settlement
from jobrunner.worker.delivered import Run
from jobrunner.worker.gathering import LARGE_BYTES, Gathering
from jobrunner.worker.inbox import Confirmed, Local, PublishAgain, RouteReady

SETTLED_KEYS = 20_000
"""Runs that are remembered as settled (about 4 MB): a redelivery of one is acked, not run again."""

AGAIN_FIRST_S = 0.5
AGAIN_MAX_S = 30.0
DRAIN_S = 1.0
NOT_FOUND = 404


class Settler:
    """Every run from its delivery to its ack, and the memory of those that were settled.

    ack, nack: settle a delivery on its channel; stale ones are dropped there, and ack gives False. release: of a job
    that waited, let the broker move it to its queue.
    on_left: called with a run that has ended though its message is with the broker still, and will come again; and with
    one that goes back to its queue.
    """

    def __init__(
        self,
        connection: Connection,
        worker: str,
        post: Callable[[Local], None],
        ack: Callable[[Delivery], bool],
        nack: Callable[[Delivery], object],
        release: Callable[[Delivery], object],
    ) -> None:
        self.connection = connection
        self.publisher = Publisher(connection)
        self.runs: dict[tuple[str, int], Run] = {}
        self.settled: OrderedDict[tuple[str, int], None] = OrderedDict()
        self.returned: OrderedDict[tuple[str, int], int] = OrderedDict()
        self.done = 0
        self.handed_back = 0
        self.on_left: Callable[[Run], None] = lambda _run: None
        self._worker = worker
        self._post = post
        self._ack = ack
        self._nack = nack
        self._release = release
        self._gathering = Gathering(self._publish, lambda key, answer: self._answered(key, 0, answer))
        self._routes: set[str] = set()
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._lost: set[tuple[int, str]] = set()
        self._outdated: set[str] = set()
        self._topology_missing = False

    def note_returned(self, run: Run) -> None:
        """The broker took its message back though this worker lives: no death that makes a job poison."""
        if run.delivery.settled or run.delivery.lost or run.delivery.is_current:
            return
        run.delivery.lost = True
        self.returned[run.key] = self.returned.get(run.key, 0) + 1
        if len(self.returned) > SETTLED_KEYS:
            self.returned.popitem(last=False)

    def settle(self, run: Run, verdict: Verdict) -> None:
        """Publish what follows from `verdict`; the delivery is acked once all of it is confirmed."""
        run.verdict = verdict
        run.by_copy = isinstance(verdict, HandBack) and settlement.hands_back_by_copy(run)
        if settlement.needs_ladder(run) and run.envelope.job.queue not in self._routes:
            self._prepare(run.envelope.job.queue)
            return
        self.publish(run, settlement.plan(run, self._worker, time.time()))

    def publish(self, run: Run, messages: list[Message]) -> None:
        """Publish all facts of a verdict together; with none, the delivery is settled at once."""
        failpoint("settle.before_publish")
        run.open = dict(enumerate(messages))
        if not messages:
            self._finish(run)
        if self._may_gather(run, messages):
            self._gathering.add(run.key, messages[0])
        else:
            for index, message in enumerate(messages):
                self.publisher.publish(message, partial(self._answered, run.key, index))
        failpoint("settle.after_publish")

    def _may_gather(self, run: Run, messages: list[Message]) -> bool:
        """Whether it is a success alone, and small. Where keys are set each event has a signature of its own."""
        if not isinstance(run.verdict, Done) or len(messages) != 1 or self.connection.url.ring is not None:
            return False
        return len(messages[0].body) < LARGE_BYTES

    def announce(self, message: Message) -> None:
        """Publish an event that nothing waits for."""
        self.publisher.publish(message, _ignore)

    def _publish(self, message: Message, on_answer: OnAnswer) -> None:
        self.publisher.publish(message, on_answer)

    def _answered(self, key: tuple[str, int], index: int, answer: Answer) -> None:
        self._post(Confirmed(key, index, answer))

    def confirm(self, confirmed: Confirmed) -> None:
        """Take an answer: the last one that was open settles the delivery."""
        run = self.runs.get(confirmed.key)
        if run is None or run.open is None or confirmed.index not in run.open:
            return
        if isinstance(confirmed.answer, Stored):
            del run.open[confirmed.index]
            run.failed.discard(confirmed.index)
            if not run.open:
                self._finish(run)
            return
        if isinstance(confirmed.answer, Returned) or getattr(confirmed.answer, "code", 0) == NOT_FOUND:
            # someone deleted an exchange of ours, or the ledger: it is declared again before the next try
            self._topology_missing = True
            self._routes.clear()
        run.failed.add(confirmed.index)
        self._try_later(run, str(confirmed.answer))

    def _try_later(self, run: Run, reason: str) -> None:
        """Not stored: the delivery stays unacked, and the same messages go out again with the same ids."""
        run.tries += 1
        delay_s = min(AGAIN_MAX_S, AGAIN_FIRST_S * 2 ** min(run.tries - 1, 10))
        journal.unconfirmed(run, reason, delay_s)
        asyncio.get_running_loop().call_later(delay_s, self._post, PublishAgain(run.key))

    def publish_again(self, key: tuple[str, int]) -> None:
        """Try again what is not confirmed. Without a connection nothing happens: the next one tries."""
        run = self.runs.get(key)
        if run is None or run.verdict is None or not self.connection.is_open:
            return
        if self._topology_missing:
            self._prepare(run.envelope.job.queue)
        elif run.open is None:
            self.settle(run, run.verdict)
        else:
            failed, run.failed = run.failed, set()
            for index in sorted(failed):
                self.publisher.publish(run.open[index], partial(self._answered, key, index))

    def connected(self) -> None:
        """A new publish connection: everything that is not confirmed goes out again."""
        for key in list(self.runs):
            self.publish_again(key)

    def _prepare(self, queue: str) -> None:
        """Declare what the way to `queue` needs, once."""
        if queue not in self._preparing and self.connection.is_open:
            self._preparing[queue] = asyncio.get_running_loop().create_task(self._declare(queue))

    def consumer_lost(self, lost: ConsumerLost) -> None:
        """A queue that was deleted has lost its binding: what waits in the ladder, and what those put there who know
        the binding from before, would come to nowhere.
        """
        if lost.missing or lost.error is None:
            self._lost.add((lost.slot, lost.queue))
            self._lose_route(lost.queue)

    def consumer_ready(self, slot: int) -> None:
        """RabbitMQ ends the consumers of a quorum queue before it forgets the queue: what was declared in between is
        forgotten with it. So the way to a queue that a slot has lost is made once more when the slot consumes it again.
        """
        for lost in [lost for lost in self._lost if lost[0] == slot]:
            self._lost.discard(lost)
            self._lose_route(lost[1])

    def _lose_route(self, queue: str) -> None:
        self.connection.known.discard(topology.jobs_binding(queue).key)
        self._routes.discard(queue)
        if queue in self._preparing:
            self._outdated.add(queue)
        self._prepare(queue)

    async def _declare(self, queue: str) -> None:
        error: JobrunnerError | None = None
        try:
            if self._topology_missing:
                await declare.declare_startup(self.connection, self.publisher)
                self.connection.known.clear()
            await places.ensure_ladder(self.connection, queue)
        except JobrunnerError as exc:
            error = exc
        self._post(RouteReady(queue, error))

    def route_ready(self, ready: RouteReady) -> None:
        """The way to a queue is declared, or could not be: then it is tried again later."""
        self._preparing.pop(ready.queue, None)
        if ready.queue in self._outdated:
            self._outdated.discard(ready.queue)
            self._lose_route(ready.queue)
            return
        if ready.error is None:
            self._routes.add(ready.queue)
            self._topology_missing = False
        for run in list(self.runs.values()):
            if run.verdict is None or run.envelope.job.queue != ready.queue or (run.open and not run.failed):
                continue
            if ready.error is None:
                self.publish_again(run.key)
            else:
                self._try_later(run, str(ready.error))

    def _finish(self, run: Run) -> None:
        """Everything that replaces the message is confirmed: now, and only now, its delivery is settled."""
        failpoint("settle.after_confirm")
        if isinstance(run.verdict, HandBack) and not run.by_copy:
            for delivery in run.deliveries:
                self._nack(delivery)
            self.on_left(run)
        elif isinstance(run.verdict, Release):
            # not remembered as settled: the same message comes from its own queue now
            self._release(run.delivery)
        else:
            self._ack_all(run)
        failpoint("settle.after_ack")
        del self.runs[run.key]
        self.handed_back += isinstance(run.verdict, HandBack)
        self.done += isinstance(run.verdict, Done | Dead | Cancelled | Expired)
        journal.settled(run)

    def _ack_all(self, run: Run) -> None:
        acked = [self._ack(delivery) for delivery in run.deliveries]
        if isinstance(run.verdict, Defer):
            return  # this run goes on elsewhere
        self.remember(run.key)
        if not all(acked):
            self.on_left(run)

    def remember(self, key: tuple[str, int]) -> None:
        """That run has ended, here or elsewhere: a redelivery of it is acked."""
        self.settled[key] = None
        if len(self.settled) > SETTLED_KEYS:
            self.settled.popitem(last=False)

    def suppress(self, run: Run) -> None:
        """It has ended already, on another worker."""
        self.remember(run.key)
        del self.runs[run.key]
        for delivery in run.deliveries:
            self._ack(delivery)
        self.announce(settlement.suppressed(run.envelope, self._worker, time.time()))
        journal.suppressed(run.envelope)

    async def close(self) -> None:
        """Stop what prepares routes; wait a little for what is in flight; close the publish connection."""
        for task in self._preparing.values():
            task.cancel()
        await asyncio.gather(*self._preparing.values(), return_exceptions=True)
        if self.connection.is_open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self.publisher.drain()
        await self.connection.close()
        self.publisher.close()


def _ignore(answer: Answer) -> None:
    """An event that nothing waits for: its answer changes nothing."""
