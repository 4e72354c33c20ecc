"""A delivery as it comes: read, recognised, admitted or settled otherwise."""

import logging
import time

from jobrunner.broker.consumer import Delivery
from jobrunner.envelope import Envelope, Job, State
from jobrunner.failpoint import failpoint
from jobrunner.outcome import Cancelled, Dead, Defer, HandBack
from jobrunner.retry import Limits, limits_of
from jobrunner.worker import admission, journal, reading, settlement
from jobrunner.worker.delivered import Run
from jobrunner.worker.leases import Leases
from jobrunner.worker.policy import Policy
from jobrunner.worker.question import Finding
from jobrunner.worker.reading import Unreadable
from jobrunner.worker.settling import Settler
from jobrunner.worker.slots import Slots
from jobrunner.worker.tombstones import Tombstones

OFTEN = 12
"""Deliveries of one message after which a copy takes its place before anybody is asked: connections are lost faster
than questions are answered, and after 20 (the delivery limit that is advised) RabbitMQ makes a dead letter of it."""


class Intake:
    """The door of the worker: what comes in is either waiting for a process afterwards, or on its way out again."""

    def __init__(self, policy: Policy, settler: Settler, slots: Slots, tombstones: Tombstones, leases: Leases) -> None:
        self.policy = policy
        self._settler = settler
        self._slots = slots
        self._tombstones = tombstones
        self._leases = leases
        leases.decided = self.decided
        self._unreadable = 0

    def take(self, delivery: Delivery) -> None:
        """Take in one delivery. A job that may run is in `slots.held` afterwards, or later, once `decided`."""
        failpoint("consume.after_deliver")
        got = reading.read(delivery, self.policy)
        if isinstance(got, Unreadable):
            self.refuse(got, delivery)
            return
        known = self._settler.runs.get(got.key) or self._same_foreign(got, delivery)
        if known is not None:
            known.adopt(delivery)
            journal.say(logging.INFO, "job.adopted", "delivered again; the run goes on", **journal.job_fields(known))
            self._slots.balance(self._settler.runs.values())
            return
        if got.key in self._settler.settled:
            self._slots.ack(delivery)
            self._settler.announce(settlement.suppressed(got, self.policy.worker, time.time()))
            journal.suppressed(got)
            return
        run = Run(got, delivery, limits_of(got.job, self.policy.wishes(got.job.task)))
        self._settler.runs[run.key] = run
        if not (delivery.stamped or run.foreign):
            # by a program that is no client of ours, so nobody has told the ledger what the job is
            self._settler.announce(settlement.queued(got, time.time()))
        if self._leases.must_ask(run):
            if (delivery.delivery_count or 0) >= OFTEN:
                # whoever has it or nobody: the copy asks anew, when its delay is over
                self._settler.settle(run, Defer(delay_s=self._leases.defer_s(run)))
                return
            self._leases.ask(run)
        else:
            self._admit(run)

    def came_late(self, delivery: Delivery) -> None:
        """A message that has gone back to its queue already."""
        got = reading.read(delivery, self.policy)
        if isinstance(got, Envelope) and got.body is delivery.body:
            self._leases.came_late(got.key, delivery)

    def decided(self, run: Run, finding: Finding) -> None:
        """Whether another worker has a run that was delivered here is known."""
        match finding:
            case Finding.FREE:
                self._admit(run)
            case Finding.RUNNING:
                journal.deferred(run)
                self._settler.settle(run, Defer(delay_s=self._leases.defer_s(run)))
            case Finding.ENDED:
                self._settler.suppress(run)

    def _admit(self, run: Run) -> None:
        envelope = run.envelope
        note = self._tombstones.find(envelope)
        if note is not None:
            self._settler.settle(run, Cancelled(reason=note.reason, by=note.by))
            return
        if self._leases.worker_died(run):
            # this copy has no count of deliveries, so its successor carries one
            self._settler.settle(run, admission.worker_died(envelope))
            return
        verdict = admission.admit(envelope, run.delivery, self.policy, time.time(), self._leases.lived_through(run))
        if verdict is not None:
            self._settler.settle(run, verdict)
            return
        run.started = time.monotonic()
        if run.delivery.queue not in self._slots.queues:  # paused since it was delivered, or while it was asked for
            self._settler.settle(run, HandBack())
            return
        self._slots.held[run.key] = run

    def _same_foreign(self, got: Envelope, delivery: Delivery) -> Run | None:
        """The run of a message without an id, delivered again after its first delivery was lost."""
        if not delivery.redelivered or got.body is delivery.body:
            return None
        for run in self._settler.runs.values():
            if run.foreign and not run.delivery.is_current and run.delivery.body == delivery.body:
                return run
        return None

    def refuse(self, refused: Unreadable, delivery: Delivery) -> None:
        """Dead-letter what is no job. Two equal bodies are two messages, so each gets a key of its own."""
        self._unreadable += 1
        job = Job(v=0, id=refused.job_id, queue=delivery.queue, iat=0.0, task="(unreadable message)")
        run = Run(Envelope(job=job, state=State(copy=-self._unreadable), body=b""), delivery, Limits())
        run.verdict = Dead(error=refused.error)
        self._settler.runs[run.key] = run
        self._settler.publish(run, settlement.plan_unreadable(refused, delivery, self.policy.worker, time.time()))
