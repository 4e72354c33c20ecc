"""What a verdict publishes, and what is still open of it. Planning is pure; `settling.py` publishes, waits and acks.

The golden rule: the ack is the last broker action of an outcome. Before it, every fact that replaces the message is
confirmed.
"""

from typing import Any

import msgspec

from jobrunner import attempts, events, outcome
from jobrunner.broker import topology
from jobrunner.broker.consumer import Delivery
from jobrunner.broker.publisher import Message, event_message, job_message
from jobrunner.envelope import Envelope
from jobrunner.outcome import (
    Cancelled,
    Dead,
    Defer,
    Done,
    Error,
    Expired,
    HandBack,
    Park,
    Redelay,
    Release,
    Renew,
    RunAgain,
    clip,
)
from jobrunner.worker.delivered import Run
from jobrunner.worker.reading import Unreadable

TRACEBACK_HEADER_CHARS, TRACEBACK_HEADER_BYTES = 1500, 3000
"""Of a dead letter's traceback, in its header: the event in the ledger has up to 16 KiB of it. All headers must
fit into 8 KiB, whatever the alphabet of the error, or the letter cannot be sent."""

HAND_BACK_BY_COPY = 2
"""Returns of one delivery after which a new copy goes back: up to 4.2 they count toward RabbitMQ's delivery limit."""


def needs_ladder(run: Run) -> bool:
    """Whether the verdict sends the job through `jobrunner.v1.jobs` or a delay level, which must exist first."""
    match run.verdict:
        case RunAgain() | Park() | Redelay() | Defer():
            return True
        case HandBack():
            return run.by_copy
        case _:
            return False


def hands_back_by_copy(run: Run) -> bool:
    """Whether a hand-back is a new copy rather than a nack: also of a job whose id was made here, and told.

    Not where it may be another worker's run, which would not know the copy; nor of a lost delivery: the broker has it.
    """
    is_told = run.foreign and run.child is not None and run.delivery.message_id is None
    is_often = (run.delivery.delivery_count or 0) >= HAND_BACK_BY_COPY
    return bool(run.started) and run.delivery.is_current and (is_told or is_often)


def plan(run: Run, worker: str, now: float) -> list[Message]:  # noqa: C901 - one case for each verdict
    """The messages that must be confirmed before the delivery of `run` is settled. now: seconds since the epoch."""
    envelope = run.envelope
    match run.verdict:
        case Done(outcome=succeeded):
            return [event_message(_succeeded(run, succeeded, now))]
        case RunAgain(error=error, counted=counted) as again:
            return _again(run, error, wait_of(again), counted=counted, now=now)
        case Dead(error=error):
            return _dead(run, error, worker, now)
        case Park(delay_s=delay_s, error=error):
            return _park(run, error, delay_s, now)
        case Expired():
            event = events.Expired(at=now, expires_at=envelope.job.expires_at or now, **facts_of(envelope))
            return [event_message(event)]
        case Cancelled(reason=reason, by=by, signal=signal, took_s=took_s):
            facts = facts_of(envelope, attempt=envelope.attempt if run.ran else envelope.state.attempt)
            cancelled = events.Cancelled(
                at=now, reason=reason, by=by, signal=signal, took_s=took_s, ran=run.ran, **facts
            )
            return [event_message(cancelled)]
        case Redelay(delay_s=delay_s) | Defer(delay_s=delay_s) as wait:
            copy = envelope.as_lease() if isinstance(wait, Defer) else envelope.with_state()
            return [job_message(copy, *topology.route(delay_s, envelope.job.queue))]
        case Release():
            return [event_message(events.Released(at=now, **facts_of(envelope, attempt=0)))]
        case Renew():
            key = topology.encode_word(envelope.job.queue)
            return [job_message(envelope.with_state(), topology.WAITING, key)]
        case HandBack():
            return _hand_back(run, now)
        case None:
            raise AssertionError("a run is planned once its verdict is known")


def facts_of(envelope: Envelope, *, attempt: int | None = None) -> dict[str, Any]:
    """The fields that every event of a job has."""
    state = envelope.state
    return {
        "id": envelope.job.id,
        "run": envelope.job.run,
        "attempt": envelope.attempt if attempt is None else attempt,
        "copy": state.copy,
        "chain": state.chain,
    }


def started(run: Run, ran: attempts.Run, now: float) -> Message:
    """The event that says that the job has been running for a while."""
    return event_message(events.Started(at=now, ran=ran, **_facts_of_run(run)))


def _facts_of_run(run: Run) -> dict[str, Any]:
    return {**facts_of(run.envelope), "max_attempts": run.limits.max_attempts}


