"""Jobs that are wanted no more: a record that binds every worker, now and later, and what is proven of each job.

First the tombstone is confirmed, so that a worker that starts from now on knows it before it consumes. Then all workers
that live are told. When each of them has answered that the job is not there, nothing can start it any more.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from jobrunner import events
from jobrunner.broker import control, declare, topology
from jobrunner.broker.batch import all_answers
from jobrunner.broker.message import could_sign
from jobrunner.broker.publisher import Message, Publisher, Stored, event_message
from jobrunner.client import Client
from jobrunner.errors import CancelUnconfirmed
from jobrunner.fixing.endings import End, Endings
from jobrunner.view.recorder import sync
from jobrunner.view.rows import ENDED, JobRow, WorkerRow
from jobrunner.view.store import Store

IDS_IN_RECORD: Final = 5000
"""Jobs of one record and of one question: about 120 KB."""

ANSWER_S: Final = 2.0
"""For live workers to answer; those that did not are asked again."""

ENDED_S: Final = 1.0
"""A worker that has settled the job before has published its end before. If none is known so long after, that was an
earlier attempt, and the job waits elsewhere."""

LOOK_S: Final = 0.25


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was proven of a job.

    outcome: cancelled (nothing can start it), killed (it ran: signal, took_s), pending, or the state in which it had
    ended. is_old: it had ended before. workers: of a pending one, who has not answered or not yet killed it.
    """

    id: str
    outcome: str
    is_old: bool = False
    has_run: bool = False
    signal: str | None = None
    took_s: float | None = None
    workers: list[str] = []
    is_running: bool = False


