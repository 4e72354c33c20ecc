"""Jobs that wait for other jobs: one worker at a time holds them unacked, listens for the ends that they wait for, and
settles each when it may run, or never will.

All that it knows can be found out again, so nothing is lost with it: the broker gives what it held to the next worker.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from jobrunner.broker.connection import Connection
from jobrunner.broker.delivery import Delivery
from jobrunner.broker.waiting import (
    SLOT,
    EndHeard,
    LedgerRead,
    WaitingDelivered,
    WaitingLost,
    WaitingMessage,
    WaitingPort,
    WaitingRefused,
)
from jobrunner.envelope import After, Envelope, Job
from jobrunner.failpoint import failpoint
from jobrunner.outcome import Cancelled, Expired, Release, Renew, Verdict
from jobrunner.retry import Limits
from jobrunner.worker import journal
from jobrunner.worker.awaited import Awaited, keys_of, runs_of
from jobrunner.worker.delivered import Run
from jobrunner.worker.held import Held, envelope_of, slim
from jobrunner.worker.reading import Unreadable
from jobrunner.worker.settling import Settler
from jobrunner.worker.tombstones import Tombstones
from jobrunner.workflow import Drop

LOOK_S: Final = 1.0
"""Between two looks for what has expired."""

Key = tuple[str, int]


class Waiting:
    """The waiting jobs that this worker holds: none, unless the broker chose it.

    refuse: what to do with a message that is no job.
    """

    def __init__(
        self,
        connection: Connection,
        settler: Settler,
        tombstones: Tombstones,
        post: Callable[[WaitingMessage], None],
        refuse: Callable[[Unreadable, Delivery], None],
    ) -> None:
        self.port = WaitingPort(connection, post)
        self.held: dict[Key, Held] = {}
        self._connection = connection
        self._settler = settler
        self._tombstones = tombstones
        self._refuse = refuse
        self._awaited = Awaited(connection, post)
        self._copies: dict[str, Key] = {}
        self._released: set[Key] = set()
        self._looked = 0.0
        self._has_told = False

    def count(self) -> int:
        """How many are here, those included that are on their way out."""
        return len(self.held) + sum(run.delivery.slot == SLOT for run in self._settler.runs.values())

    def handle(self, message: WaitingMessage) -> None:
        """Take in one thing that happened."""
        match message:
            case WaitingDelivered(delivery=delivery):
                self._take(delivery)
            case EndHeard(body=body):
                self._decide_all(self._awaited.hear(body))
            case LedgerRead(runs=runs):
                self._decide_all(self._awaited.caught_up(runs))
            case WaitingLost():
                self._lose()
            case WaitingRefused(text=text):
                self._refused(text)

    def _refused(self, text: str) -> None:
        if not self._has_told:
            self._has_told = True
            journal.waiting_refused(text)

    def close(self) -> None:
        """Leave it to the next worker. What is being settled goes on; should it be too late, that one does it again."""
        self.port.close()
        self._lose()

    # --- jobs come --------------------------------------------------------------------------------------------------

    def _take(self, delivery: Delivery) -> None:
        got = envelope_of(delivery, self._connection.url)
        if isinstance(got, Unreadable):
            self._refuse(got, delivery)
            return
        if self._is_known(got.key, delivery):
            return
        if delivery.redelivered:
            # It comes from another worker. RabbitMQ 4 passes the count of deliveries on to the queue that it goes to,
            # where it would soon be taken for a job that kills its workers.
            self._renew(got, delivery)
            return
        delivery.body = b""
        held = self.held[got.key] = Held(slim(got), delivery)
        if (note := self._tombstones.find(got)) is not None:
            self._settle(held, Cancelled(reason=note.reason, by=note.by))
        elif got.job.after is None:
            self._settle(held, Release())
        else:
            self._copies[got.job.id] = got.key
            self._listen(got.job, got.job.after)
            self._decide_all([got.job.id])

    def _renew(self, envelope: Envelope, delivery: Delivery) -> None:
        """Put it at the end of its queue as a new message. Should this worker be killed over it, there are two, and the
        next one keeps the later.
        """
        run = self._settler.runs[envelope.key] = Run(envelope, delivery, Limits())
        failpoint("waiting.before_renewal")
        self._settler.settle(run, Renew())

    def _is_known(self, key: Key, delivery: Delivery) -> bool:
        """Whether the job was there before: as the same message, or as one of two that a producer sent in doubt, or
        whose first one was renewed.
        """
        other = self._copies.get(key[0], key)
        if other[1] < key[1]:
            self.port.ack(self.held[other].delivery)
            self._drop(other)
        elif other[1] > key[1]:
            self.port.ack(delivery)
            return True
        held, run = self.held.get(key), self._settler.runs.get(key)
        if run is not None and run.delivery.slot == SLOT and not run.delivery.is_current:
            run.adopt(delivery)  # what follows of it is being published
            return True
        if held is not None and not held.delivery.is_current:
            held.delivery = delivery
            return True
        if held is not None or run is not None or key in self._settler.settled or key in self._released:
            self.port.ack(delivery)
            return True
        return False

    def _listen(self, job: Job, after: After) -> None:
        fresh = self._awaited.add(job.id, after)
        if fresh:  # else who came before listens already; but this one may know of something earlier
            # where the clock of who queued it is ahead, the ends were earlier than it says
            since_s = after.since - max(0.0, job.iat - time.time())
            self.port.listen(keys_of(fresh), partial(self._awaited.catch_up, since_s, runs_of(fresh)))

    # --- jobs go ----------------------------------------------------------------------------------------------------

    def _decide_all(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            held = self.held[self._copies[job_id]]
            match self._awaited.decide(job_id):
                case Release() as release:
                    self._settle(held, release)
                case Drop(reason=reason):
                    self._settle(held, Cancelled(reason=reason))
                case None:
                    pass

    def _settle(self, held: Held, verdict: Verdict) -> None:
        """On the one way on which a job leaves a worker: its record is confirmed before its message is settled."""
        key = held.envelope.key
        self._drop(key)
        run = Run(held.envelope, held.delivery, Limits())
        self._settler.runs[key] = run
        failpoint("waiting.before_record")
        self._settler.settle(run, verdict)

    def release(self, delivery: Delivery) -> None:
        """Its record is confirmed: it goes to its queue."""
        failpoint("waiting.after_record")
        run = next((one for one in self._settler.runs.values() if one.delivery is delivery), None)
        if self.port.release(delivery) and run is not None:
            self._released.add(run.key)
        failpoint("waiting.after_release")

    def _drop(self, key: Key) -> None:
        del self.held[key]
        if self._copies.get(key[0]) == key:
            del self._copies[key[0]]
            self.port.unlisten(keys_of(self._awaited.remove(key[0])))

    def cancel(self) -> None:
        """A cancel was heard."""
        for held in list(self.held.values()):
            if (note := self._tombstones.find(held.envelope)) is not None:
                self._settle(held, Cancelled(reason=note.reason, by=note.by))

    def tick(self, now: float) -> None:
        """Once a second, while there is something to look after. now: monotonic."""
        if now - self._looked < LOOK_S or not self.held:
            return
        self._looked = now
        self._awaited.read_on()
        clock = time.time()
        for held in list(self.held.values()):
            if (held.envelope.job.expires_at or clock) < clock:
                self._settle(held, Expired())

    def _lose(self) -> None:
        """All that was held comes again. What was released may not have been: so that is forgotten too."""
        self.held.clear()
        self._copies.clear()
        self._released.clear()
        self._awaited.lose()
