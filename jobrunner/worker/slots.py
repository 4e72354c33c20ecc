"""The pairing of channels and processes: as many channels consume as processes are free.

Usually channel n and process n go together. After a lost connection a process may still run a job whose message is with
the broker again: then its channel stays quiet, so that no job is delivered that would have to wait.

While jobs are short, one more channel, the *spare*, has a few jobs delivered ahead, so that the confirms of some
overlap the runs of others. Nothing is to wait behind a long job: from the first one on the spare is quiet, and what
waits is handed back.
"""

import asyncio
from collections.abc import Callable, Iterable

from jobrunner.broker.connection import Connection
from jobrunner.broker.consumer import ConsumerMessage, Delivery, SlotConsumer
from jobrunner.worker.delivered import Run
from jobrunner.worker.inbox import ConsumersPaused, Local

HELD_S = 2.0
"""How long a delivered job waits for a process that is being replaced, before it is handed back."""

BEHIND_S = 0.25
"""How long it waits while every process runs a job."""

SHORT_S = 0.010
"""Jobs that take less on average have others delivered ahead: waiting for confirms would cost them more."""

LONG_S = 0.1
"""A single job that takes so long ends that."""

AHEAD = 4
"""Jobs that the spare takes for each process: more brought nothing (`make bench`)."""

CLOSE_S = 1.0
"""Longest wait, at the end, for the channels to be quiet."""

_WEIGHT = 0.1