def queued(envelope: Envelope, now: float) -> Message:
    """The event of a job that no client of ours enqueued: a foreign message that became a job here, or was one."""
    job = events.QueuedJob(job=msgspec.Raw(envelope.body), priority=envelope.priority)
    return event_message(events.Queued(at=now, jobs=[job], run=envelope.job.run))


def suppressed(envelope: Envelope, worker: str, now: float) -> Message:
    """The event of a redelivery that was not run again."""
    return event_message(events.Suppressed(at=now, worker=worker, **facts_of(envelope)))


def _succeeded(run: Run, succeeded: outcome.Succeeded, now: float) -> events.Succeeded:
    assert run.ran is not None  # noqa: S101 - what succeeded has run
    return events.Succeeded(
        at=now,
        result=succeeded.result,
        truncated=succeeded.truncated,
        failed=succeeded.failed,
        ran=run.ran,
        **_facts_of_run(run),
    )


def wait_of(verdict: RunAgain) -> float:
    """Seconds in the ladder: what a job has asked for, or a backoff with fewer hops; no more than there is."""
    delay_s = min(verdict.delay_s, topology.MAX_DELAY_S)
    return delay_s if verdict.exact or not delay_s else topology.coarse(delay_s)


def _again(run: Run, error: Error, delay_s: float, *, counted: bool, now: float) -> list[Message]:
    state = run.envelope.state
    due_at = now + delay_s
    changes: dict[str, int] = {"not_before_ms": int(due_at * 1000)}
    if counted:
        changes["attempt"] = state.attempt + 1
    else:
        changes["crashes"] = state.crashes + 1
    again = run.envelope.with_state(**changes)
    event = events.Retrying(at=now, error=error, due_at=due_at, counted=counted, ran=run.ran, **_facts_of_run(run))
    return [job_message(again, *topology.route(delay_s, run.envelope.job.queue)), event_message(event)]


def _park(run: Run, error: Error, delay_s: float, now: float) -> list[Message]:
    since_ms = run.envelope.state.parked_since_ms
    due_at = now + delay_s
    parked = run.envelope.with_state(parked_since_ms=since_ms or int(now * 1000), not_before_ms=int(due_at * 1000))
    messages = [job_message(parked, *topology.route(delay_s, run.envelope.job.queue))]
    if not since_ms:
        event = events.Parked(at=now, error=error, due_at=due_at, **facts_of(run.envelope, attempt=0))
        messages.append(event_message(event))
    return messages


def _dead(run: Run, error: Error, worker: str, now: float) -> list[Message]:
    envelope = run.envelope
    # an attempt that ran is counted in the letter, so that its reader sees how many there were
    attempts = envelope.attempt if run.ran else envelope.state.attempt
    letter = envelope.with_state(attempt=attempts, not_before_ms=0)
    headers = dead_letter_headers(error, queue=run.delivery.queue, worker=worker, now=now)
    event = events.Dead(
        at=now,
        error=error,
        queue=run.delivery.queue,
        worker=worker,
        ran=run.ran,
        **_facts_of_run(run) | {"attempt": attempts},
    )
    return [job_message(letter, topology.DLX, error.reason, headers), event_message(event)]


def dead_letter_headers(error: Error, *, queue: str, worker: str, now: float) -> dict[str, int | str]:
    """What a dead letter says of itself, in flat headers: readable with any AMQP tool."""
    headers: dict[str, int | str] = {
        "jr-reason": error.word,
        "jr-queue": queue,
        "jr-error": clip(error.headline),
        "jr-worker": worker,
        "jr-dead-at": int(now * 1000),
    }
    if error.traceback:
        end = error.traceback[-TRACEBACK_HEADER_CHARS:].encode()[-TRACEBACK_HEADER_BYTES:]
        headers["jr-traceback"] = end.decode(errors="ignore")
    return headers


def _hand_back(run: Run, now: float) -> list[Message]:
    envelope = run.envelope
    messages = []
    if run.ran is not None:
        messages.append(event_message(events.Interrupted(at=now, ran=run.ran, **_facts_of_run(run))))
    if run.by_copy:
        exchange, key = topology.route(0.0, envelope.job.queue)
        messages.append(job_message(envelope.with_state(), exchange, key))
    return messages


def plan_unreadable(refused: Unreadable, delivery: Delivery, worker: str, now: float) -> list[Message]:
    """The dead letter of a message that is no job: its body intact, its headers new; and the event that says so."""
    error = refused.error
    headers = dead_letter_headers(error, queue=delivery.queue, worker=worker, now=now)
    headers["jr-sha256"] = refused.sha256
    letter = Message(
        exchange=topology.DLX,
        key=error.reason,
        body=delivery.body,
        message_id=refused.job_id,
        type="jobrunner.unreadable",
        headers=headers,
    )
    event = events.Dead(at=now, id=refused.job_id, error=error, queue=delivery.queue, worker=worker)
    return [letter, event_message(event)]
