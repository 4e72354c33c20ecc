"""What a worker would have left behind, made by hand, for retry, cancel and audit: letters, ends, a view of it all."""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from jobrunner import events
from jobrunner.broker import declare, topology
from jobrunner.broker.batch import all_answers
from jobrunner.broker.publisher import Message, Publisher, Stored, event_message, job_message
from jobrunner.brokerurl import BrokerUrl
from jobrunner.client import Client
from jobrunner.envelope import Envelope, new_job, seal
from jobrunner.outcome import Error
from jobrunner.view.recorder import sync
from jobrunner.view.store import Store
from jobrunner.worker.settlement import dead_letter_headers

FAILED = Error(reason="error", message="no such luck", class_name="ValueError")


def a_job(queue: str, **fields: object) -> Envelope:
    return seal(new_job(queue=queue, **({"task": "tasks:add"} | fields)))  # type: ignore[arg-type]


def facts(job: Envelope) -> dict[str, object]:
    state = job.state
    return {"id": job.job.id, "run": job.job.run, "copy": state.copy, "chain": state.chain}


def queued_event(*jobs: Envelope, ago_s: float = 0.0) -> Message:
    each = [
        events.QueuedJob(
            job=msgspec.Raw(job.body),
            priority=job.priority,
            not_before=job.state.not_before_ms / 1000 or None,
            chain=job.state.chain,
            copy=job.state.copy,
        )
        for job in jobs
    ]
    return event_message(events.Queued(at=time.time() - ago_s, jobs=each, by="me@here"))


def letter(job: Envelope, error: Error = FAILED) -> Message:
    """The dead letter of a job."""
    headers = dead_letter_headers(error, queue=job.job.queue, worker="w1", now=time.time())
    return job_message(job.with_state(attempt=1), topology.DLX, error.reason, headers)


def dead_event(job: Envelope, error: Error = FAILED) -> Message:
    return event_message(
        events.Dead(at=time.time(), error=error, queue=job.job.queue, attempt=1, **facts(job))  # type: ignore[arg-type]
    )


def cancelled_event(job: Envelope, reason: str = "") -> Message:
    return event_message(events.Cancelled(at=time.time(), reason=reason, **facts(job)))  # type: ignore[arg-type]


async def publish(url: BrokerUrl, messages: Iterable[Message]) -> None:
    """Publish all of them, each confirmed."""
    async with Client(url) as client:
        publisher = Publisher(client.connection)
        try:
            await declare.declare_startup(client.connection, publisher)
            answers = await all_answers(publisher, list(messages))
        finally:
            publisher.close()
    assert all(isinstance(answer, Stored) for answer in answers), answers


async def make_dead(url: BrokerUrl, *jobs: Envelope) -> None:
    """Dead jobs: accepted, ended, with their letters."""
    await publish(url, [queued_event(*jobs)] + [make(job) for job in jobs for make in (letter, dead_event)])


async def synced(path: Path, url: BrokerUrl) -> Store:
    """A view of its own, up to date."""
    store = Store.open(path)
    await sync(store, url, timeout_s=30)
    return store
