"""The pairing of channels and processes: as many channels consume as processes are free.

Usually channel n and process n go together. After a lost connection a process may still run a job whose message is with
the broker again: then its channel stays quiet, so that no job is delivered that would have to wait.
"""

import asyncio
from collections.abc import Callable, Iterable

from jobrunner.broker.connection import Connection
from jobrunner.broker.consumer import ConsumerMessage, Delivery, SlotConsumer
from jobrunner.worker.inbox import ConsumersPaused, Local
from jobrunner.worker.settlement import Run


class Slots:
    """One consumer for each process of the pool.

    ready: free processes. busy: process -> what it runs. held: delivered jobs that wait for a process.
    """

    def __init__(
        self,
        connection: Connection,
        queues: tuple[str, ...],
        procs: int,
        post: Callable[[ConsumerMessage | Local], None],
    ) -> None:
        self.consumers = [SlotConsumer(connection, slot, queues, post) for slot in range(procs)]
        self.ready: set[int] = set()
        self.busy: dict[int, Run] = {}
        self.held: dict[tuple[str, int], Run] = {}
        self.stopped = False
        self.blocked = False
        self._post = post
        self._quiet: set[int] = set(range(procs))
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
        """Wake quiet channels until as many can receive as processes are free."""
        if not self._quiet or self.stopped or self.blocked:
            return
        waiting = [*self.busy.values(), *self.held.values()]
        occupied = {run.delivery.slot for run in waiting if run.delivery.is_current} - self._quiet
        missing = len(self.ready) - len(self.held) - (len(self.consumers) - len(self._quiet) - len(occupied))
        if missing <= 0:
            return
        holding = {one.slot for run in runs for one in run.deliveries if one.is_current}
        # a free process's own channel first, so that they stay paired
        quiet = self._quiet - holding - self._pausing.keys()
        for slot in sorted(quiet, key=lambda slot: (slot not in self.ready, slot))[:missing]:
            self._wake(slot)

    def _wake(self, slot: int) -> None:
        self._quiet.discard(slot)
        if slot in self._started:
            self.consumers[slot].resume()
        else:
            self._started.add(slot)
            self.consumers[slot].start()

    def quiet(self, slot: int) -> None:
        """No further delivery on this channel. What it holds already stays its own."""
        if slot in self._quiet:
            return
        self._quiet.add(slot)
        task = asyncio.get_running_loop().create_task(self.consumers[slot].pause())
        self._pausing[slot] = task
        task.add_done_callback(lambda _: self._paused(slot))

    def _paused(self, slot: int) -> None:
        del self._pausing[slot]
        if self.stopped and not self._pausing:
            self._post(ConsumersPaused())

    def disconnected(self) -> None:
        """Every channel is gone. Channels of busy processes stay quiet on the next connection."""
        for slot in self.busy:
            self.quiet(slot)

    def block(self) -> None:
        """The broker takes no messages: nothing new is taken either."""
        self.blocked = True
        holding = {run.delivery.slot for run in self.busy.values() if run.delivery.is_current}
        for slot in range(len(self.consumers)):
            if slot not in holding:
                self.quiet(slot)

    def stop(self) -> None:
        """No channel consumes any more; `ConsumersPaused` follows."""
        self.stopped = True
        for slot in range(len(self.consumers)):
            self.quiet(slot)
        if not self._pausing:
            self._post(ConsumersPaused())

    async def close(self) -> None:
        """Close each channel and wait for close-ok: a channel's methods are processed in order, so it proves the acks.

        Source: AMQP 0-9-1 specification, channel.close.
        """
        await asyncio.gather(*self._pausing.values(), return_exceptions=True)
        await asyncio.gather(*(self.consumers[slot].close() for slot in self._started))
