"""From facts to what is stored of them: drafts of jobs, and rows of the other tables. No I/O."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from jobrunner import events
from jobrunner.attempts import Run
from jobrunner.outcome import Error
from jobrunner.view import causes, draft
from jobrunner.view.draft import Draft, Place
from jobrunner.view.facts import LARGEST, Body, Fact, QueuedOne

OUTCOMES: Final = ("running", "interrupted", "failed", "cancelled", "dead", "succeeded")
"""How an attempt ended; the later in this list counts where two ends of one run are told."""
_encode = msgspec.json.Encoder().encode


class Merge:
    """Takes facts in. drafts: the jobs that they are about; new ones are numbered from `next_n`.

    attempts, logs, progress, cancels: rows to be merged into the tables of those names. workers, seals, pauses: as they
    came.
    """

    def __init__(self, drafts: dict[str, Draft], next_n: int) -> None:
        self.drafts = drafts
        self.next_n = next_n
        self.new: list[Draft] = []
        self.attempts: list[tuple[Any, ...]] = []
        self.logs: list[tuple[Any, ...]] = []
        self.progress: list[tuple[Any, ...]] = []
        self.cancels: list[tuple[Any, ...]] = []
        self.pauses: list[events.Pause] = []
        self.workers: list[events.Worker] = []
        self.seals: list[events.Sealed] = []
        self.genesis: str | None = None

    def take(self, fact: Fact) -> None:
        """One fact."""
        _TAKE[type(fact)](self, fact)

    def _draft(self, job_id: str) -> Draft:
        found = self.drafts.get(job_id)
        if found is None:
            found = self.drafts[job_id] = Draft(self.next_n, job_id)
            self.new.append(found)
            self.next_n += 1
        return found

    # --- a job that waits -------------------------------------------------------------------------------------------

    def queued(self, one: QueuedOne) -> None:
        """What the job is, and that it waits."""
        body, job, at = one.body, one.job, one.at
        row = self._draft(body.id)
        if (job.chain, job.copy, -at) > (row.q_chain, row.q_copy, -row.q_at):
            row.q_chain, row.q_copy, row.q_at = job.chain, job.copy, at
            row.name = _name(body)
            row.queue, row.priority, row.run, row.user = body.queue, job.priority, body.run, body.user or one.by
            row.tags = _encode(body.tags).decode() if body.tags else None
            row.created_at, row.body = body.iat, bytes(job.job)
        if not row.reaches(job.chain, at):
            return
        state = "waiting" if job.waits else "queued" if job.not_before is None else "scheduled"
        phase = draft.PHASE_WAITING if job.waits else draft.PHASE_QUEUED
        row.moves((0, job.copy, 0, 0.0, phase, -at), state, at)
        row.due(job.copy, job.not_before or (at if job.chain else body.iat))

    def released(self, event: events.Released) -> None:
        """What it waited for has happened."""
        row = self._of(event, None, 0, None)
        if row is not None:
            row.moves((0, event.copy, 0, 0.0, draft.PHASE_QUEUED, -event.at), "queued", event.at)
            row.due(event.copy, event.at)

    def retrying(self, event: events.Retrying) -> None:
        """A run failed, or its process died."""
        row = self._of(event, event.ran, 2, event.error, counts=event.counted)
        if row is None:
            return
        place = (0, event.copy, 1, _started(event.ran), 0, event.at)
        if row.moves(place, "retrying", event.at):
            causes.describe(row, event.error)
        row.due(event.copy + 1, event.due_at)

    def parked(self, event: events.Parked) -> None:
        """No worker knows its function."""
        row = self._of(event, None, 0, None)
        if row is None:
            return
        if row.moves((0, event.copy, 1, 0.0, 0, event.at), "parked", event.at):
            causes.describe(row, event.error)
        row.due(event.copy + 1, event.due_at)

    def interrupted(self, event: events.Interrupted) -> None:
        """Handed back."""
        row = self._of(event, event.ran, 1, None)
        if row is not None:
            place = (0, event.copy, 0, event.ran.started_at, draft.PHASE_INTERRUPTED, event.at)
            row.moves(place, "queued", event.at)

    # --- a job that runs --------------------------------------------------------------------------------------------

    def started(self, event: events.Started) -> None:
        """Running."""
        row = self._of(event, event.ran, 0, None)
        if row is not None:
            self._runs(row, event.copy, event.ran.started_at, draft.PHASE_STARTED)

    def log(self, event: events.Log) -> None:
        """Output; it also tells of a run, should nothing else have told of it."""
        run = Run(worker=event.worker or "", host="", pid=0, started_at=event.started_at)
        row = self._of(event, run, 0, None)
        if row is not None:
            self._runs(row, event.copy, event.started_at, draft.PHASE_LOG)
        if 0 <= event.offset_bytes < LARGEST:
            n = self.drafts[event.id].n
            key = (n, event.started_at, event.stream, event.offset_bytes)
            self.logs.append((*key, event.at, event.attempt, event.text))

    def told(self, event: events.Progress) -> None:
        """What the job says of itself."""
        row = self._of(event, None, 0, None)
        if row is not None:
            row.moves((0, event.copy, 0, 0.0, draft.PHASE_PROGRESS, -event.at), "running", event.at)
        n = self.drafts[event.id].n
        self.progress.append((n, event.chain, event.copy, event.at, event.fraction, event.text))

    @staticmethod
    def _runs(row: Draft, copy: int, started_at: float, phase: int) -> None:
        row.moves((0, copy, 0, started_at, phase, 0.0), "running", started_at)

    # --- a job that has ended ---------------------------------------------------------------------------------------

    def succeeded(self, event: events.Succeeded) -> None:
        """With its result."""
        row = self._of(event, event.ran, 5, None)
        if row is not None and self._ends(row, event, "succeeded", event.ran):
            row.result = bytes(event.result)
            row.result_bytes = len(row.result)
            row.truncated = int(event.truncated)

    def dead(self, event: events.Dead) -> None:
        """In the dead-letter queue."""
        row = self._draft(event.id)
        if row.q_chain < 0:
            row.queue = max(row.queue, event.queue)
        reached = self._of(event, event.ran, 4, event.error)
        if reached is not None and self._ends(row, event, "dead", event.ran):
            causes.describe(row, event.error)

    def cancelled(self, event: events.Cancelled) -> None:
        """By a person, or purged."""
        row = self._of(event, event.ran, 3, None)
        if row is not None and self._ends(row, event, "cancelled", event.ran):
            message = " ".join(part for part in (event.reason, f"by {event.by}" if event.by else "") if part)
            row.error = causes.error_text(Error(reason="cancelled", message=message, signal=event.signal))

    def expired(self, event: events.Expired) -> None:
        """Not started in time."""
        row = self._of(event, None, 0, None)
        if row is not None and self._ends(row, event, "expired", None):
            row.error = causes.error_text(Error(reason="expired", message="no worker started it in time"))

    @staticmethod
    def _ends(row: Draft, event: Any, state: str, ran: Run | None) -> bool:
        place: Place = (draft.RANK[state], event.copy, 0, _started(ran), 0, -event.at)
        return row.moves(place, state, event.at)

    # --- what all have in common ------------------------------------------------------------------------------------

    def _of(
        self, event: Any, ran: Run | None, outcome: int, error: Error | None, *, counts: bool = False
    ) -> Draft | None:
        """The draft of an event's job, its run recorded; None when a later chain has begun."""
        row = self._draft(event.id)
        if ran is not None:
            self._attempt(row.n, event, ran, outcome, error)
        if row.q_chain < 0 and event.run and (row.run is None or event.run > row.run):
            row.run = event.run
        if not row.reaches(event.chain, event.at):
            return None
        if ran is not None:
            rest = (ran.ended_at or 0.0, ran.host, _pid(ran), ran.worker, _max_attempts(event))
            row.ran(event.copy, ran.started_at, rest)
        if ran is not None or counts or isinstance(event, events.Progress):
            row.attempt = max(row.attempt, event.attempt)
        return row

    def _attempt(self, n: int, event: Any, ran: Run, outcome: int, error: Error | None) -> None:
        key = (n, event.chain, event.copy, ran.started_at)
        run = (event.attempt, ran.worker, ran.host, _pid(ran), ran.ended_at or 0.0, outcome)
        self.attempts.append((*key, *run, _json(error), _json(ran.stdout), _json(ran.stderr)))

    def sealed(self, event: events.Sealed) -> None:
        """All jobs of a run are queued."""
        self.seals.append(event)

    def cancel(self, event: events.Cancel) -> None:
        """A request; that of a run is for the first chain of each of its jobs."""
        rest = (event.at, event.reason, event.by)
        self.cancels += [(f"id:{job_id}", chain, *rest) for job_id, chain in event.jobs.items() if abs(chain) < LARGEST]
        if event.run is not None:
            self.cancels.append((f"run:{event.run}", 0, *rest))

    def pause(self, event: events.Pause) -> None:
        """A word on a queue."""
        self.pauses.append(event)

    def worker(self, event: events.Worker) -> None:
        """A worker's life."""
        self.workers.append(event)

    def begun(self, event: events.Genesis) -> None:
        """The first record of a ledger; of several the first counts."""
        self.genesis = self.genesis or event.id

    def suppressed(self, event: events.Suppressed) -> None:
        """Says nothing that is kept."""


