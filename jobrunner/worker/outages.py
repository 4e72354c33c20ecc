"""What an outage means for the jobs that are here: of a connection, of one channel, of a broker that takes nothing."""

from collections.abc import Callable

from jobrunner.broker.connection import ConnectionBlocked, ConnectionUnblocked
from jobrunner.broker.consumer import ConsumerLost
from jobrunner.errors import JobrunnerError
from jobrunner.worker import journal
from jobrunner.worker.delivered import Run
from jobrunner.worker.leases import Leases
from jobrunner.worker.settling import Settler
from jobrunner.worker.slots import Slots

PUBLISH, CONSUME = "publish", "consume"
"""The roles of a worker's two connections."""


class Outages:
    """start_held: gives waiting jobs to free processes, once the broker takes messages again."""

    def __init__(self, settler: Settler, slots: Slots, leases: Leases, start_held: Callable[[], None]) -> None:
        self._settler = settler
        self._slots = slots
        self._leases = leases
        self._start_held = start_held
        self._told = journal.Outage()

    def connected(self, role: str) -> None:
        """Connected again: publish what is not confirmed; consume with the free processes."""
        self._told.back(role)
        if role == PUBLISH:
            # an alarm ends with its connection, without a word: the broker tells of one that lasts at the next publish
            if self._slots.blocked:
                self._unblock()
            self._settler.connected()
        else:
            self._slots.balance(self._settler.runs.values())

    def disconnected(self, role: str, error: JobrunnerError) -> None:
        """Running jobs go on; their deliveries are stale, and what was not started is the broker's again."""
        self._told.lost(role, error, len(self._slots.busy))
        if role == PUBLISH:
            return
        for run in self._settler.runs.values():
            self._settler.note_returned(run)
        for run in [*self._slots.held.values(), *(question.run for question in self._leases.open.values())]:
            self._forget(run)
        self._leases.disconnected()
        self._slots.disconnected()

    def consumer_lost(self, lost: ConsumerLost) -> None:
        """One channel is gone, with its delivery; the others are not touched. It is opened again by itself."""
        for run in list(self._settler.runs.values()):
            if run.delivery.slot != lost.slot or run.delivery.is_current:
                continue
            self._settler.note_returned(run)
            if _has_another(run):
                continue
            if run.key in self._slots.held or run.key in self._leases.open:
                self._forget(run)
            elif run.child is not None and self._slots.busy.get(run.child) is run:
                self._slots.quiet(lost.slot)
                journal.lease_lost(run, lost.error)
        self._settler.consumer_lost(lost)
        if lost.missing:
            journal.queue_missing(lost.queue)

    def _forget(self, run: Run) -> None:
        """A job that was not started and whose delivery is gone: the broker delivers it again."""
        self._slots.held.pop(run.key, None)
        self._leases.open.pop(run.key, None)
        del self._settler.runs[run.key]

    def block(self, message: ConnectionBlocked | ConnectionUnblocked) -> None:
        """The broker refuses messages: results wait unacked, nothing new is taken, until it takes them again."""
        if message.role != PUBLISH:
            return
        if isinstance(message, ConnectionBlocked):
            journal.blocked(message.reason)
            self._slots.block()
        else:
            self._unblock()

    def _unblock(self) -> None:
        journal.blocked(None)
        self._slots.blocked = False
        self._start_held()
        self._slots.balance(self._settler.runs.values())


def _has_another(run: Run) -> bool:
    """Whether the queue held it twice, and a delivery of it stands: that is the one from now on."""
    standing = next((twin for twin in run.twins if twin.is_current), None)
    if standing is None:
        return False
    run.twins = [twin for twin in (*run.twins, run.delivery) if twin is not standing]
    run.delivery = standing
    return True
