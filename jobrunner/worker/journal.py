"""What a worker says while it works: one log record for each change, with a machine word in `action`.

The fields travel in the record (`extra`); the command line turns them into lines for people or for machines. No
arguments, results or bodies, ever.
"""

import logging
import os
import time
from typing import Any

from jobrunner import __version__, events
from jobrunner.broker.delivery import QueueUnavailable
from jobrunner.envelope import Envelope
from jobrunner.errors import JobrunnerError
from jobrunner.outcome import Cancelled, Dead, Done, Error, Expired, HandBack, Park, Release, RunAgain
from jobrunner.worker.delivered import Run
from jobrunner.worker.settings import WorkerSettings
from jobrunner.worker.settlement import wait_of

REPEATED_S = 30.0

log = logging.getLogger("jobrunner.worker")

ACTIONS = {
    "worker.started": "the worker is up and its first process is ready",
    "worker.stopping": "no new jobs; those that run may finish",
    "worker.stopped": "everything handed back or finished",
    "worker.bug": "an error of jobrunner itself; the worker ends, the broker has its jobs",
    "broker.back": "connected again",
    "broker.lost": "the connection ended; running jobs go on",
    "broker.blocked": "the broker takes no messages (memory or disk alarm)",
    "broker.unblocked": "the broker takes messages again",
    "broker.unconfirmed": "a consequence was not confirmed; the job stays unacked and it is published again",
    "queue.missing": "a queue that this worker listens on does not exist",
    "queue.unavailable": "the broker fails at a queue, which is left out for a while; the others are consumed",
    "queue.paused": "a queue is not consumed for now; its running jobs go on",
    "queue.resumed": "a queue is consumed again",
    "job.started": "running for 250 ms",
    "job.succeeded": "finished, its result in the ledger",
    "job.retrying": "will run again",
    "job.parked": "waits for a worker that knows its function",
    "job.dead": "in the dead-letter queue",
    "job.cancelled": "someone wants it no more",
    "waiting.refused": "its user may not look after jobs that wait for others",
    "job.released": "what it waited for has happened; it goes to its queue",
    "job.expired": "its time to start had passed",
    "job.handed_back": "back to its queue, no attempt counted",
    "job.adopted": "delivered again while it runs here; the run goes on",
    "job.suppressed": "delivered again after it had ended here; not run again",
    "job.asking": "delivered before; the other workers are asked whether one of them has it",
    "job.deferred": "another worker runs it and keeps it; a copy waits in case that one dies",
    "job.lease_lost": "the broker took the job back while it runs here",
    "child.died": "a worker process died",
    "child.reloaded": "worker processes are renewed",
    "keys.reloaded": "the key file was read again",
    "keys.kept": "the key file could not be read again; the keys stay as they were",
}
"""Every action with its meaning: the documentation's table, and a test that no other is used."""


def say(level: int, action: str, message: str, **fields: Any) -> None:
    """One record. fields: facts for machines."""
    log.log(level, message, extra={"action": action, **fields})


def job_fields(run: Run) -> dict[str, Any]:
    """The facts that each record of a job carries."""
    job = run.envelope.job
    return {
        "job_id": job.id,
        "task": job.task or (job.argv or ["?"])[0],
        "queue": job.queue,
        "attempt": run.envelope.attempt,
        "max_attempts": run.limits.max_attempts,
        "slot": None if run.child is None else run.child + 1,
    }


def started(run: Run) -> None:
    """A job has been running for a while."""
    if log.isEnabledFor(logging.INFO):
        say(logging.INFO, "job.started", "running", **job_fields(run))


def settled(run: Run) -> None:  # noqa: C901 - one case for each verdict
    """The consequence of a run is confirmed and its message settled."""
    took_s = None
    if run.ran is not None and run.ran.ended_at is not None:
        took_s = run.ran.ended_at - run.ran.started_at
    match run.verdict:
        case Done():
            if log.isEnabledFor(logging.INFO):
                say(logging.INFO, "job.succeeded", "succeeded", took_s=took_s, **job_fields(run))
        case RunAgain(error=error) as again:
            _ended(logging.WARNING, "job.retrying", run, error, due_in_s=wait_of(again), took_s=took_s)
        case Park(delay_s=delay_s, error=error):
            _ended(logging.WARNING, "job.parked", run, error, due_in_s=delay_s)
        case Dead(error=error):
            _ended(logging.ERROR, "job.dead", run, error, took_s=took_s)
        case Cancelled(reason=reason, signal=signal):
            how = f"cancelled: {signal}" if signal else "cancelled before it started"
            say(logging.INFO, "job.cancelled", how, took_s=took_s, reason=reason, **job_fields(run))
        case Expired():
            say(logging.INFO, "job.expired", "expired before it started", **job_fields(run))
        case Release():
            say(logging.INFO, "job.released", "what it waited for has happened", **job_fields(run))
        case HandBack():
            say(logging.INFO, "job.handed_back", "handed back, not counted as an attempt", **job_fields(run))
        case _:
            pass


def _ended(level: int, action: str, run: Run, error: Error, **fields: Any) -> None:
    say(level, action, error.headline, error=error.headline, reason=error.word, **fields, **job_fields(run))


