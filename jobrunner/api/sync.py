"""`Client`: the API for programs without an event loop. It keeps one, in a thread of its own."""

import copy
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from jobrunner.api.backend import Wanted
from jobrunner.api.call import Call
from jobrunner.api.call import call as make_call
from jobrunner.api.counting import Count
from jobrunner.api.ends import Ticket, taken, value_of
from jobrunner.api.group import Group
from jobrunner.api.handle import JobHandle, Waited
from jobrunner.api.link import Link, Work
from jobrunner.api.options import Duration, Options, When, after, seconds_of
from jobrunner.api.reading import Reader
from jobrunner.api.runs import new_run, results_of
from jobrunner.api.trampoline import walk
from jobrunner.api.waiting import Until, completed, wait_for

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Unpack

    from jobrunner.api.core import Answers, Core
    from jobrunner.api.options import OptionArguments
    from jobrunner.api.window import Source
    from jobrunner.view.rows import JobRow

P = ParamSpec("P")
T = TypeVar("T")


class Client:
    """Queues jobs and waits for them: `with Client() as client`, or without `with`: it connects on first use.

    url: `amqp://user:password@host:5672/vhost`; None: found as the command line finds it (JOBRUNNER_URL,
    jobrunner.toml, the running local broker). run: a name for all jobs of this client; None makes one up.
    timeout: for connecting, and for each confirm.

    One client serves a whole program, all of its threads, and the processes that it forks: each connects anew.
    """

    def __init__(self, url: str | None = None, *, run: str | None = None, timeout: Duration | None = None) -> None:
        self._link = Link(Wanted(url, timeout), run or new_run())
        self._options = Options()

    @property
    def run(self) -> str:
        """The run that all jobs of this client belong to: `jobrunner list run:NAME`."""
        return self._link.run_name

    def __enter__(self) -> Self:
        self._link.open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being enqueued, then leave. Jobs go on; results that are known stay known."""
        self._link.close()

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

    def work(self, work: Work[T]) -> T:
        """What work on the client's own loop gives, waited for. Raises: what it raises."""
        return self._link.run(work)

    @property
    def own_options(self) -> Options:
        """The options that it gives to what it enqueues."""
        return self._options

    def start(self, work: Work[T]) -> "Future[T] | None":
        """Begin work on the client's own loop, and wait for nothing: for executors and the like. None: it is done."""
        return self._link.start(work)

    # --- enqueue ----------------------------------------------------------------------------------------------------

    @overload
    def enqueue(self, target: Call[T], /) -> JobHandle[T]: ...
    @overload
    def enqueue(
        self, target: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> JobHandle[T]: ...
    @overload
    def enqueue(self, target: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[T]: ...
    @overload
    def enqueue(self, target: str, /, *args: Any, **kwargs: Any) -> JobHandle[Any]: ...
    @overload
    def enqueue(self, target: Sequence[str], /) -> JobHandle[Any]: ...
    def enqueue(self, target: Any, /, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        """Queue a call of a function or of a function's name, a command (a list of words), or a `call(...)`.

        Returns once the job and its record are confirmed. Raises: BadArguments, NotJson, NotACall, MessageTooLarge and
        the like, and then nothing was published; the broker's errors; Unconfirmed (queued or not).
        """
        made = target if isinstance(target, Call) else make_call(target, *args, **kwargs)
        return JobHandle(self._link, self._link.run(lambda core: core.enqueue(made, self._options)))

    def enqueue_many(
        self, calls: Iterable[Call[T]], *, on_queued: Callable[[JobHandle[T]], object] | None = None
    ) -> int:
        """Queue calls as they come, many confirms under way at once; memory stays flat. Gives how many.

        calls: made by `call(...)` or `function.call(...)`; read in this thread. on_queued: called in this thread for
        each job, in input order. Raises: NotAllQueued after the first that was not; what the input raised.
        """
        reader = Reader(calls)
        count = Count()
        waited_for = on_queued is not None

        def make(core: "Core", source: "Source") -> "Answers":
            return core.enqueue_many(source, self._options, waited_for=waited_for)

        for batch in walk(self._link, make, reader):
            for ticket in count.take(batch):
                if on_queued is not None:
                    on_queued(JobHandle(self._link, ticket))
            if count.is_short:
                reader.stop()
        return count.total()

    # --- map --------------------------------------------------------------------------------------------------------

    @overload
    def map(
        self,
        target: Callable[..., Coroutine[Any, Any, T]],
        /,
        *inputs: Iterable[Any],
        ordered: bool = True,
        max_in_flight: int = 1000,
    ) -> Iterator[T]: ...
    @overload
    def map(
        self, target: Callable[..., T], /, *inputs: Iterable[Any], ordered: bool = True, max_in_flight: int = 1000
    ) -> Iterator[T]: ...
    @overload
    def map(
        self, target: str, /, *inputs: Iterable[Any], ordered: bool = True, max_in_flight: int = 1000
    ) -> Iterator[Any]: ...
    def map(
        self, target: Any, /, *inputs: Iterable[Any], ordered: bool = True, max_in_flight: int = 1000
    ) -> Iterator[Any]:
        """A job for each input, and their results as they come: like the built-in `map`, on all workers.

        Several inputs are taken side by side. ordered: results in input order, else in the order in which they end.
        max_in_flight: the input is read no further ahead of the results that you have taken, so memory stays flat.
        Begins when the first result is asked for. Raises, where its result would stand: JobFailed and the like; no more
        is queued then, and what is queued goes on.
        """
        reader = Reader(make_call(target, *args) for args in zip(*inputs, strict=False))
        arrivals = walk(
            self._link,
            lambda core, source: core.map(source, self._options, ordered=ordered, max_in_flight=max_in_flight),
            reader,
        )
        for batch in arrivals:
            for one in batch:
                yield taken(one)

    # --- wait -------------------------------------------------------------------------------------------------------

    def wait(
        self, handles: Iterable[JobHandle[T]], timeout: Duration | None = None, *, until: Until = "all"
    ) -> Waited[T]:
        """Wait until all have ended, the `first` has, or the first has failed (`failure`); or until the timeout.

        Raises nothing for what has failed or goes on: look at `done` and `waiting`.
        """
        given = list(handles)
        tickets = [handle.ticket for handle in given]
        self._link.run(lambda core: wait_for(core, tickets, seconds_of("timeout", timeout), until))
        return Waited([one for one in given if one.done], [one for one in given if not one.done])

    def as_completed(self, handles: Iterable[JobHandle[T]], timeout: Duration | None = None) -> Iterator[JobHandle[T]]:
        """The handles in the order in which their jobs end. Raises: WaitTimeout, so long after its beginning."""
        by_ticket = {handle.ticket: handle for handle in handles}
        limit_s = seconds_of("timeout", timeout)
        batches = walk(self._link, lambda core, _: completed(core, list(by_ticket), limit_s), Reader(()))
        for batch in batches:
            for ticket in batch:
                yield by_ticket[ticket]

    def then(self, handles: Iterable[JobHandle[Any]], call: Call[T], *, when: When = "success") -> JobHandle[T]:
        """Queue a call that runs once all of these have succeeded; it is cancelled as soon as one ends otherwise.

        when: or `failure`, once all have ended and one did not succeed; or `end`, whatever came of them. It waits in
        the broker: this program need not be there any more. Raises: BadValue for none or too many; as `enqueue`.
        """
        options = after([handle.ticket for handle in handles], when)
        return JobHandle(self._link, self._link.run(lambda core: core.enqueue(call, options)))

    def group(self, name: str | None = None, *, resume: bool = False) -> Group:
        """Jobs that belong together, see `Group`. name: that of their run, used once; None makes one up.

        resume: take up one that is there. Raises, with the first job: RunExists without it.
        """
        return Group(self, name, resume=resume)

    def handle_of(self, ticket: Ticket) -> JobHandle[Any]:
        """The handle of a job that is known by its ticket."""
        return JobHandle(self._link, ticket)

    # --- any job ----------------------------------------------------------------------------------------------------

    def result(self, job_id: str, timeout: Duration | None = None) -> Any:
        """The result of any job, waited for. job_id: or its beginning, at least 4 characters.

        Raises: NotFound, AmbiguousId, and what `JobHandle.result` raises.
        """
        return value_of(self._link.run(lambda core: core.end_of(job_id, seconds_of("timeout", timeout))))

    def results(self, run: str) -> list[Any]:
        """The results of all jobs of a run that has ended, in the order in which they were queued, from the ledger.

        Raises: NotFound; JobFailed and the like for one that has none; WaitTimeout if one has not ended.
        """
        return results_of(run, self._link.run(lambda core: core.members(run)))

    def status(self, job_id: str) -> "JobRow":
        """All that the ledger tells of any job: state, attempts, times, error. Raises: NotFound, AmbiguousId."""
        return self._link.run(lambda core: core.status(job_id))

    def cancel(self, job_id: str, reason: str = "") -> None:
        """Cancel any job: it will not start; where it runs, it is stopped. Raises: NotFound, AmbiguousId."""
        self._link.run(lambda core: core.cancel(job_id, reason))
