"""Jobs that wait for other jobs: one worker at a time holds them unacked, listens for the ends that they wait for, and
settles each when it may run, or never will.

It binds to those ends before it reads in the ledger what has happened before: nothing falls between. All that it knows
can be found out again, so nothing is lost with it: the broker gives what it held to the next worker.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.catchup import CatchUp
from jobrunner.broker.connection import Connection
from jobrunner.broker.delivery import Delivery
from jobrunner.broker.stream import Record
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
from jobrunner.envelope import After, Envelope
from jobrunner.failpoint import failpoint
from jobrunner.outcome import Cancelled, Expired, Release, Renew, Verdict
from jobrunner.retry import Limits
from jobrunner.worker import admission, journal
from jobrunner.worker.held import RUN_KINDS, Held, envelope_of, keys_of, slim
from jobrunner.worker.settlement import Run
from jobrunner.worker.settling import Settler
from jobrunner.worker.tombstones import Tombstones
from jobrunner.workflow import Book, Drop, Subject

READS_OPEN: Final = 2
"""Readings of the ledger at once; who comes meanwhile shares the next."""

READ_AGAIN_S: Final = 5.0
"""After a reading that was broken off."""

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
        refuse: Callable[[admission.Unreadable, Delivery], None],
    ) -> None:
        self.port = WaitingPort(connection, post)
        self.held: dict[Key, Held] = {}
        self._connection = connection
        self._settler = settler
        self._tombstones = tombstones
        self._post = post
        self._refuse = refuse
        self._book = Book()
        self._copies: dict[str, Key] = {}
        self._released: set[Key] = set()
        self._words: dict[str, str] = {}  # encoded name of a run -> the name
        self._reads: set[CatchUp] = set()
        self._since: float | None = None
        self._behind: set[str] = set()  # runs of which not all is known yet
        self._next: set[str] = set()  # those of them that the next reading is for
        self._not_before = self._looked = 0.0
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
                self._hear(body)
            case LedgerRead(runs=runs):
                self._caught_up(runs)
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
        if isinstance(got, admission.Unreadable):
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
            self._listen(self._book.add(got.job.id, got.job.after), got.job.after)
            self._decide(got.job.id)

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

    def _listen(self, fresh: list[Subject], after: After) -> None:
        if not fresh:
            # who came before listens already; but this one may know of something earlier
            return
        keys = [key for subject in fresh for key in keys_of(subject)]
        runs = {name for kind, name in fresh if kind == "run"}
        self._words |= {topology.encode_word(name): name for name in runs}
        self._behind |= runs
        self.port.listen(keys, partial(self._catch_up, after.since, runs))

    def _catch_up(self, since_s: float, runs: set[str]) -> None:
        """Read what has happened since then, now or together with others."""
        self._next |= runs
        self._since = since_s if self._since is None else min(self._since, since_s)
        self._read_on()

    def _read_on(self) -> None:
        if self._since is None or len(self._reads) >= READS_OPEN or time.monotonic() < self._not_before:
            return
        since_s, self._since = self._since, None
        runs, self._next = frozenset(self._next), set()

        def done(is_whole: bool) -> None:
            self._reads.discard(read)
            if not is_whole:
                self._next |= runs
                self._not_before = time.monotonic() + READ_AGAIN_S
                self._since = since_s if self._since is None else min(self._since, since_s)
            self._read_on()

        read = CatchUp(self._connection, since_s, self._found, lambda: self._post(LedgerRead(runs)), done)
        self._reads.add(read)
        read.start()

    def _caught_up(self, runs: frozenset[str]) -> None:
        """Before, what was seen could have been of an earlier time, such as of members that run again since."""
        self._behind -= runs
        for job_id in [one for one in self._copies if self._run_of(one) in runs]:
            self._decide(job_id)

    def _run_of(self, job_id: str) -> str | None:
        after = self.held[self._copies[job_id]].envelope.job.after
        return None if after is None else after.run

    # --- ends are heard ---------------------------------------------------------------------------------------------

    def _found(self, record: Record) -> None:
        """A record of the ledger: from its key it is known whether somebody waits for it."""
        kind, _, rest = record.key.partition(".")
        word, _, job_id = rest.partition(".")
        is_end = kind in events.TERMINAL and self._book.wants(("job", job_id))
        if is_end or (word in self._words and kind in RUN_KINDS):
            self._post(EndHeard(record.body))

    def _hear(self, body: bytes) -> None:
        try:
            event = events.decode(body)
        except (ValueError, RecursionError):
            return
        for job_id in self._book.take(event):
            self._decide(job_id)

    def _decide(self, job_id: str) -> None:
        held = self.held[self._copies[job_id]]
        if self._run_of(job_id) in self._behind:
            return
        match self._book.decide(job_id):
            case Release() as release:
                self._settle(held, release)
            case Drop(reason=reason):
                self._settle(held, Cancelled(reason=reason))
            case None:
                pass

    # --- jobs go ----------------------------------------------------------------------------------------------------

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
            gone = self._book.remove(key[0])
            for subject in gone:
                self._words.pop(topology.encode_word(subject[1]), None)
                self._behind.discard(subject[1])
            self.port.unlisten([each for subject in gone for each in keys_of(subject)])

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
        self._read_on()
        clock = time.time()
        for held in list(self.held.values()):
            if (held.envelope.job.expires_at or clock) < clock:
                self._settle(held, Expired())

    def _lose(self) -> None:
        """All that was held comes again. What was released may not have been: so that is forgotten too."""
        for read in self._reads:
            read.close()
        self._reads.clear()
        self.held.clear()
        self._copies.clear()
        self._released.clear()
        self._words.clear()
        self._behind.clear()
        self._next.clear()
        self._book = Book()
        self._since = None
