"""What is asked of the broker and of workers, besides the view, to tell why a job does not run."""

from collections.abc import Iterable, Sequence

import msgspec

from jobrunner.broker.control import Reply
from jobrunner.events import Pause
from jobrunner.view.rows import JobRow, WorkerRow
from jobrunner.view.store import Store


class LiveWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that is there. running: ids of its jobs; None where that was not asked."""

    name: str
    slots: int
    busy: int
    queues: Sequence[str]
    started_at: float
    functions: Sequence[str] = ()
    allow_commands: bool = False
    allow_programs: Sequence[str] = ()
    allow_import: Sequence[str] = ()
    running: frozenset[str] | None = None

    @classmethod
    def of_reply(cls, reply: Reply) -> "LiveWorker":
        """One that answered a ping."""
        return cls(
            name=reply.worker,
            slots=reply.slots,
            busy=reply.busy,
            queues=reply.queues,
            started_at=reply.started_at,
            functions=reply.functions,
            allow_commands=reply.allow_commands,
            allow_programs=reply.allow_programs,
            allow_import=reply.allow_import,
            running=frozenset(job.id for job in reply.running),
        )

    @classmethod
    def of_row(cls, row: WorkerRow) -> "LiveWorker":
        """One that the ledger tells of."""
        return cls(
            name=row.name,
            slots=row.slots,
            busy=row.busy,
            queues=row.queues,
            started_at=row.started_at,
            functions=row.functions,
            allow_commands=row.allow_commands,
            allow_programs=row.allow_programs,
            allow_import=row.allow_import,
        )

    def may_run(self, job: JobRow) -> bool:
        """Whether it was started to run such a job."""
        if job.argv is not None:
            return self.allow_commands or job.argv[0] in self.allow_programs
        if job.task is None or job.task in self.functions:
            return True
        module = job.task.partition(":")[0]
        return any(prefix in ("*", module) or module.startswith(f"{prefix}.") for prefix in self.allow_import)


class LiveFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked just now, besides the view.

    workers: those that answered; with is_asked False those that the ledger tells of (`live_of_view`).
    ready, consumers: of the job's queue as the broker counts them; None: not known. has_queue: False when the broker
    said that there is no such queue. full: how many messages the queue may hold, where it holds them and refuses more.
    blocked: the broker's reason for taking no messages. paused: the newest word on the queue, if it holds.
    """

    workers: Sequence[LiveWorker] = ()
    is_asked: bool = True
    ready: int | None = None
    consumers: int | None = None
    has_queue: bool = True
    full: int | None = None
    blocked: str | None = None
    paused: Pause | None = None


def paused_queues(store: Store, replies: Iterable[Reply], now: float) -> dict[str, Pause]:
    """Queue -> the word that pauses it now. Workers know it longer than the ledger keeps it."""
    newest: dict[str, Pause] = {}
    for pause in (*store.pauses(), *(pause for reply in replies for pause in reply.paused)):
        if pause.queue not in newest or pause.at > newest[pause.queue].at:
            newest[pause.queue] = pause
    return {queue: pause for queue, pause in newest.items() if pause.holds(now)}


def live_of_view(store: Store, queue: str, now: float) -> LiveFacts:
    """The facts for `--no-sync`: workers that the ledger tells of, and nothing of the broker."""
    workers = [LiveWorker.of_row(row) for row in store.workers() if not row.gone(now)]
    return LiveFacts(workers=workers, is_asked=False, paused=paused_queues(store, (), now).get(queue))
