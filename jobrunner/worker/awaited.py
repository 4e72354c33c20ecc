"""What the waiting jobs wait for: what is heard of it, and what the ledger tells of the time before.

Its ends are listened for before the ledger is read: nothing falls between.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.catchup import CatchUp
from jobrunner.broker.connection import Connection
from jobrunner.broker.stream import Record
from jobrunner.broker.waiting import EndHeard, LedgerRead, WaitingMessage
from jobrunner.envelope import After
from jobrunner.outcome import Release
from jobrunner.workflow import Book, Drop, Subject

READS_OPEN: Final = 2
"""Readings of the ledger at once; who comes meanwhile shares the next."""

READ_AGAIN_S: Final = 5.0
"""After a reading that was broken off."""

_RUN_KINDS: Final = frozenset({*events.TERMINAL, "queued", "sealed"})


class Awaited:
    """What is known of what is waited for. post: gets what the ledger tells, and that it was read."""

    def __init__(self, connection: Connection, post: Callable[[WaitingMessage], None]) -> None:
        self._connection = connection
        self._post = post
        self._book = Book()
        self._words: dict[str, str] = {}  # encoded name of a run -> the name
        self._runs: dict[str, str] = {}  # waiting job -> the run that it waits for
        self._reads: set[CatchUp] = set()
        self._since: float | None = None
        self._behind: set[str] = set()  # runs of which not all is known yet
        self._next: set[str] = set()  # those of them that the next reading is for
        self._not_before = 0.0

    def add(self, job_id: str, after: After) -> list[Subject]:
        """A job waits. Gives what is to be listened for, and then read up; who came before may listen for all of it."""
        fresh = self._book.add(job_id, after)
        if after.run is not None:
            self._runs[job_id] = after.run
        runs = runs_of(fresh)
        self._words |= {topology.encode_word(name): name for name in runs}
        self._behind |= runs
        return fresh

    def remove(self, job_id: str) -> list[Subject]:
        """It waits no more. Gives what is not to be listened for any more."""
        self._runs.pop(job_id, None)
        gone = self._book.remove(job_id)
        for subject in gone:
            self._words.pop(topology.encode_word(subject[1]), None)
            self._behind.discard(subject[1])
        return gone

    def decide(self, job_id: str) -> Release | Drop | None:
        """Whether a waiting job may run, or never will; None: not yet, or not all is known yet."""
        return None if self._runs.get(job_id) in self._behind else self._book.decide(job_id)

    def hear(self, body: bytes) -> Iterable[str]:
        """Something has happened. Gives the waiting jobs for which it may be the last thing."""
        try:
            event = events.decode(body)
        except (ValueError, RecursionError):
            return ()
        return self._book.take(event)

    def lose(self) -> None:
        """Nobody waits any more: all who did come again."""
        for read in self._reads:
            read.close()
        self._reads.clear()
        self._words.clear()
        self._runs.clear()
        self._behind.clear()
        self._next.clear()
        self._book = Book()
        self._since = None

    # --- the ledger -------------------------------------------------------------------------------------------------

    def catch_up(self, since_s: float, runs: set[str]) -> None:
        """Read what has happened since then, now or together with others."""
        self._next |= runs
        self._since = since_s if self._since is None else min(self._since, since_s)
        self.read_on()

    def read_on(self) -> None:
        """Begin the next reading, if one is asked for and it is time."""
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
            self.read_on()

        read = CatchUp(self._connection, since_s, self._found, lambda: self._post(LedgerRead(runs)), done)
        self._reads.add(read)
        read.start()

    def _found(self, record: Record) -> None:
        """A record of the ledger: from its key it is known whether somebody waits for it."""
        kind, _, rest = record.key.partition(".")
        word, _, job_id = rest.partition(".")
        is_end = kind in events.TERMINAL and self._book.wants(("job", job_id))
        if is_end or (word in self._words and kind in _RUN_KINDS):
            self._post(EndHeard(record.body))

    def caught_up(self, runs: frozenset[str]) -> list[str]:
        """The ledger was read for these. Gives the waiting jobs that can be decided now: before, what was seen could
        have been of an earlier time, such as of members that run again since.
        """
        self._behind -= runs
        return [job_id for job_id, run in self._runs.items() if run in runs]


def runs_of(subjects: Iterable[Subject]) -> set[str]:
    """The names of the runs among them."""
    return {name for kind, name in subjects if kind == "run"}


def keys_of(subjects: Iterable[Subject]) -> list[str]:
    """The routing keys of what is to be heard of them."""
    return [key for subject in subjects for key in _keys(subject)]


def _keys(subject: Subject) -> list[str]:
    """One for each kind: a `*` there might lie outside of what may be read."""
    kind, name = subject
    if kind == "job":
        return [f"{each}.*.{name}" for each in events.TERMINAL]
    return [topology.event_key(each, name, "*") for each in sorted(_RUN_KINDS)]