def _name(body: Body) -> str | None:
    """What `task:` selects: the function with dots, or a slash and the program."""
    if body.task is not None:
        return body.task.replace(":", ".")
    return "/" + body.argv[0].rpartition("/")[2] if body.argv else None


def _started(ran: Run | None) -> float:
    return ran.started_at if ran is not None else 0.0


def _pid(ran: Run) -> int:
    return ran.pid if 0 <= ran.pid < LARGEST else 0


def _max_attempts(event: Any) -> int:
    told = getattr(event, "max_attempts", None) or 0
    return told if 0 < told < LARGEST else 0


def _json(value: object) -> str:
    return "" if value is None else _encode(value).decode()


_TAKE: Final[dict[type, Callable[[Merge, Any], None]]] = {
    QueuedOne: Merge.queued,
    events.Released: Merge.released,
    events.Started: Merge.started,
    events.Succeeded: Merge.succeeded,
    events.Retrying: Merge.retrying,
    events.Dead: Merge.dead,
    events.Parked: Merge.parked,
    events.Interrupted: Merge.interrupted,
    events.Expired: Merge.expired,
    events.Cancelled: Merge.cancelled,
    events.Suppressed: Merge.suppressed,
    events.Log: Merge.log,
    events.Progress: Merge.told,
    events.Sealed: Merge.sealed,
    events.Cancel: Merge.cancel,
    events.Pause: Merge.pause,
    events.Worker: Merge.worker,
    events.Genesis: Merge.begun,
}