def suppressed(envelope: Envelope) -> None:
    """A redelivery of what had ended here."""
    job = envelope.job
    say(
        logging.INFO,
        "job.suppressed",
        "had already ended here",
        job_id=job.id,
        task=job.task or (job.argv or ["?"])[0],
        queue=job.queue,
    )


def asking(run: Run) -> None:
    """A job was delivered before."""
    say(logging.INFO, "job.asking", "delivered before; asking who runs it", **job_fields(run))


def deferred(run: Run) -> None:
    """Another worker has it."""
    if not run.envelope.state.lease:  # once, not each time that the copy comes by
        say(logging.INFO, "job.deferred", "another worker runs it; it stays there", **job_fields(run))


def lease_lost(run: Run, error: JobrunnerError | None) -> None:
    """The broker took the delivery of a running job back."""
    short = run.envelope.job.id[:8]
    why = error.message if error else "its queue was deleted or moved"
    text = f"The broker took back {short} ({why}); the run goes on."
    say(logging.WARNING, "job.lease_lost", text, **job_fields(run))


def unconfirmed(run: Run, reason: str, delay_s: float) -> None:
    """A consequence was not stored; said at its first try and then about every 30 s."""
    if run.tries == 1 or delay_s >= REPEATED_S:
        text = f"not confirmed ({reason}); it stays unacked and is published again in {delay_s:g} s"
        say(logging.WARNING, "broker.unconfirmed", text, error=reason, **job_fields(run))


def worker_started(settings: WorkerSettings, server_version: str, functions: int) -> None:
    """The worker is up: what it listens to, and what it runs."""
    say(
        logging.INFO,
        "worker.started",
        f"worker {settings.name} is ready",
        version=__version__,
        worker=settings.name,
        pid=os.getpid(),
        procs=settings.procs,
        broker=settings.url.masked,
        server_version=server_version,
        queues=list(settings.queues),
        apps=list(settings.apps),
        functions=functions,
        allow_commands=settings.allow_commands,
        allow_programs=list(settings.allow_programs),
        allow_import=list(settings.allow_import),
        signed=settings.url.ring is not None,
    )


def waiting_refused(error: str) -> None:
    """The broker does not let this worker look after waiting jobs."""
    text = "This user may not look after jobs that wait for others; other workers do, if there are any."
    say(logging.WARNING, "waiting.refused", text, error=error)


def worker_stopped(done: int, handed_back: int) -> None:
    """The last line."""
    text = f"Stopped: {done} done, {handed_back} handed back."
    say(logging.INFO, "worker.stopped", text, done=done, handed_back=handed_back)


class Outage:
    """One outage of one connection: two lines, however many tries it takes."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, int]] = {}

    def lost(self, role: str, error: JobrunnerError, running: int) -> None:
        """A connection ended, or a try to open it failed."""
        since, tries = self._since.get(role, (time.monotonic(), 0))
        self._since[role] = (since, tries + 1)
        if tries == 0 and len(self._since) == 1:
            text = f"{error.message} Running jobs go on; connecting again."
            say(logging.WARNING, "broker.lost", text, error=error.message, running=running)

    def back(self, role: str) -> None:
        """It is open again."""
        if role not in self._since:
            return
        since, tries = self._since.pop(role)
        if not self._since:
            after_s = time.monotonic() - since
            text = f"connected again after {after_s:.0f} s, {tries} {'try' if tries == 1 else 'tries'}"
            say(logging.INFO, "broker.back", text, after_s=after_s, tries=tries)


def blocked(reason: str | None) -> None:
    """The broker takes no messages, or takes them again (None)."""
    if reason is None:
        say(logging.INFO, "broker.unblocked", "RabbitMQ takes messages again")
        return
    text = f"RabbitMQ takes no messages ({reason}). Results wait; nothing new is started."
    say(logging.WARNING, "broker.blocked", text, error=reason)


def queue_missing(queue: str) -> None:
    """A queue that should be listened on is not there."""
    say(logging.INFO, "queue.missing", f"There is no queue '{queue}' yet; creating it.", queue=queue)


def queue_unavailable(found: QueueUnavailable) -> None:
    """The broker has closed the connection because it cannot serve a queue."""
    text = f"RabbitMQ fails at the queue '{found.queue}': it is left out for {found.wait_s:g} s."
    say(logging.ERROR, "queue.unavailable", text, queue=found.queue, wait_s=found.wait_s)


def queue_paused(pause: events.Pause) -> None:
    """A queue is not to be consumed."""
    by = f" by {pause.by}" if pause.by else ""
    text = f"'{pause.queue}' is paused{by}; its running jobs go on."
    say(logging.INFO, "queue.paused", text, queue=pause.queue, by=pause.by, reason=pause.reason)


def queue_resumed(queue: str) -> None:
    """It is to be consumed again, or its pause is over."""
    say(logging.INFO, "queue.resumed", f"'{queue}' is consumed again.", queue=queue)


def bug(error: BaseException | None, message: str) -> None:
    """The last words before exit code 70."""
    log.critical("%s", message, exc_info=error, extra={"action": "worker.bug"})
