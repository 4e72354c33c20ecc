"""Why a job is not running: one true sentence, and the command that helps. Decided from facts alone."""

import shlex
from collections.abc import Sequence
from typing import Final

import msgspec

from jobrunner.durations import format_about, format_duration
from jobrunner.events import Pause
from jobrunner.instants import show_instant
from jobrunner.view.live import LiveFacts, LiveWorker
from jobrunner.view.pausing import pause_words, resume_command
from jobrunner.view.rows import JobRow
from jobrunner.view.store import Store

DEFAULT_QUEUE: Final = "task_queue"
MISSING_AFTER_S: Final = 60.0
"""A job that is due for so long, with slots free and its queue empty, is where nobody can see it."""

_SHOWN: Final = 4


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """code: a stable word. text: a sentence that begins in lower case and ends with a full stop. fix: a command that
    helps; label: what it does, to stand before it.
    """

    code: str
    text: str
    fix: str = ""
    label: str = ""


def explain_why(store: Store, row: JobRow, *, now: float, live: LiveFacts) -> Why | None:
    """Why a job does not run; None for one that does, or that has ended. now: seconds since the epoch."""
    if row.is_ended:
        return None
    if row.state == "waiting" and row.cancel_requested_at is None:
        from jobrunner.view.waits import explain_wait

        return explain_wait(store, row, now=now, live=live)
    seen_at = next((worker.seen_at for worker in store.workers() if worker.name == row.worker), None)
    ahead = store.place_in_line(row, now=now) if row.state == "queued" else 0
    return reason(row, now=now, live=live, ahead=ahead, seen_at=seen_at)


def reason(row: JobRow, *, now: float, live: LiveFacts, ahead: int, seen_at: float | None = None) -> Why | None:
    """The same from facts alone. ahead: queued jobs before it. seen_at: when its worker last told something."""
    if row.is_ended:
        return None
    runs = any(worker.running and row.id in worker.running for worker in live.workers)
    if row.cancel_requested_at is not None:
        return _cancel_pending(row, now, live, runs=runs)
    if row.state == "running" or runs:
        return None if runs else _worker_gone(row, now, live, seen_at)
    if row.expires_at is not None and row.expires_at <= now:
        return _expired(row, now)
    if row.parked:
        return _parked(row, now)
    if row.state == "scheduled":
        return _due_later(row, now)
    if row.state == "retrying":
        return _retry_later(row, now)
    return _queued(row, now, live, ahead)


# --- it waits for something of its own ------------------------------------------------------------------------------


def _cancel_pending(row: JobRow, now: float, live: LiveFacts, *, runs: bool) -> Why:
    asked = f"a cancel was asked for {format_about(now - (row.cancel_requested_at or now))} ago"
    answered = any(worker.name == row.worker for worker in live.workers)
    if row.state == "running" and not answered:
        text = f"{asked}; its worker {row.worker} has not answered."
    elif runs or row.state == "running":
        text = f"{asked}; it is being stopped on {row.worker}."
    else:
        text = f"{asked}; it will not start, and is marked cancelled when a worker takes it from '{row.queue}'."
        if not _listening(row, live):
            return Why(code="cancel_pending", text=text, fix=worker_command(row), label="Start one")
    return Why(code="cancel_pending", text=text, fix=f"jobrunner cancel {_prefix(row)}", label="Ask again")


def _worker_gone(row: JobRow, now: float, live: LiveFacts, seen_at: float | None) -> Why | None:
    """A job that runs as far as the ledger tells. None when its worker is there."""
    here = next((worker for worker in live.workers if worker.name == row.worker), None)
    if here is not None and (row.started_at is None or here.started_at <= row.started_at):
        return None  # it runs, or has ended at this moment
    seen = "" if seen_at is None else f", last seen {format_about(max(0.0, now - seen_at))} ago"
    gone = "has been started again" if here is not None else f"does not answer{seen}"
    text = f"its worker {row.worker} {gone}; the broker gives the job to another once it finds the connection closed."
    return Why(code="worker_gone", text=text, fix=f"jobrunner workers ping {row.worker}", label="Ask it")


def _expired(row: JobRow, now: float) -> Why:
    ago = format_about(now - (row.expires_at or now))
    text = f"its time to start passed {ago} ago; the worker that takes it marks it expired."
    return Why(code="expired", text=text, fix=f"jobrunner cancel {_prefix(row)}", label="Do without it")


def _due_later(row: JobRow, now: float) -> Why:
    due_at = row.not_before or now
    text = f"it is due in {_left(due_at, now)}, at {show_instant(due_at, now)}."
    prefix = _prefix(row)
    return Why(
        code="due_later", text=text, fix=f"jobrunner cancel {prefix} && jobrunner retry {prefix}", label="Run it now"
    )


def _retry_later(row: JobRow, now: float) -> Why:
    tries = f"try {row.attempt + 1}" + (f" of {row.max_attempts}" if row.max_attempts else "")
    error = f" ({row.error.headline})" if row.error else ""
    text = f"{tries} is due in {_left(row.not_before or now, now)}{error}."
    return Why(code="retry_later", text=text, fix=f"jobrunner logs {_prefix(row)}", label="What it wrote")


def _parked(row: JobRow, now: float) -> Why:
    due_at = row.not_before or now
    again = f"it is tried again in {_left(due_at, now)}" if due_at > now else "it is tried again every two minutes"
    text = f"no worker that took it knows {_what(row)}; {again}, for a day."
    return Why(code="parked", text=text, fix=worker_command(row), label="Start one that knows it")


