"""What an audit found is put right: lost jobs are queued again, what had no queue gets one, second letters go."""

import time
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from jobrunner import envelope as envelopes
from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.batch import all_answers, batched
from jobrunner.broker.browse import Browser
from jobrunner.broker.message import signature_of
from jobrunner.broker.probing import PROBE_TYPE
from jobrunner.broker.publisher import Publisher, Stored, event_message
from jobrunner.client import Client
from jobrunner.envelope import Envelope, MalformedMessage
from jobrunner.errors import JobrunnerError
from jobrunner.fixing.census import Job
from jobrunner.fixing.changes import COPY_STEP, Changes, again, from_ledger
from jobrunner.fixing.findings import Finding, Report
from jobrunner.fixing.letters import Letter, Letters
from jobrunner.fixing.looking import SEEN_TO_MOVE, Sighting, look
from jobrunner.outcome import Error
from jobrunner.signing import Refused
from jobrunner.view.recorder import sync
from jobrunner.view.rows import ENDED, JobRow
from jobrunner.view.store import Store


class Repaired(msgspec.Struct, frozen=True):
    """A job. done: what was done, or why nothing was."""

    id: str
    done: str
    is_good: bool


class Repairer:
    """Repairs what a report names. Two at once keep out of each other's way by the dead letters."""

    def __init__(self, store: Store, client: Client) -> None:
        self._store = store
        self._client = client
        self.told: list[Repaired] = []
        self.letters_removed = 0

    async def run(self, report: Report) -> None:
        """Do it; `told` has each job. Raises: LettersInUse, the broker's errors."""
        client = self._client
        lost = [one for one in report.findings if one.kind == "lost"]
        given_up = frozenset(one.id for one in report.findings if one.kind == "given_up")
        wanted = report.stale_letters + len(given_up)
        async with Letters(client.connection, wanted=wanted, timeout_s=client.timeout_s) as letters:
            await sync(self._store, client.url, timeout_s=client.timeout_s)
            await self._queue_again(lost)
            if given_up or report.stale_letters:
                await self._put_right(letters, given_up)
        if report.unrouted:
            await look(client.connection, topology.UNROUTED, self._route, seen=SEEN_TO_MOVE)

    async def _queue_again(self, lost: Sequence[Finding]) -> None:
        planned: list[Envelope] = []
        for one in lost:
            row = self._store.job(one.id)
            if row is None or row.state in ENDED:
                self._tell(one.id, "has ended meanwhile; nothing was done", is_good=True)
                continue
            if one.job is not None and _has_gone_on(one.job, row):
                self._tell(one.id, "was queued again or runs meanwhile; nothing was done", is_good=True)
                continue
            envelope = _planned(row)
            if isinstance(envelope, Envelope):
                planned.append(envelope)
            else:
                self._tell(one.id, f"cannot be queued again: {envelope.message}", is_good=False)
        async for batch in batched(planned):
            for envelope, error in zip(batch, await self._client.enqueue_batch(batch), strict=True):
                done = "queued again from the ledger" if error is None else error.message
                self._tell(envelope.job.id, done, is_good=error is None)

    async def _put_right(self, letters: Letters, given_up: frozenset[str]) -> None:
        async with aclosing(letters.batches(lambda _: True)) as batches:
            async for batch in batches:
                for letter in batch:
                    row = self._store.job(letter.id)
                    if row is None:
                        continue
                    if letter.state.chain < row.chain:
                        self.letters_removed += letters.ack(letter)
                    elif letter.id in given_up and row.state not in ENDED:
                        await self._record(letter, row)

    async def _record(self, letter: Letter, row: JobRow) -> None:
        """The end that RabbitMQ gave the job, in the ledger."""
        queue = str(letter.delivery.headers.get("x-first-death-queue") or row.queue)
        error = Error(reason=letter.reason, message=f"RabbitMQ put it among the dead letters: {letter.reason}")
        event = events.Dead(
            at=time.time(),
            id=row.id,
            run=row.run,
            attempt=row.attempt,
            copy=max(row.copy, letter.state.copy),
            chain=row.chain,
            error=error,
            queue=queue,
        )
        publisher = Publisher(self._client.connection, confirm_timeout_s=self._client.timeout_s)
        try:
            (answer,) = await all_answers(publisher, [event_message(event)])
        finally:
            publisher.close()
        is_good = isinstance(answer, Stored)
        self._tell(row.id, "recorded as dead; `retry` queues it" if is_good else str(answer), is_good=is_good)

    async def _route(self, sighting: Sighting, browser: Browser) -> None:
        """What had no queue goes to its queue, made for it if need be; then it leaves where it was."""
        for job_id, delivery in sighting.deliveries.items():
            if delivery.type == PROBE_TYPE:
                self._tell(
                    job_id,
                    "removed: no job, but what `doctor` sent before it was stopped",
                    is_good=browser.ack(delivery),
                )
                continue
            try:
                job = envelopes.decode(delivery.body, delivery.message_id)
                state = envelopes.state_of(dict(delivery.headers))
            except MalformedMessage as exc:
                self._tell(job_id, f"stays in '{topology.UNROUTED}': {exc.message}", is_good=False)
                continue
            # with keys, a job keeps its own signature: what was not signed is not signed here either
            signature = signature_of(self._client.url, job.queue, delivery)
            if isinstance(signature, Refused):
                self._tell(job_id, f"stays in '{topology.UNROUTED}': {signature.message}", is_good=False)
                continue
            priority = envelopes.DEFAULT_PRIORITY if delivery.priority is None else delivery.priority
            envelope = Envelope(
                job=job, state=state, priority=max(0, min(9, priority)), body=delivery.body, signature=signature
            )
            (error,) = await self._client.enqueue_batch([envelope.with_state()])
            if error is None:
                browser.ack(delivery)
            done = f"moved to '{job.queue}'" if error is None else error.message
            self._tell(job.id, done, is_good=error is None)

    def _tell(self, job_id: str, done: str, *, is_good: bool) -> None:
        self.told.append(Repaired(job_id, done, is_good))


def _has_gone_on(was: Job, row: JobRow) -> bool:
    """Whether it was heard of since the audit: another command may have repaired it while this one asked or waited."""
    return (row.chain, row.copy) != (was.chain, was.copy) or (row.state == "running" and was.state != "running")


def _planned(row: JobRow) -> Envelope | JobrunnerError:
    """The next chain of a lost job; one that is not due yet waits as long as it had to.

    One that waits for others stays in its chain: a later one would wait no more.
    """
    was = from_ledger(row)
    if isinstance(was, JobrunnerError):
        return was
    if row.state == "waiting":
        return msgspec.structs.replace(was, state=envelopes.State(copy=was.state.copy + COPY_STEP))
    delay_s = max(0.0, row.not_before - time.time()) if row.not_before is not None else 0.0
    try:
        return again(was, Changes(), delay_s=delay_s, copy_step=COPY_STEP)
    except MalformedMessage as exc:
        return exc
