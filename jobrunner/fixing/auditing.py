"""Whether anything was lost: what the ledger accepted, against what queues, dead letters and workers have.

A job is lost only when it is missing twice, with a pause between, while nothing was heard of it, and no worker that
could have it is silent. What cannot be decided is said to be unproven.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from jobrunner.broker import control, declare, topology
from jobrunner.broker.declare import Missing
from jobrunner.client import Client
from jobrunner.errors import PermissionRefused
from jobrunner.fixing import census
from jobrunner.fixing.census import Census, Facts, Job
from jobrunner.fixing.dead import dead_letters, given_up, report_letters
from jobrunner.fixing.findings import Finding, Report, known
from jobrunner.fixing.looking import LOOKS_AT_ZERO, SEEN_UNROUTED, look
from jobrunner.fixing.waits import report_waits
from jobrunner.view.filters import Filter, parse
from jobrunner.view.recorder import sync
from jobrunner.view.rows import ENDED
from jobrunner.view.store import Store

PAUSE_S: Final = 2.0
PING_S: Final = 1.0
ALL: Final = 10**9


class Auditor:
    """One audit. may_look: whether queues may be looked through where counts do not tell. pause_s: before a second."""

    def __init__(self, store: Store, client: Client, *, may_look: bool = True, pause_s: float = PAUSE_S) -> None:
        self._store = store
        self._pause_s = pause_s
        self._client = client
        self._may_look = may_look
        self._queues: set[str] = set()

    async def run(self) -> Report:
        """Count, and where something is missing look closer. Raises: the broker's errors."""
        facts, people = await self._take()
        if census.is_short(people, facts):
            await asyncio.sleep(self._pause_s)
            before = people
            facts, people = await self._take()
            report = self._report(facts, people)
            await self._look_closer(report, before, facts, people)
        else:
            report = self._report(facts, people)
        await report_letters(report, self._store, self._client)
        self._remarks(report, facts)
        return report

    # --- counts -----------------------------------------------------------------------------------------------------

    async def _take(self) -> tuple[Facts, Census]:
        """First the broker's counts, then what was heard since, then who runs what: so that a job on its way is seen in
        at least one of them.
        """
        connection = self._client.connection
        self._queues |= {one.queue for one in self._store.counts(time.time()) if one.queue}
        ready = {queue: await self._ready(queue) for queue in self._queues}
        delayed = await self._delayed()
        unrouted = await declare.queue_depth(connection, topology.UNROUTED)
        waiting = await self._ready(topology.WAITING)
        await sync(self._store, self._client.url, timeout_s=self._client.timeout_s)
        jobs = [census.job_of(row) for row in self._store.open_jobs()]
        for queue in {job.queue for job in jobs if job.queue} - self._queues:
            self._queues.add(queue)
            ready[queue] = await self._ready(queue)
        now = time.time()
        expected = [worker for worker in self._store.workers() if not worker.gone(now)]
        replies = await control.ask(connection, "all", "ping", timeout_s=PING_S, expected=max(1, len(expected)))
        answered = {reply.worker for reply in replies}
        facts = Facts(
            running=frozenset(job_id for reply in replies for job_id in reply.here),
            silent=[worker for worker in expected if worker.name not in answered],
            ready=ready,
            delayed=delayed,
            waiting=waiting + sum(reply.waiting for reply in replies),
            unrouted=0 if unrouted is None else unrouted[0],
        )
        return facts, census.take(jobs, facts, now)

    async def _ready(self, queue: str) -> int:
        for _ in range(LOOKS_AT_ZERO):
            depth = await declare.queue_depth(self._client.connection, queue)
            if depth is None:
                return 0
            if depth[0]:
                return depth[0]
        return 0

    async def _delayed(self) -> int:
        connection = self._client.connection
        if await declare.queue_depth(connection, topology.level(topology.LEVELS - 1)) is None:
            return 0
        depths = [await declare.queue_depth(connection, topology.level(number)) for number in range(topology.LEVELS)]
        return sum(depth[0] for depth in depths if depth is not None)

    def _report(self, facts: Facts, people: Census) -> Report:
        ended = {state: self._store.count(_state(state), ALL) or 0 for state in ENDED}
        return Report(
            ended=ended,
            ready=sum(map(len, people.waiting.values())) + len(people.parked),
            running=len(people.running) + len(people.held),
            later=len(people.later),
            moving=len(people.moving),
            waiting=len(people.after),
            letters=0,
            unrouted=facts.unrouted,
        )

    # --- a closer look ----------------------------------------------------------------------------------------------

    async def _look_closer(self, report: Report, before: Census, facts: Facts, people: Census) -> None:
        """Missing in both passes, with nothing heard between: which are they, and where else could they be?"""
        known = {queue: set(jobs) for queue, jobs in before.waiting.items()}
        suspects = {
            queue: [job for job in people.waiting[queue] if job in known.get(queue, ())]
            for queue in census.short(people, facts)
        }
        elsewhere, unseen = await self._elsewhere(report, {job.id: job for jobs in suspects.values() for job in jobs})
        for queue, jobs in suspects.items():
            left = [job for job in jobs if job.id not in elsewhere]
            missing = len(people.waiting[queue]) - (len(jobs) - len(left)) - facts.ready.get(queue, 0)
            if left and missing > 0 and unseen:
                report.doubt(queue, missing, len(left), f"of what had no queue not all was seen: {unseen}")
            elif left and missing > 0:
                await self._queue(report, queue, left, missing, facts)
        self._later(report, before, facts, people)
        report_waits(report, before, facts, people)

    async def _elsewhere(self, report: Report, suspects: Mapping[str, Job]) -> tuple[set[str], str]:
        """Suspects among the dead letters, where RabbitMQ puts what it gives up, and among what had no queue; and why
        not all of the latter were seen.
        """
        if not suspects:
            return set(), ""
        found: dict[str, Finding] = {}
        unseen = ""
        for letter in await dead_letters(self._client):
            job = suspects.get(letter.id)
            if job is not None and letter.chain >= job.chain:
                found[job.id] = given_up(job, letter)
        if report.unrouted:
            try:
                sighting = await look(self._client.connection, topology.UNROUTED, seen=SEEN_UNROUTED)
            except Missing:
                return set(found), ""
            unseen = sighting.reason
            for job_id in suspects.keys() & sighting.deliveries.keys():
                text = f"{known(suspects[job_id])}; it came when the queue '{suspects[job_id].queue}' was not there"
                found[job_id] = Finding(id=job_id, kind="unrouted", text=text)
        report.move(*found.values())
        return set(found), unseen

    async def _queue(self, report: Report, queue: str, suspects: list[Job], missing: int, facts: Facts) -> None:
        """Of these jobs so many have no message in their queue."""
        is_empty = not facts.ready.get(queue)
        if self._may_look:
            gone, reason = await self._seek(queue, suspects, is_empty=is_empty)
        elif is_empty:
            gone, reason = suspects, ""
        else:
            gone, reason = [], "which of them, only a look into the queue can tell (without --no-browse)"
        if reason:
            report.doubt(queue, missing, len(suspects), reason)
            return
        gone = await self._still(gone)
        names = [worker.name for worker in facts.silent if census.may_hold(worker, queue)]
        kind = "unproven" if names else "lost"
        end = (
            f"worker {', '.join(names)} does not answer and may have it" if names else "not in its queue, at no worker"
        )
        report.move(*(Finding(id=job.id, kind=kind, text=f"{known(job)}; {end}", job=job) for job in gone))

    async def _seek(self, queue: str, suspects: Sequence[Job], *, is_empty: bool) -> tuple[Sequence[Job], str]:
        """Those that are not in the queue; or why that cannot be told. is_empty: as it was counted, which also a leader
        does that has too much to do; to look costs no message anything there.
        """
        try:
            sighting = await look(self._client.connection, queue)
        except Missing:
            return suspects, ""
        except PermissionRefused:
            if is_empty:
                return suspects, ""
            raise
        if sighting.reason:
            return [], sighting.reason
        return [job for job in suspects if job.id not in sighting.deliveries], ""

    async def _still(self, jobs: Collection[Job]) -> list[Job]:
        """Those of which nothing was heard meanwhile, and that no worker has now."""
        if not jobs:
            return []
        await sync(self._store, self._client.url, timeout_s=self._client.timeout_s)
        replies = await control.ask(self._client.connection, "all", "ping", timeout_s=PING_S)
        running = {job_id for reply in replies for job_id in reply.here}
        left = []
        for job in jobs:
            row = self._store.job(job.id)
            if row is not None and census.job_of(row) == job and job.id not in running:
                left.append(job)
        return left

    def _later(self, report: Report, before: Census, facts: Facts, people: Census) -> None:
        """Delayed jobs are only counted: what lies in the delay levels must not be touched."""
        missing = census.short_later(people, facts)
        if missing and not facts.delayed and not census.spare(people, facts):
            again = set(before.later)
            gone = [job for job in people.later if job in again]
            report.later -= len(gone)
            report.findings += [
                Finding(id=job.id, kind="lost", text=f"{known(job)}; no delay level has a message", job=job)
                for job in gone
            ]
        elif missing:
            report.later -= missing
            report.unnamed += missing
            rest = "Which they are shows when they are due."
            report.notes.append(f"{missing} of {len(people.later)} delayed jobs are in no delay level. {rest}")
        elif len(people.parked) > census.spare(people, facts):
            missing = len(people.parked) - census.spare(people, facts)
            report.ready -= missing
            report.unproven += missing
            report.notes.append(f"{missing} of {len(people.parked)} parked jobs may be missing.")

    def _remarks(self, report: Report, facts: Facts) -> None:
        if report.stale_letters:
            count = report.stale_letters
            report.notes.append(f"Dead letters of jobs that have gone on since: {count}.  jobrunner audit --repair")
        if report.unrouted:
            report.notes.append(
                f"Messages that had no queue: {report.unrouted}, in '{topology.UNROUTED}'.  jobrunner audit --repair"
            )
        for worker in facts.silent:
            report.notes.append(f"Worker {worker.name} does not answer.")
        for hole in self._store.holes:
            count = hole.last_offset - hole.first_offset + 1
            report.notes.append(f"Records that the ledger dropped before this view saw them: {count}.")


def _state(state: str) -> Filter:
    return parse([f"state:{state}"], now=time.time(), user="")
