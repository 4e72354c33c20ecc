"""Jobs that belong together: waited for as one, and what runs once all of them have ended."""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from jobrunner.api.call import Call
from jobrunner.api.call import call as make_call
from jobrunner.api.members import Members
from jobrunner.api.options import Duration, When
from jobrunner.api.waiting import Until
from jobrunner.errors import JobrunnerError, NotAllQueued

if TYPE_CHECKING:
    from jobrunner.api.handle import JobHandle, Waited
    from jobrunner.api.sync import Client

P = ParamSpec("P")
T = TypeVar("T")


class Group:
    """Jobs of one run: `with client.group("nightly") as group`. At the end of the block the group is sealed: no job is
    added any more, and it has ended once all of its jobs have.

    With `resume` a group that is there already is taken up again, also that of another program or machine: its jobs are
    found in the ledger, more may be added, and it is sealed anew at the end of a block, or by `seal()`.

    A block that ends with an exception seals it too, as a group of which something failed. A job that could not be
    queued counts as failed. Safe from several threads; what a forked process adds is not counted here.
    """

    def __init__(self, client: "Client", name: str | None, *, resume: bool = False) -> None:
        self._client = client
        self._members: Members[JobHandle[Any]] = Members(name, resume=resume)

    def __repr__(self) -> str:
        return f"<Group {self._members}>"

    @property
    def name(self) -> str:
        """The name of the run: `jobrunner list run:NAME`."""
        return self._members.run

    @property
    def handles(self) -> "Sequence[JobHandle[Any]]":
        """Its jobs, in the order in which they were queued."""
        self._begin()
        return tuple(self._members.handles)

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._members.failed += exc is not None
        self.seal()

    def seal(self) -> None:
        """No job is added any more. The end of the block does it. Raises: Unconfirmed; then try again."""
        members = self._members
        if not members.is_sealed:
            self._begin()
            run, total, failed = members.run, len(members.handles), members.failed
            self._client.work(lambda core: core.seal(run, total, failed))
            members.is_sealed = True

    def _begin(self) -> None:
        if self._members.is_new:
            self._client.work(lambda core: self._members.begin(core, self._client.handle_of))

    # --- members ----------------------------------------------------------------------------------------------------

    @overload
    def enqueue(self, target: Call[T], /) -> "JobHandle[T]": ...
    @overload
    def enqueue(
        self, target: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> "JobHandle[T]": ...
    @overload
    def enqueue(self, target: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "JobHandle[T]": ...
    @overload
    def enqueue(self, target: str, /, *args: Any, **kwargs: Any) -> "JobHandle[Any]": ...
    @overload
    def enqueue(self, target: Sequence[str], /) -> "JobHandle[Any]": ...
    def enqueue(self, target: Any, /, *args: Any, **kwargs: Any) -> "JobHandle[Any]":
        """Queue a job of this group, as `Client.enqueue` does. Raises: the same; RuntimeError once sealed."""
        made = target if isinstance(target, Call) else make_call(target, *args, **kwargs)
        self._members.check_open()
        self._begin()
        try:
            handle = self._client.with_options(self._members.options(self._client.own_options)).enqueue(made)
        except JobrunnerError:
            self._members.failed += 1
            raise
        self._members.handles.append(handle)
        return handle

    def enqueue_many(self, calls: Iterable[Call[Any]]) -> int:
        """Queue many of them, as `Client.enqueue_many` does. Their handles are kept. Gives how many.

        Raises: NotAllQueued after the first that was not; what the input raised; RuntimeError once it is sealed.
        """
        self._members.check_open()
        self._begin()
        client = self._client.with_options(self._members.options(self._client.own_options))
        try:
            return client.enqueue_many(calls, on_queued=self._members.handles.append)
        except NotAllQueued as exc:
            self._members.failed += exc.failed
            raise

    # --- their ends -------------------------------------------------------------------------------------------------

    def wait(self, timeout: Duration | None = None, *, until: Until = "all") -> "Waited[Any]":
        """Wait until all have ended, the `first` has, or the first has failed (`failure`); or until the timeout.

        Raises nothing for what has failed or goes on: look at `done` and `waiting`.
        """
        return self._client.wait(self.handles, timeout, until=until)

    def as_completed(self, timeout: Duration | None = None) -> "Iterator[JobHandle[Any]]":
        """The handles in the order in which their jobs end. Raises: WaitTimeout, so long after its beginning."""
        return self._client.as_completed(self.handles, timeout)

    def results(self, timeout: Duration | None = None) -> list[Any]:
        """The results of all, in the order in which they were queued. Raises: JobFailed and the like, as soon as one
        has failed; WaitTimeout. The others go on.
        """
        for handle in self.as_completed(timeout):
            handle.check()
        return [handle.result() for handle in self.handles]

    def cancel(self, reason: str = "") -> None:
        """Cancel those that have not ended."""
        for handle in self.handles:
            handle.cancel(reason)

    def then(self, call: Call[T], *, when: When = "success") -> "JobHandle[T]":
        """Queue a call that runs once, when all jobs of the sealed group have succeeded; else it is cancelled.

        when: or `failure`, if one did not succeed; or `end`, whatever came of them. It waits in the broker: once the
        group is sealed this program need not be there any more. Raises: as `Client.enqueue`.
        """
        self._begin()
        return self._client.with_options(self._members.after(when)).enqueue(call)
