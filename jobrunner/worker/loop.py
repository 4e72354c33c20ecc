"""One process, one loop: delivery -> pool -> outcome -> verdict -> publish -> confirm -> ack.

`Worker.run` is one coroutine whose only `await` takes the next message, so each case is atomic: no locks.
"""

import logging
import os
import signal
import time
from typing import TYPE_CHECKING, assert_never

from jobrunner.broker.connection import (
    Connection,
    ConnectionBlocked,
    ConnectionDown,
    ConnectionMessage,
    ConnectionUnblocked,
    ConnectionUp,
)
from jobrunner.broker.consumer import ConsumerLost, ConsumerMessage, ConsumerReady, Delivered, Delivery, HandedBack
from jobrunner.broker.delivery import QueueUnavailable
from jobrunner.broker.waiting import (
    SLOT,
    EndHeard,
    LedgerRead,
    WaitingDelivered,
    WaitingLost,
    WaitingMessage,
    WaitingRefused,
)
from jobrunner.execution.pool import Finished, Found, Pool, PoolBroken, PoolMessage, Progress, SlotDown, SlotReady
from jobrunner.failpoint import failpoint
from jobrunner.outcome import HandBack, Interrupted, UnknownFunction
from jobrunner.retry import decide, limits_of
from jobrunner.worker import inbox, journal, settlement
from jobrunner.worker.assembly import policy_of, pool_settings_of, work_of
from jobrunner.worker.delivered import Run
from jobrunner.worker.inbox import Inbox
from jobrunner.worker.intake import Intake
from jobrunner.worker.leases import Leases
from jobrunner.worker.outages import CONSUME, PUBLISH, Outages
from jobrunner.worker.pauses import Pauses
from jobrunner.worker.presence import Presence
from jobrunner.worker.reload import reload_keys
from jobrunner.worker.settings import WorkerSettings
from jobrunner.worker.settling import Settler
from jobrunner.worker.slots import Slots
from jobrunner.worker.steering import Steering
from jobrunner.worker.stopping import Stopping
from jobrunner.worker.tombstones import Tombstones
from jobrunner.worker.waiting import Waiting

if TYPE_CHECKING:
    from jobrunner.errors import JobrunnerError

SUSPENDED_S = 40.0
"""Two heartbeats: after a longer gap in its own time the broker has given the deliveries to others."""

Message = PoolMessage | ConsumerMessage | ConnectionMessage | WaitingMessage | inbox.Local


