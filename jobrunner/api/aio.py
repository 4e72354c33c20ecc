"""`AsyncClient`: the API for programs with an event loop."""

import asyncio
import copy
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from jobrunner.api import backend
from jobrunner.api.aio_group import AsyncGroup
from jobrunner.api.aio_handle import AsyncJobHandle, AsyncWaited
from jobrunner.api.call import Call
from jobrunner.api.call import call as make_call
from jobrunner.api.counting import Count
from jobrunner.api.ends import Ticket, taken, value_of
from jobrunner.api.options import Duration, Options, When, after, seconds_of
from jobrunner.api.reading import calls_of, source_of
from jobrunner.api.runs import new_run, results_of
from jobrunner.api.waiting import Until, completed, wait_for

if TYPE_CHECKING:
    from typing import Unpack

    from jobrunner.api.core import Core
    from jobrunner.api.options import OptionArguments
    from jobrunner.view.rows import JobRow

P = ParamSpec("P")
T = TypeVar("T")


class AsyncClient:
    """Queues jobs and waits for them: `async with AsyncClient() as client`, or `await client.open()` ... `close()`.

    url: `amqp://user:password@host:5672/vhost`; None: found as the command line finds it (JOBRUNNER_URL,
    jobrunner.toml, the running local broker). run: a name for all jobs of this client; None makes one up.
    timeout: for connecting, and for each confirm.

    It belongs to the loop on which it was opened: not to other threads, nor to a process that is forked.
    """

    def __init__(self, url: str | None = None, *, run: str | None = None, timeout: Duration | None = None) -> None:
        self.run = run or new_run()
        self._wanted = backend.Wanted(url, timeout)
        self._options = Options()
        self._opened: list[Core] = []  # shared by the copies that `options` makes, as is the next
        self._opening = asyncio.Lock()

    @property
    def core(self) -> "Core":
        """Its way to the broker. Raises: RuntimeError while it is not open."""
        if backend.is_inline():
            return backend.make(self._wanted, self.run, is_async=True)
        if not self._opened:
            raise RuntimeError("this client is not open: async with AsyncClient() as client")
        return self._opened[0]

    async def open(self) -> None:
        """Connect; once is enough, of however many tasks. Raises: the broker's errors."""
        async with self._opening:
            if not self._opened and not backend.is_inline():
                core = backend.make(self._wanted, self.run, is_async=True)
                await core.open()
                self._opened.append(core)

    async def close(self) -> None:
        """Wait for what is being enqueued, then leave. Jobs go on; results that are known stay known."""
        if self._opened:
            await self._opened.pop().close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def options(self, **options: "Unpack[OptionArguments]") -> Self:
        """The same client, on the same connection, with other options for what it enqueues. See `OptionArguments`.

        Raises: BadDuration, BadTime, TimeInThePast, BadValue, OptionsClash; TypeError for an unknown option.
        """
        return self.with_options(self._options.changed(**options))

    def with_options(self, options: Options) -> Self:
        """The same client, on the same connection, with these options instead of its own."""
        other = copy.copy(self)
        vars(other)["_options"] = options
        return other

    @property
    def own_options(self) -> Options:
        """The options that it gives to what it enqueues."""
        return self._options

    # --- enqueue ----------------------------------------------------------------------------------------------------

    @overload
    async def enqueue(self, target: Call[T], /) -> AsyncJobHandle[T]: ...
    @overload
    async def enqueue(
        self, target: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncJobHandle[T]: ...
    @overload
    async def enqueue(self, target: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> AsyncJobHandle[T]: ...
    @overload
    async def enqueue(self, target: str, /, *args: Any, **kwargs: Any) -> AsyncJobHandle[Any]: ...
    @overload
    async def enqueue(self, target: Sequence[str], /) -> AsyncJobHandle[Any]: ...
    async def enqueue(self, target: Any, /, *args: Any, **kwargs: Any) -> AsyncJobHandle[Any]:
        """Queue a call of a function or of a function's name, a command (a list of words), or a `call(...)`.

        Returns once the job and its record are confirmed. Raises: BadArguments, NotJson, NotACall, MessageTooLarge and
        the like, and then nothing was published; the broker's errors; Unconfirmed (queued or not).
        """
        made = target if isinstance(target, Call) else make_call(target, *args, **kwargs)
        return AsyncJobHandle(self.core, await self.core.enqueue(made, self._options))

    async def enqueue_many(
        self,
        calls: Iterable[Call[T]] | AsyncIterable[Call[T]],
        *,
        on_queued: Callable[[AsyncJobHandle[T]], object] | None = None,
    ) -> int:
        """Queue calls as they come, many confirms under way at once; memory stays flat. Gives how many.

        calls: made by `call(...)` or `function.call(...)`. on_queued: called for each job, in input order.
        Raises: NotAllQueued after the first that was not; what the input raised.
        """
        reader = source_of(calls)
        count = Count()
        answers = self.core.enqueue_many(reader.source, self._options, waited_for=on_queued is not None)
        async with aclosing(answers) as batches:
            async for batch in batches:
                for ticket in count.take(batch):
                    if on_queued is not None:
                        on_queued(AsyncJobHandle(self.core, ticket))
                if count.is_short:
                    reader.stop()
        reader.stop()
        return count.total()

    # --- map --------------------------------------------------------------------------------------------------------

    @overload
    def map(
        self,
        target: Callable[..., Coroutine[Any, Any, T]],
        inputs: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = True,
        max_in_flight: int = 1000,
    ) -> AsyncGenerator[T]: ...
    @overload
    def map(
        self,
        target: Callable[..., T],
        inputs: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = True,
        max_in_flight: int = 1000,
    ) -> AsyncGenerator[T]: ...
    @overload
    def map(
        self,
        target: str,
        inputs: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = True,
        max_in_flight: int = 1000,
    ) -> AsyncGenerator[Any]: ...
    async def map(
        self,
        target: Any,
        inputs: Iterable[Any] | AsyncIterable[Any],
        /,
        *more: Iterable[Any],
        ordered: bool = True,
        max_in_flight: int = 1000,
    ) -> AsyncGenerator[Any]:
        """A job for each input, and their results as they come: like the built-in `map`, on all workers.

        Several inputs are taken side by side; one alone may be asynchronous. ordered: results in input order, else in
        the order in which they end. max_in_flight: the input is read no further ahead of the results that you have
        taken, so memory stays flat. Begins when the first result is asked for. Raises, where its result would stand:
        JobFailed and the like; no more is queued then, and what is queued goes on.
        """
        reader = source_of(calls_of(target, inputs, more))
        arrivals = self.core.map(reader.source, self._options, ordered=ordered, max_in_flight=max_in_flight)
        try:
            async with aclosing(arrivals) as batches:
                async for batch in batches:
                    for one in batch:
                        yield taken(one)
        finally:
            reader.stop()

    # --- wait -------------------------------------------------------------------------------------------------------

    async def wait(
        self,
        handles: Iterable[AsyncJobHandle[T]],
        timeout: Duration | None = None,  # noqa: ASYNC109 - as in the synchronous face
        *,
        until: Until = "all",
    ) -> AsyncWaited[T]:
        """Wait until all have ended, the `first` has, or the first has failed (`failure`); or until the timeout.

        Raises nothing for what has failed or goes on: look at `done` and `waiting`.
        """
        given = list(handles)
        await wait_for(self.core, [handle.ticket for handle in given], seconds_of("timeout", timeout), until)
        return AsyncWaited([one for one in given if one.done], [one for one in given if not one.done])

    async def as_completed(
        self,
        handles: Iterable[AsyncJobHandle[T]],
        timeout: Duration | None = None,  # noqa: ASYNC109 - as in the synchronous face
    ) -> AsyncGenerator[AsyncJobHandle[T]]:
        """The handles in the order in which their jobs end. Raises: WaitTimeout, so long after its beginning."""
        by_ticket = {handle.ticket: handle for handle in handles}
        found = completed(self.core, list(by_ticket), seconds_of("timeout", timeout))
        async with aclosing(found) as batches:
            async for batch in batches:
                for ticket in batch:
                    yield by_ticket[ticket]

    async def then(
        self, handles: Iterable[AsyncJobHandle[Any]], call: Call[T], *, when: When = "success"
    ) -> AsyncJobHandle[T]:
        """Queue a call that runs once all of these have succeeded; it is cancelled as soon as one ends otherwise.

        when: or `failure`, once all have ended and one did not succeed; or `end`, whatever came of them. It waits in
        the broker: this program need not be there any more. Raises: BadValue for none or too many; as `enqueue`.
        """
        options = after([handle.ticket for handle in handles], when)
        return AsyncJobHandle(self.core, await self.core.enqueue(call, options))

    def group(self, name: str | None = None, *, resume: bool = False) -> AsyncGroup:
        """Jobs that belong together, see `AsyncGroup`. name: that of their run, used once; None makes one up.

        resume: take up one that is there. Raises, with the first job: RunExists without it.
        """
        return AsyncGroup(self, name, resume=resume)

    def handle_of(self, ticket: Ticket) -> AsyncJobHandle[Any]:
        """The handle of a job that is known by its ticket."""
        return AsyncJobHandle(self.core, ticket)

    # --- any job ----------------------------------------------------------------------------------------------------

    async def result(self, job_id: str, timeout: Duration | None = None) -> Any:  # noqa: ASYNC109
        """The result of any job, waited for. job_id: or its beginning, at least 4 characters.

        Raises: NotFound, AmbiguousId, and what `AsyncJobHandle.result` raises.
        """
        return value_of(await self.core.end_of(job_id, seconds_of("timeout", timeout)))

    async def results(self, run: str) -> list[Any]:
        """The results of all jobs of a run that has ended, in the order in which they were queued, from the ledger.

        Raises: NotFound; JobFailed and the like for one that has none; WaitTimeout if one has not ended.
        """
        return results_of(run, await self.core.members(run))

    async def status(self, job_id: str) -> "JobRow":
        """All that the ledger tells of any job: state, attempts, times, error. Raises: NotFound, AmbiguousId."""
        return await self.core.status(job_id)

    async def cancel(self, job_id: str, reason: str = "") -> None:
        """Cancel any job: it will not start; where it runs, it is stopped. Raises: NotFound, AmbiguousId."""
        await self.core.cancel(job_id, reason)
