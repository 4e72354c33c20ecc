"""Jobs that run where they are queued, for the tests of programs that queue jobs: no broker, no worker, no waiting.

What a job gets and gives goes through the same JSON as on its way to a worker and back.
"""

import asyncio
import importlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import msgspec

from jobrunner import envelope as envelopes
from jobrunner import registry, retry
from jobrunner.api import backend
from jobrunner.api.call import Call
from jobrunner.api.ends import Ticket
from jobrunner.api.options import Options
from jobrunner.api.window import CHUNK, Answer, Source
from jobrunner.errors import JobrunnerError, NotACall, NotFound
from jobrunner.execution import failures, tasks
from jobrunner.ids import new_id
from jobrunner.outcome import Dead, Outcome, RunAgain, Succeeded
from jobrunner.watch import End

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow

USER = "inline"


@contextmanager
def inline() -> Iterator[None]:
    """All clients of this process run their jobs inline meanwhile, also those that are connected to a broker."""
    known = Known()
    with backend.inline(lambda run, is_async: InlineCore(run, known, is_async=is_async)):
        yield


class Known:
    """What has happened inline. sealed: run -> how many could not be queued. waiting: for the seal of that run."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[Ticket, envelopes.Envelope]] = {}
        self.sealed: dict[str, int] = {}
        self.waiting: dict[str, list[tuple[Ticket, envelopes.Envelope]]] = {}

    def failed(self, wish: envelopes.After) -> bool:
        """Whether any of what was waited for did not succeed."""
        of_run = [ticket for ticket, one in self.jobs.values() if wish.run is not None and one.job.run == wish.run]
        named = [self.jobs[job_id][0] for job_id in wish.jobs if job_id in self.jobs]
        return bool(self.sealed.get(wish.run or "")) or any(
            one.end is None or one.end.state != "succeeded" for one in of_run + named
        )


class InlineCore:
    """Runs each job as it is queued: retries at once, delays and timeouts not kept. Failing, it is dead.

    is_async: coroutines run on the loop of their caller; else each on one of its own.
    """

    def __init__(self, run: str, known: Known, *, is_async: bool) -> None:
        self.run = run
        self._known = known
        self._is_async = is_async

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to leave."""

    async def enqueue(self, call: Call[object], options: Options, seq: int | None = None) -> Ticket:
        """Run it. Raises: NotACall for a command; those have no place in a test's own process."""
        envelope = call.seal(options, self.run, USER, options.number(seq))
        if envelope.job.argv is not None:
            raise NotACall(what=call.shown, reason="inline jobs are functions, not commands.", hint="jobrunner_broker")
        ticket = Ticket(envelope.job.id)
        self._known.jobs[ticket.id] = (ticket, envelope)
        after = envelope.job.after
        if after is not None and after.run is not None and after.run not in self._known.sealed:
            self._known.waiting.setdefault(after.run, []).append((ticket, envelope))
        else:
            await self._run(ticket, envelope)
        return ticket

    async def _run(self, ticket: Ticket, envelope: envelopes.Envelope) -> None:
        if (end := self._unwanted(envelope)) is not None:
            ticket.settle(end)
            return
        # decoded from its bytes, as a worker does
        job = envelopes.decode(envelope.body, ticket.id)
        ticket.settle(await self._end(envelopes.Envelope(job=job, priority=envelope.priority, body=envelope.body)))

    async def members(self, run: str, most: int | None = None) -> Sequence["JobRow"]:
        """The jobs of a run, the first one first."""
        found = [job_id for job_id, (_, envelope) in self._known.jobs.items() if envelope.job.run == run]
        return [await self.status(job_id) for job_id in found[:most]]

    async def seal(self, run: str, total: int, failed: int) -> None:  # noqa: ARG002 - all have ended
        """All have ended: what has waited for that runs now."""
        self._known.sealed[run] = failed
        for ticket, envelope in self._known.waiting.pop(run, []):
            await self._run(ticket, envelope)

    def _unwanted(self, envelope: envelopes.Envelope) -> End | None:
        """The end of a job that waits for others which have ended otherwise."""
        wish = envelope.job.after
        if wish is None or wish.when == "end":
            return None
        is_wanted = self._known.failed(wish) == (wish.when == "failure")
        return None if is_wanted else End(id=envelope.job.id, state="cancelled", attempt=0)

    async def _end(self, envelope: envelopes.Envelope) -> End:
        function = _resolve(envelope.job.task or "")
        limits = retry.limits_of(envelope.job, registry.spec_of(function))
        while True:
            started_at = time.time()
            outcome = await self._attempt(function, envelope, limits)
            verdict = retry.decide(envelope, limits, outcome, time.time())
            if not isinstance(verdict, RunAgain):
                break
            envelope = envelope.with_state(attempt=envelope.attempt)
        return End(
            id=envelope.job.id,
            state="succeeded" if isinstance(outcome, Succeeded) else "dead",
            attempt=envelope.attempt,
            result=outcome.result if isinstance(outcome, Succeeded) else None,
            truncated=isinstance(outcome, Succeeded) and outcome.truncated,
            error=verdict.error if isinstance(verdict, Dead) else None,
            started_at=started_at,
            took_s=time.time() - started_at,
        )

    async def _attempt(
        self, function: Callable[..., Any], envelope: envelopes.Envelope, limits: retry.Limits
    ) -> Outcome:
        job = envelope.job
        args, kwargs = msgspec.json.decode(job.args), msgspec.json.decode(job.kwargs)
        facts = {
            "id": job.id,
            "attempt": envelope.attempt,
            "max_attempts": limits.max_attempts,
            "queue": job.queue,
            "worker": USER,
            "after": list(job.after.jobs) if job.after else [],
            "after_run": job.after.run if job.after else None,
            "deadline": None if limits.timeout_s is None else time.time() + limits.timeout_s,
        }
        try:
            with registry.inside(facts):
                value = function(*args, **kwargs)
                if isinstance(value, CoroutineType):
                    value = await value if self._is_async else asyncio.run(value)
        except Exception as exc:  # noqa: BLE001 - whatever a job raises is its outcome
            return failures.classify(exc, failures.binding(function, args, kwargs)).outcome
        return tasks.encode_result(value)

    async def enqueue_many(
        self,
        source: Source,
        options: Options,
        *,
        waited_for: bool,  # noqa: ARG002 - they have ended already
    ) -> AsyncGenerator[list[tuple[Ticket | None, Answer]]]:
        """Run what the source gives, one after another."""
        number = 0
        while calls := await source(CHUNK):
            for one in calls:
                try:
                    yield [(await self.enqueue(one, options, number), None)]
                except JobrunnerError as exc:
                    yield [(Ticket(new_id()), exc)]
                number += 1

    async def map(
        self,
        source: Source,
        options: Options,
        *,
        ordered: bool,  # noqa: ARG002 - they end in input order
        max_in_flight: int,  # noqa: ARG002 - one at a time
    ) -> AsyncGenerator[list[Ticket | JobrunnerError]]:
        """Run what the source gives, one after another."""
        number = 0
        while calls := await source(1):
            for one in calls:
                yield [await self.enqueue(one, options, number)]
                number += 1

    async def listen(self, tickets: Sequence[Ticket]) -> None:
        """All have ended."""

    async def end_of(self, job_id: str, timeout_s: float | None) -> End:  # noqa: ARG002 - it has ended
        """The end of a job of this test. Raises: NotFound."""
        end = self._find(job_id)[0].end
        assert end is not None  # noqa: S101 - it has ended before it was known
        return end

    async def status(self, job_id: str) -> "JobRow":
        """What is known of a job of this test. Raises: NotFound."""
        from jobrunner.view.rows import JobRow

        ticket, envelope = self._find(job_id)
        end, job = ticket.end, envelope.job
        return JobRow(
            id=ticket.id,
            state=end.state if end else "running",
            state_at=time.time(),
            task=job.task,
            args=job.args,
            kwargs=job.kwargs,
            queue=job.queue,
            priority=envelope.priority,
            created_at=job.iat,
            attempt=end.attempt if end else 1,
            started_at=end.started_at if end else job.iat,
            run=job.run,
            seq=job.seq,
            tags=job.tags,
            label=job.label,
            error=end.error if end else None,
            result=end.result if end else None,
        )

    async def cancel(self, job_id: str, reason: str) -> None:  # noqa: ARG002 - too late
        """Nothing: it has ended. Raises: NotFound."""
        self._find(job_id)

    def _find(self, job_id: str) -> tuple[Ticket, envelopes.Envelope]:
        fitting = [found for known, found in self._known.jobs.items() if known.startswith(job_id)]
        if len(fitting) != 1:
            raise NotFound(message=f"No job of this test is '{job_id}'.", hint="the whole id")
        return fitting[0]


def _resolve(task: str) -> Callable[..., Any]:
    """The function of that name, imported if need be, as a worker with --allow-import would. Raises: NotACall."""
    module, _, name = task.partition(":")
    found = registry.lookup(task) or registry.lookup(f"__main__:{name}")
    if found is None:
        try:
            found = registry.lookup(task) or getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError as exc:
            raise NotACall(what=task, reason=f"there is no module '{exc.name}'.") from exc
    if not callable(found):
        raise NotACall(what=task, reason=f"'{module}' has no such function.")
    return found