class Canceller:
    """Cancels jobs of a view. signal: such as INT, None for TERM. wait_s: for proofs.

    kept: of so many jobs the tombstones are confirmed.
    """

    def __init__(
        self, store: Store, client: Client, *, reason: str = "", signal: str | None = None, wait_s: float = 10.0
    ) -> None:
        self._store = store
        self._client = client
        self._reason = reason
        self._signal = signal
        self._wait_s = wait_s
        self._publisher = Publisher(client.connection, confirm_timeout_s=client.timeout_s)
        self._states: dict[str, dict[str, str]] = {}  # worker -> id -> what it answered
        self._asked = 0.0
        self.kept = 0

    async def run(self, rows: Sequence[JobRow], run: str | None = None) -> list[Proof]:
        """Cancel these jobs; with `run` also what of that run is still being queued. Gives a proof for each.

        Raises: CancelUnconfirmed when the tombstone is not known to be stored; the broker's errors.
        """
        try:
            return await self._run(rows, run)
        finally:
            self._publisher.close()

    async def _run(self, rows: Sequence[JobRow], run: str | None) -> list[Proof]:
        proofs = {row.id: Proof(id=row.id, outcome=row.state, is_old=True) for row in rows if row.is_ended}
        left = {row.id: row for row in rows if not row.is_ended}
        chains = {job_id: row.chain for job_id, row in left.items()}
        if run is not None and not left:
            await self._bury(chains, run)
            await self._ask_all(chains, run, len(await self._live_workers()))
        if left:
            async with Endings(self._client.url, chains, timeout_s=self._client.timeout_s) as endings:
                await self._bury(chains, run)
                await self._prove(left, proofs, endings, run)
        return [proofs[row.id] for row in rows]

    async def _bury(self, chains: dict[str, int], run: str | None) -> None:
        """The tombstones, confirmed."""
        for jobs in _pieces(chains):
            event = events.Cancel(
                at=time.time(), jobs=jobs, run=run, reason=self._reason, signal=self._signal, by=self._client.by
            )
            await self._publish_all([event_message(event)], next(iter(jobs), run or ""))
            self.kept += len(jobs)
            run = None

    async def _publish_all(self, messages: Sequence[Message], job_id: str) -> None:
        began = time.monotonic()
        answers = [could_sign(answer) for answer in await all_answers(self._publisher, messages)]
        if not all(isinstance(answer, Stored) for answer in answers):
            # the exchange may not exist yet on a broker where no worker ever started
            await declare.declare_startup(self._client.connection, self._publisher)
            answers = await all_answers(self._publisher, messages)
        if not all(isinstance(answer, Stored) for answer in answers):
            raise CancelUnconfirmed(until=self._client.until(began), job_id=job_id[:8])

    # --- proofs -----------------------------------------------------------------------------------------------------

    async def _prove(
        self, left: dict[str, JobRow], proofs: dict[str, Proof], endings: Endings, run: str | None
    ) -> None:
        """Until all are proven, or time is over; then what is left is pending."""
        deadline = time.monotonic() + self._wait_s
        live = await self._live_workers()
        await self._ask_all({job_id: row.chain for job_id, row in left.items()}, run, len(live))
        while True:
            self._take_ends(left, proofs, endings)
            provable = [row for row in left.values() if self._is_nowhere(row, live)]
            if provable:
                await self._end(provable, proofs)
                left = {job_id: row for job_id, row in left.items() if job_id not in proofs}
            if not left or time.monotonic() > deadline:
                break
            await endings.more(min(LOOK_S, max(0.0, deadline - time.monotonic())))
            await self._look_again(left, proofs, live)
            left = {job_id: row for job_id, row in left.items() if job_id not in proofs}
        for row in left.values():
            proofs[row.id] = self._pending(row, live)

    async def _live_workers(self) -> dict[str, WorkerRow]:
        now = time.time()
        return {row.name: row for row in self._store.workers() if not row.gone(now)}

    async def _ask_all(self, chains: dict[str, int], run: str | None, expected: int) -> None:
        timeout_s = min(ANSWER_S, max(self._wait_s, 0.1))
        self._asked = time.monotonic()
        for jobs in _pieces(chains):
            await self._ask("all", jobs, run, timeout_s, max(1, expected))

    async def _ask(self, key: str, jobs: dict[str, int], run: str | None, timeout_s: float, expected: int) -> None:
        replies = await control.ask(
            self._client.connection,
            key,
            "cancel",
            timeout_s=timeout_s,
            expected=expected,
            jobs=jobs,
            run=run,
            reason=self._reason,
            signal=self._signal,
            by=self._client.by,
        )
        for reply in replies:
            self._states.setdefault(reply.worker, {}).update(reply.jobs)

    def _take_ends(self, left: dict[str, JobRow], proofs: dict[str, Proof], endings: Endings) -> None:
        for job_id in [job_id for job_id in left if job_id in endings.found]:
            proofs[job_id] = _proof_of(endings.found[job_id], left.pop(job_id))

    def _is_nowhere(self, row: JobRow, live: Mapping[str, WorkerRow]) -> bool:
        """Whether every worker that could have it has answered that it has not."""
        if any(_may_have(worker, row) and row.id not in self._states.get(name, {}) for name, worker in live.items()):
            return False
        answers = {states.get(row.id) for states in self._states.values()}
        if "running" in answers:
            return False
        return "ended" not in answers or time.monotonic() - self._asked > ENDED_S

    async def _end(self, rows: Sequence[JobRow], proofs: dict[str, Proof]) -> None:
        """Record the end of jobs that nothing can start any more, as a worker would that met them later."""
        messages = [
            event_message(
                events.Cancelled(
                    at=time.time(),
                    id=row.id,
                    run=row.run,
                    attempt=row.attempt,
                    copy=row.copy,
                    chain=row.chain,
                    reason=self._reason,
                    by=self._client.by,
                )
            )
            for row in rows
        ]
        await self._publish_all(messages, rows[0].id)
        for row in rows:
            proofs[row.id] = Proof(id=row.id, outcome="cancelled", has_run=row.attempt > 0)

    async def _look_again(
        self, left: Mapping[str, JobRow], proofs: dict[str, Proof], live: dict[str, WorkerRow]
    ) -> None:
        """Every two seconds: ask those that were silent, and see in the ledger what was missed."""
        if time.monotonic() - self._asked < ANSWER_S:
            return
        self._asked = time.monotonic()
        await sync(self._store, self._client.url, timeout_s=self._client.timeout_s)
        for job_id, row in left.items():
            now = self._store.job(job_id)
            if now is not None and now.state in ENDED and now.chain == row.chain:
                proofs[job_id] = Proof(id=job_id, outcome=now.state, is_old=now.state != "cancelled")
        now_live = await self._live_workers()
        for name in [name for name in live if name not in now_live]:
            del live[name]
        for name in [name for name in live if name not in self._states]:
            key = f"worker.{topology.encode_word(name)}"
            for jobs in _pieces({job_id: row.chain for job_id, row in left.items()}):
                await self._ask(key, jobs, None, LOOK_S, 1)

    def _pending(self, row: JobRow, live: Mapping[str, WorkerRow]) -> Proof:
        running = [name for name, states in self._states.items() if states.get(row.id) == "running"]
        silent = [
            name for name, worker in live.items() if _may_have(worker, row) and row.id not in self._states.get(name, {})
        ]
        return Proof(id=row.id, outcome="pending", workers=running or silent, is_running=bool(running))


def _may_have(worker: WorkerRow, row: JobRow) -> bool:
    return not row.queue or row.queue in worker.queues or row.worker == worker.name


def _proof_of(end: End, row: JobRow) -> Proof:
    if not isinstance(end, events.Cancelled):
        return Proof(id=end.id, outcome=events.kind_of(end), is_old=True)
    if end.signal is None:
        return Proof(id=end.id, outcome="cancelled", has_run=row.attempt > 0)
    return Proof(id=end.id, outcome="killed", signal=end.signal, took_s=end.took_s)


def _pieces(chains: dict[str, int]) -> Iterator[dict[str, int]]:
    """Of 5,000 jobs each; one empty piece for no job."""
    ids = list(chains)
    for start in range(0, max(1, len(ids)), IDS_IN_RECORD):
        yield {job_id: chains[job_id] for job_id in ids[start : start + IDS_IN_RECORD]}


def is_proven(proofs: Iterable[Proof]) -> bool:
    """Whether nothing is pending."""
    return all(proof.outcome != "pending" for proof in proofs)
