"""Jobs that belong together, for programs with an event loop."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from jobrunner.api.call import Call
from jobrunner.api.call import call as make_call
from jobrunner.api.members import Members
from jobrunner.api.options import Duration, When
from jobrunner.api.waiting import Until
from jobrunner.errors import JobrunnerError, NotAllQueued

if TYPE_CHECKING:
    from jobrunner.api.aio import AsyncClient
    from jobrunner.api.aio_handle import AsyncJobHandle, AsyncWaited

P = ParamSpec("P")
T = TypeVar("T")


class AsyncGroup:
    """Jobs of one run: `async with client.group("nightly") as group`. See `Group`."""

    def __init__(self, client: "AsyncClient", name: str | None, *, resume: bool = False) -> None:
        self._client = client
        self._members: Members[AsyncJobHandle[Any]] = Members(name, resume=resume)

    def __repr__(self) -> str:
        return f"<AsyncGroup {self._members}>"

    @property
    def name(self) -> str:
        """The name of the run: `jobrunner list run:NAME`."""
        return self._members.run

    @property
    def handles(self) -> "Sequence[AsyncJobHandle[Any]]":
        """Its jobs, in the order in which they were queued. With `resume`: once something was awaited."""
        return tuple(self._members.handles)

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._members.failed += exc is not None
        await self.seal()

    async def seal(self) -> None:
        """No job is added any more. The end of the block does it. Raises: Unconfirmed; then try again."""
        members = self._members
        if not members.is_sealed:
            await self._begin()
            run, total, failed = members.run, len(members.handles), members.failed
            await self._client.core.seal(run, total, failed)
            members.is_sealed = True

    async def _begin(self) -> None:
        if self._members.is_new:
            await self._members.begin(self._client.core, self._client.handle_of)

    # --- members ----------------------------------------------------------------------------------------------------

    @overload
    async def enqueue(self, target: Call[T], /) -> "AsyncJobHandle[T]": ...
    @overload
    async def enqueue(
        self, target: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> "AsyncJobHandle[T]": ...
    @overload
    async def enqueue(self, target: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "AsyncJobHandle[T]": ...
    @overload
    async def enqueue(self, target: str, /, *args: Any, **kwargs: Any) -> "AsyncJobHandle[Any]": ...
    @overload
    async def enqueue(self, target: Sequence[str], /) -> "AsyncJobHandle[Any]": ...
    async def enqueue(self, target: Any, /, *args: Any, **kwargs: Any) -> "AsyncJobHandle[Any]":
        """Queue a job of this group, as `AsyncClient.enqueue` does. Raises: the same; RuntimeError once sealed."""
        made = target if isinstance(target, Call) else make_call(target, *args, **kwargs)
        self._members.check_open()
        await self._begin()
        try:
            handle = await self._client.with_options(self._members.options(self._client.own_options)).enqueue(made)
        except JobrunnerError:
            self._members.failed += 1
            raise
        self._members.handles.append(handle)
        return handle

    async def enqueue_many(self, calls: Iterable[Call[Any]] | AsyncIterable[Call[Any]]) -> int:
        """Queue many of them, as `AsyncClient.enqueue_many` does. Their handles are kept. Gives how many.

        Raises: NotAllQueued after the first that was not; what the input raised; RuntimeError once it is sealed.
        """
        self._members.check_open()
        await self._begin()
        client = self._client.with_options(self._members.options(self._client.own_options))
        try:
            return await client.enqueue_many(calls, on_queued=self._members.handles.append)
        except NotAllQueued as exc:
            self._members.failed += exc.failed
            raise

    # --- their ends -------------------------------------------------------------------------------------------------

    async def wait(
        self,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as in the synchronous face
        *,
        until: Until = "all",
    ) -> "AsyncWaited[Any]":
        """Wait until all have ended, the `first` has, or the first has failed (`failure`); or until the timeout.

        Raises nothing for what has failed or goes on: look at `done` and `waiting`.
        """
        await self._begin()
        return await self._client.wait(self.handles, timeout, until=until)

    async def as_completed(
        self,
        timeout: Duration | None = None,  # noqa: ASYNC109 - as in the synchronous face
    ) -> "AsyncGenerator[AsyncJobHandle[Any]]":
        """The handles in the order in which their jobs end. Raises: WaitTimeout, so long after its beginning."""
        await self._begin()
        async with aclosing(self._client.as_completed(self.handles, timeout)) as handles:
            async for handle in handles:
                yield handle

    async def results(self, timeout: Duration | None = None) -> list[Any]:  # noqa: ASYNC109
        """The results of all, in the order in which they were queued. Raises: JobFailed and the like, as soon as one
        has failed; WaitTimeout. The others go on.
        """
        async for handle in self.as_completed(timeout):
            handle.check()
        return [await handle.result() for handle in self.handles]

    async def cancel(self, reason: str = "") -> None:
        """Cancel those that have not ended."""
        await self._begin()
        for handle in self.handles:
            await handle.cancel(reason)

    async def then(self, call: Call[T], *, when: When = "success") -> "AsyncJobHandle[T]":
        """Queue a call that runs once, when all jobs of the sealed group have succeeded; else it is cancelled.

        when: or `failure`, if one did not succeed; or `end`, whatever came of them. It waits in the broker: once the
        group is sealed this program need not be there any more. Raises: as `AsyncClient.enqueue`.
        """
        await self._begin()
        return await self._client.with_options(self._members.after(when)).enqueue(call)