class Worker:
    """What runs here, what waits, what is being settled."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.inbox: Inbox[Message] = Inbox()
        post = self.inbox.put
        # Two connections: during a memory alarm the broker reads nothing from one that publishes, acks included.
        # Source: RabbitMQ docs "Memory and Disk Alarms".
        self.consuming = Connection(
            settings.url, role=CONSUME, notify=post, connect_timeout_s=settings.connect_timeout_s
        )
        publishing = Connection(settings.url, role=PUBLISH, notify=post, connect_timeout_s=settings.connect_timeout_s)
        self.slots = Slots(self.consuming, settings.queues, settings.procs, post)
        self.settler = Settler(publishing, settings.name, post, self.ack, self.slots.nack, self.release)
        self.pool = Pool(pool_settings_of(settings), post)
        self.policy = policy_of(settings)
        self.pauses = Pauses(settings.queues)
        self.tombstones = Tombstones(self.consuming, lambda event: post(inbox.CancelSeen(event)), self.pauses.take)
        presence = Presence(settings, os.getpid(), self.pauses)
        self.leases = Leases(self.settler, presence, settings)
        self.intake = Intake(self.policy, self.settler, self.slots, self.tombstones, self.leases)
        self.waiting = Waiting(self.consuming, self.settler, self.tombstones, post, self.intake.refuse)
        presence.waiting = self.waiting.count
        self.steering = Steering(presence, self.settler, self.slots, self.pool, self.tombstones)
        self.stopping = Stopping(settings.grace_s, self.slots, self.pool, post)
        self.failure: JobrunnerError | None = None
        self.outages = Outages(self.settler, self.slots, self.leases, self.start_held)
        self._started = False

    @property
    def runs(self) -> dict[tuple[str, int], Run]:
        """Every job that is here, by its key: running, waiting for a process, being settled."""
        return self.settler.runs

    async def run(self) -> None:
        """Work until stopped and drained. Raises: JobrunnerError when the pool is beyond repair."""
        while not self.stopping.is_over(bool(self.runs)):
            self.handle(await self.inbox.get())
        if self.failure is not None:
            raise self.failure

    def handle(self, message: Message) -> None:  # noqa: C901, PLR0912, PLR0915 - one case for each thing that can happen
        """Take in one thing that happened."""
        match message:
            case Delivered(delivery=delivery):
                self.intake.take(delivery)
                self.start_held()
            case HandedBack(delivery=delivery):
                self.intake.came_late(delivery)
            case Finished():
                self.conclude(message)
            case Found():
                self.begin_again(message)
            case inbox.Confirmed():
                self.settler.confirm(message)
            case inbox.Tick(late_s=late_s):
                self.tick(late_s)
            case Progress():
                self.steering.progress(message)
            case SlotReady(slot=slot):
                self.child_ready(message)
            case SlotDown(slot=slot):
                self.slots.ready.discard(slot)
            case ConnectionUp(role=role):
                self.outages.connected(role)
            case ConnectionDown(role=role, error=error):
                self.outages.disconnected(role, error)
            case ConnectionBlocked() | ConnectionUnblocked():
                self.outages.block(message)
            case ConsumerLost(slot=slot):
                self.outages.consumer_lost(message)
            case ConsumerReady(slot=slot):
                self.settler.consumer_ready(slot)
            case QueueUnavailable():
                journal.queue_unavailable(message)
            case inbox.RouteReady():
                self.settler.route_ready(message)
            case inbox.PublishAgain(key=key):
                self.settler.publish_again(key)
            case inbox.StopRequested() | inbox.GraceOver() | inbox.ConsumersPaused() | inbox.GiveUp():
                self.stop(message)
            case inbox.Asked() | inbox.Answered():
                self.hear(message)
            case inbox.CancelSeen(event=event):
                self.steering.cancel(event)
                self.waiting.cancel()
            case WaitingDelivered() | WaitingLost() | WaitingRefused() | EndHeard() | LedgerRead():
                self.waiting.handle(message)
            case inbox.RenewRequested(reason=reason):
                reload_keys(self.policy.ring)
                journal.say(logging.INFO, "child.reloaded", f"{reason}: renewing the processes", reason=reason)
                self.pool.renew()
            case inbox.DumpRequested():
                self.pool.dump_stacks()
            case PoolBroken(error=error):
                self.failure = error
                self.stop(inbox.StopRequested(signal.SIGTERM))
            case _:
                assert_never(message)

    def cut(self) -> None:
        """Drop both connections, as a broken wire would: for a failpoint."""
        self.settler.connection.abort("cut at a failpoint")
        self.consuming.abort("cut at a failpoint")

    # --- runs -------------------------------------------------------------------------------------------------------

    def hear(self, message: inbox.Asked | inbox.Answered) -> None:
        """What comes over the control exchange. An answer may say that a job which waits for it can start."""
        if isinstance(message, inbox.Answered):
            self.leases.answered(message.reply)
        elif not self.leases.hear(message.request):
            self.steering.answer(message.request)
        self.start_held()

    def start_held(self) -> None:
        """Give waiting jobs to free processes."""
        while (pair := self.slots.next_start()) is not None:
            run, child = pair
            run.child = child
            run.started = time.monotonic()
            if run.foreign:
                self.settler.announce(settlement.queued(run.envelope, time.time()))
            failpoint("dispatch.before_send")
            self.pool.run(child, work_of(run))
            failpoint("dispatch.after_send")

    def begin_again(self, found: Found) -> None:
        """A function that was imported only now has wishes of its own: they hold from this run on."""
        self.policy.imported[found.function.name] = found.function
        run = self.slots.busy[found.slot]
        run.limits = limits_of(run.envelope.job, found.function)
        if run.cancel is None and not self.stopping.is_killing:
            run.started = time.monotonic()
            self.pool.run(found.slot, work_of(run))
            return
        ran = self.pool.running(found.slot)
        self.conclude(Finished(slot=found.slot, key=run.key, outcome=Interrupted(), ran=ran, ready=True))

    def conclude(self, finished: Finished) -> None:
        """A run ended: decide, publish the consequence. Its process is free before its job is settled."""
        self.steering.tell_progress(finished.slot)
        run = self.slots.busy.pop(finished.slot)
        # what was never called has no run to tell of, nor has what was handed to a process that was just being lost
        has_run = finished.ran.pid and not isinstance(finished.outcome, UnknownFunction)
        run.ran = finished.ran if has_run else None
        verdict = decide(run.envelope, run.limits, finished.outcome, time.time())
        self.settler.settle(run, self.steering.verdict_of(run, verdict))
        if finished.ready:
            self.child_free(finished.slot)
        self.slots.pace(time.monotonic() - run.started)

    def child_free(self, slot: int) -> None:
        """A process can take a job: one that waits, or the next that is delivered."""
        self.slots.ready.add(slot)
        if self.slots.held:
            self.start_held()
        self.slots.balance(self.runs.values())

    def child_ready(self, message: SlotReady) -> None:
        """A new process has imported the apps."""
        self.policy.functions = {spec.name: spec for spec in message.functions}
        self.steering.come(sorted(self.policy.functions))
        if not self._started:
            self._started = True
            self.waiting.port.start()
            journal.worker_started(self.settings, self.consuming.server_version, len(message.functions))
        self.child_free(message.slot)

    def ack(self, delivery: Delivery) -> bool:
        """On the channel that it came by."""
        return self.waiting.port.ack(delivery) if delivery.slot == SLOT else self.slots.ack(delivery)

    def release(self, delivery: Delivery) -> None:
        """Of a job that waited for others."""
        self.waiting.release(delivery)

    # --- time and the end -------------------------------------------------------------------------------------------

    def tick(self, late_s: float) -> None:
        """Ten times a second: tell what runs, give up waiting for a process."""
        if late_s > SUSPENDED_S:
            self.consuming.abort("this machine was suspended")
        now = time.monotonic()
        self.steering.tick(now)
        self.leases.tick(now)
        self.waiting.tick(now)
        self.listen()
        self.start_held()
        if self.slots.blocked:
            return
        for run in self.slots.overdue(now):
            del self.slots.held[run.key]
            self.settler.settle(run, HandBack())
        # a channel that was just being paused when its process became free
        self.slots.balance(self.runs.values())

    def listen(self) -> None:
        """Consume the queues that are not paused."""
        if not self.stopping.is_begun:
            self.pauses.apply(self.slots, self.settler)

    def stop(self, message: inbox.StopRequested | inbox.GraceOver | inbox.ConsumersPaused | inbox.GiveUp) -> None:
        """Drain; then hand back. Held jobs were never started: they go back at once."""
        self.waiting.close()
        self.stopping.advance(message)
        for run in [*self.slots.held.values(), *(question.run for question in self.leases.open.values())]:
            self.slots.held.pop(run.key, None)
            self.leases.open.pop(run.key, None)
            self.settler.settle(run, HandBack())
