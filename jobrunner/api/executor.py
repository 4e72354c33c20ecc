"""`JobrunnerExecutor`: the standard library's executor, on workers elsewhere."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from jobrunner.api.call import Call, call
from jobrunner.api.ends import value_of
from jobrunner.api.sync import Client

if TYPE_CHECKING:
    from jobrunner.api.core import Core
    from jobrunner.api.ends import Ticket

P = ParamSpec("P")
T = TypeVar("T")


class JobrunnerExecutor(futures.Executor):
    """`submit` and `map` as `ThreadPoolExecutor` has them; the functions run in jobrunner's workers.

    max_workers: jobs that are queued or run at a time; the others wait in this program and are gone with it. None: all
    are queued at once, and as many run as there are processes in workers.
    client: whose connection and options are used; it stays open. None: one of its own, closed by `shutdown`.

    Functions are found by name, arguments and results are JSON; what an `initializer` did stands in their module. A job
    that fails makes `future.result()` raise JobFailed, which has the class and traceback of what the function raised,
    not that exception itself. `future.cancel()` cancels the job, also where it runs. An `async def` gives what it
    returns.
    """

    def __init__(self, max_workers: int | None = None, *, client: Client | None = None) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._places = None if max_workers is None else asyncio.Semaphore(max_workers)
        self._client = client or Client()
        self._is_own = client is None
        self._lock = threading.Lock()
        self._open: set[futures.Future[Any]] = set()
        self._queueing: set[futures.Future[None]] = set()
        self._cancels: set[futures.Future[Any]] = set()
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> futures.Future[T]:
        """Queue a call; the future has its result, or why it could not be queued.

        Raises: BadArguments, NotJson, NotACall at once; RuntimeError after `shutdown`.
        """
        made = call(fn, *args, **kwargs)
        future: futures.Future[Any] = futures.Future()
        with self._lock:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._open.add(future)
        # who waits for futures learns of a cancel at once, and not only when its job has ended
        future.add_done_callback(lambda done: self._claims(done) if done.cancelled() else None)
        try:
            self._client.start(lambda core: self._follow(core, made, future))
        except BaseException:
            self._open.discard(future)
            raise
        return future

    def _claims(self, future: futures.Future[Any]) -> bool:
        """Whether its outcome may be set: once, and not if it was cancelled."""
        with self._lock:
            if future not in self._open:
                return False
            self._open.discard(future)
        return future.set_running_or_notify_cancel()

    async def _follow(self, core: "Core", made: Call[Any], future: "futures.Future[Any]") -> None:
        try:
            async with self._places or contextlib.nullcontext():
                ticket = await self._enqueue(core, made, future)
                if ticket is None:
                    return
                value = value_of(await ticket.ended())
        except asyncio.CancelledError:
            if self._claims(future):
                future.set_exception(RuntimeError("the client was closed before the job ended; the job goes on"))
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it was, it is the future's
            if self._claims(future):
                future.set_exception(exc)
        else:
            if self._claims(future):
                future.set_result(value)

    async def _enqueue(self, core: "Core", made: Call[Any], future: "futures.Future[Any]") -> "Ticket | None":
        """None: it was cancelled while it waited for its turn."""
        queueing: futures.Future[None] = futures.Future()
        self._queueing.add(queueing)  # before the look: a `shutdown` that cancels it later knows that a job may come
        try:
            if future.cancelled():
                return None
            ticket = await core.enqueue(made, self._client.own_options)
            future.add_done_callback(lambda done: self._cancelled(ticket.id) if done.cancelled() else None)
            return ticket
        finally:
            self._queueing.discard(queueing)
            queueing.set_result(None)

    def _cancelled(self, job_id: str) -> None:
        with contextlib.suppress(RuntimeError):  # the client is closed, and the job goes on
            if cancelling := self._client.start(lambda core: core.cancel(job_id, "its future was cancelled")):
                self._cancels.add(cancelling)
                cancelling.add_done_callback(self._cancels.discard)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more. wait: return when all futures are done. cancel_futures: cancel those jobs that have not ended.

        Without `wait` jobs go on in their workers, but nobody here learns of their ends.
        """
        with self._lock:
            self._is_shut = True
            left = list(self._open)
        if cancel_futures:
            for future in left:
                future.cancel()
            futures.wait(self._queueing.copy())
        futures.wait(self._cancels.copy())
        if wait:
            futures.wait(left)
        if self._is_own:
            self._client.close()