# --- it lies in its queue -------------------------------------------------------------------------------------------


def _queued(row: JobRow, now: float, live: LiveFacts, ahead: int) -> Why:
    if live.blocked is not None:
        text = f"RabbitMQ takes no messages ({live.blocked}), so workers start nothing; queued jobs are safe."
        return Why(code="broker_blocked", text=text, fix="rabbitmq-diagnostics alarms", label="See why")
    if not live.has_queue:
        text = f"the broker has no queue '{row.queue}' any more, and what was in it went with it."
        return Why(code="queue_missing", text=text, fix="jobrunner audit", label="What is lost")
    if live.paused is not None:
        return _paused(row, now, live.paused)
    if live.full is not None and _came_later(row):
        count = f"{live.ready or 0:,} of at most {live.full:,} messages"
        text = f"its queue '{row.queue}' is full ({count}); what comes from a delay goes in once there is room."
        return Why(code="queue_full", text=text, fix=worker_command(row), label="Empty it faster")
    listening = _listening(row, live)
    if not listening:
        return _no_worker(row, live)
    allowed = [worker for worker in listening if worker.may_run(row)]
    if not allowed:
        return _not_allowed(row, listening)
    slots, busy = sum(worker.slots for worker in allowed), sum(worker.busy for worker in allowed)
    if busy < slots and not ahead:
        return _next_in_line(row, now, live, slots - busy)
    place = "it is the next" if not ahead else "1 job is before it" if ahead == 1 else f"{ahead:,} jobs are before it"
    if busy < slots:
        text = f"{place} on '{row.queue}'; {busy} of {slots} slots there are busy."
    else:
        text = f"{_all(slots)} on '{row.queue}' {'is' if slots == 1 else 'are'} busy; {place}."
    return Why(code="all_busy", text=text, fix=worker_command(row), label="Add a worker")


def _paused(row: JobRow, now: float, pause: Pause) -> Why:
    text = f"its queue '{row.queue}' is {pause_words(pause, now)}."
    return Why(code="queue_paused", text=text, fix=resume_command(row.queue), label="Resume it")


def _no_worker(row: JobRow, live: LiveFacts) -> Why:
    told = "answered" if live.is_asked else "are known"
    if live.workers:
        queues = sorted({queue for worker in live.workers for queue in worker.queues})
        shown = ", ".join(queues[:_SHOWN]) + (", …" if len(queues) > _SHOWN else "")
        others = f"{len(live.workers)} {told}; they take {shown}"
    else:
        others = f"none {told}"
    text = f"no live worker listens on '{row.queue}' ({others})."
    if live.consumers:
        who = "1 other consumer" if live.consumers == 1 else f"{live.consumers} other consumers"
        text = f"{text[:-1]}, but {who} may take it."
    return Why(code="no_worker", text=text, fix=worker_command(row), label="Start one")


def _not_allowed(row: JobRow, listening: Sequence[LiveWorker]) -> Why:
    count = len(listening)
    who = f"worker {listening[0].name}" if count == 1 else f"none of the {count} workers"
    does, knows = ("runs no", "does not know") if count == 1 else ("runs", "knows")
    noun = f"command '{row.argv[0]}'" if row.argv and any(one.allow_programs for one in listening) else "commands"
    what = f"{does} {noun}" if row.argv is not None else f"{knows} {row.task}"
    text = f"no live worker may run it: {who} on '{row.queue}' {what}."
    return Why(code="not_allowed", text=text, fix=worker_command(row), label="Start one that may")


def _next_in_line(row: JobRow, now: float, live: LiveFacts, free: int) -> Why:
    waits_s = now - (row.due_at or row.created_at or row.state_at)
    if live.ready == 0 and live.is_asked and waits_s > MISSING_AFTER_S:
        text = f"its queue '{row.queue}' is empty, and no worker that answered has it."
        return Why(code="not_found", text=text, fix="jobrunner audit", label="Whether it is lost")
    slots = "1 slot is free" if free == 1 else f"{free} slots are free"
    text = f"it is the next on '{row.queue}', and {slots}: it starts at this moment."
    return Why(code="starting", text=text, fix=f"jobrunner show {_prefix(row)}", label="Look again")


# --- words ----------------------------------------------------------------------------------------------------------


def worker_command(row: JobRow) -> str:
    """The command that starts a worker for a job."""
    words = ["jobrunner", "worker"]
    if row.queue != DEFAULT_QUEUE:
        words += ["-q", row.queue]
    if row.argv is not None:
        words.append("--allow-commands")
    elif row.task is not None and (module := row.task.partition(":")[0]) != "tasks":
        words += ["-A", module]
    return shlex.join(words)


def _listening(row: JobRow, live: LiveFacts) -> list[LiveWorker]:
    return [worker for worker in live.workers if row.queue in worker.queues]


def _came_later(row: JobRow) -> bool:
    """Whether it waited elsewhere before: one that was accepted by its queue at once is in it, however full that is."""
    return bool(row.copy) or (row.due_at or 0.0) > (row.created_at or row.state_at)


def _what(row: JobRow) -> str:
    return row.task or "it"


def _all(slots: int) -> str:
    return "the one slot" if slots == 1 else f"all {slots} slots"


def _left(at: float, now: float) -> str:
    return format_duration(max(0.0, round(at - now)))


def _prefix(row: JobRow) -> str:
    return row.short_id