class Slots:
    """One consumer for each process of the pool, and the spare.

    ready: free processes. busy: process -> what it runs. held: delivered jobs that wait for a process.
    ahead: whether jobs are short enough for the spare to consume. queues: those that are consumed now.
    """

    def __init__(
        self,
        connection: Connection,
        queues: tuple[str, ...],
        procs: int,
        post: Callable[[ConsumerMessage | Local], None],
    ) -> None:
        self.procs = self._spare = procs
        self.consumers = [SlotConsumer(connection, slot, queues, post) for slot in range(procs)]
        self._has_spare = len(queues) == 1  # a choice among several is made when a process is free
        if self._has_spare:
            self.consumers.append(SlotConsumer(connection, procs, queues, post, prefetch=AHEAD * procs))
        self.queues = queues
        self.ready: set[int] = set()
        self.busy: dict[int, Run] = {}
        self.held: dict[tuple[str, int], Run] = {}
        self.stopped = False
        self.blocked = False
        self.ahead = False
        self._average_s = LONG_S
        self._post = post
        self._quiet: set[int] = set(range(len(self.consumers)))
        self._started: set[int] = set()
        self._pausing: dict[int, asyncio.Task[None]] = {}

    def ack(self, delivery: Delivery) -> bool:
        """Ack on the delivery's own channel; False when it is stale."""
        return self.consumers[delivery.slot].ack(delivery)

    def nack(self, delivery: Delivery) -> None:
        """Hand back. A consuming channel would get the message straight back, so it is quiet first."""
        consumer = self.consumers[delivery.slot]
        self.quiet(delivery.slot)
        pausing = self._pausing.get(delivery.slot)
        if pausing is None:
            consumer.nack(delivery)
        else:
            pausing.add_done_callback(lambda _: consumer.nack(delivery))

    def next_start(self) -> tuple[Run, int] | None:
        """The job that waits longest and a free process for it, its own channel's if that one is free."""
        if not self.held or not self.ready or self.blocked or self.stopped:
            return None
        run = self.held.pop(next(iter(self.held)))
        child = run.delivery.slot if run.delivery.slot in self.ready else min(self.ready)
        self.ready.discard(child)
        self.busy[child] = run
        return run, child

    def balance(self, runs: Iterable[Run]) -> None:
        """Wake quiet channels, the spare aside, until as many can receive as processes are free."""
        own = self._quiet - {self._spare}
        if not own or self.stopped or self.blocked:
            return
        listening = self.procs - len(own | self._occupied())
        missing = len(self.ready) - len(self.held) - listening
        if missing <= 0:
            return
        holding = {one.slot for run in runs for one in run.deliveries if one.is_current}
        # a free process's own channel first, so that they stay paired
        quiet = own - holding - self._pausing.keys()
        for slot in sorted(quiet, key=lambda slot: (slot not in self.ready, slot))[:missing]:
            self._wake(slot)

    def _occupied(self) -> set[int]:
        """The channels, the spare aside, that wait for a job of theirs to end."""
        waiting = [*self.busy.values(), *self.held.values()]
        return {run.delivery.slot for run in waiting if run.delivery.is_current} - {self._spare}

    # --- ahead ------------------------------------------------------------------------------------------------------

    def pace(self, took_s: float) -> None:
        """A run took so long. Decides whether the spare consumes."""
        if took_s >= LONG_S:
            self.one_by_one()
            return
        self._average_s += (took_s - self._average_s) * _WEIGHT
        if self.ahead:
            if self._average_s > 2 * SHORT_S:
                self.one_by_one()
        elif self._average_s < SHORT_S and self._has_spare and not (self.stopped or self.blocked or self._pausing):
            self.ahead = True
            self._wake(self._spare)

    def one_by_one(self) -> None:
        """A long job: from now on a job is delivered only to a process that is free."""
        self._average_s = LONG_S
        if not self.ahead:
            return
        self.quiet(self._spare)
        # a process that runs a job of the spare's has a channel of its own that would bring another one, to wait
        open_ones = [slot for slot in range(self.procs) if slot not in self._quiet | self._occupied()]
        for slot in sorted(open_ones, key=lambda slot: slot not in self.ready)[len(self.ready) :]:
            self.quiet(slot)

    def overdue(self, now: float) -> list[Run]:
        """The jobs that have waited for a process too long, to be handed back. now: monotonic."""
        if self.ahead and any(now - run.started > LONG_S for run in self.busy.values()):
            self.one_by_one()
        limit_s = BEHIND_S if len(self.busy) == self.procs else HELD_S
        return [run for run in self.held.values() if now - run.started > limit_s]

    # --- single channels --------------------------------------------------------------------------------------------

    def _wake(self, slot: int) -> None:
        self._quiet.discard(slot)
        if slot in self._started:
            self.consumers[slot].resume()
        else:
            self._started.add(slot)
            self.consumers[slot].start()

    def listen(self, queues: tuple[str, ...]) -> None:
        """Consume these queues, and no others, from now on."""
        self.queues = queues
        for consumer in self.consumers:
            consumer.listen(queues)

    def quiet(self, slot: int) -> None:
        """No further delivery on this channel. What it holds already stays its own."""
        if slot in self._quiet:
            return
        self._quiet.add(slot)
        self.ahead = self.ahead and slot != self._spare
        task = asyncio.get_running_loop().create_task(self.consumers[slot].pause())
        self._pausing[slot] = task
        task.add_done_callback(lambda _: self._paused(slot))

    def _paused(self, slot: int) -> None:
        del self._pausing[slot]
        if self.stopped and not self._pausing:
            self._post(ConsumersPaused())

    def disconnected(self) -> None:
        """Every channel is gone. Channels of busy processes stay quiet on the next connection."""
        self.one_by_one()
        for slot in self.busy:
            self.quiet(slot)

    def block(self) -> None:
        """The broker takes no messages: nothing new is taken either."""
        self.blocked = True
        self.one_by_one()
        holding = {run.delivery.slot for run in self.busy.values() if run.delivery.is_current}
        for slot in range(len(self.consumers)):
            if slot not in holding:
                self.quiet(slot)

    def stop(self) -> None:
        """No channel consumes any more; `ConsumersPaused` follows."""
        self.stopped = True
        self.one_by_one()
        for slot in range(len(self.consumers)):
            self.quiet(slot)
        if not self._pausing:
            self._post(ConsumersPaused())

    async def close(self) -> None:
        """Close each channel and wait for close-ok: a channel's methods are processed in order, so it proves the acks.

        Source: AMQP 0-9-1 specification, channel.close.
        """
        if self._pausing:  # a broker that stands still answers nothing, and the end must not wait until that is noticed
            await asyncio.wait([*self._pausing.values()], timeout=CLOSE_S)
        await asyncio.gather(*(self.consumers[slot].close() for slot in self._started))
