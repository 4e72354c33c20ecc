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

P = ParamSpec("P")
T = TypeVar("T")


class JobrunnerExecutor(futures.Executor):
    """`submit` and `map` as `ThreadPoolExecutor` has them; the functions run in jobrunner's workers.

    max_workers: jobs that are queued or run at a time; the others wait in this program and are gone with it. None: all
    are queued at once, and as many run as there are processes in workers.
    client: whose connection and options are used; it stays open. None: one of its own, closed by `shutdown`.

    Functions are found by name, arguments and results are JSON. A job that fails makes `future.result()` raise
    JobFailed, which has the class and traceback of what the function raised, not that exception itself.
    `future.cancel()` cancels the job, also where it runs. An `async def` gives what it returns.
    """

    def __init__(self, max_workers: int | None = None, *, client: Client | None = None) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._places = None if max_workers is None else asyncio.Semaphore(max_workers)
        self._client = client or Client()
        self._is_own = client is None
        self._lock = threading.Lock()
        self._open: set[futures.Future[Any]] = set()
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
        try:
            self._client.start(lambda core: self._in_turn(core, made, future))
        except BaseException:
            self._open.discard(future)
            raise
        return future

    async def _in_turn(self, core: "Core", made: Call[Any], future: "futures.Future[Any]") -> None:
        async with self._places or contextlib.nullcontext():
            if future.cancelled():  # while it waited for its turn
                self._open.discard(future)
            else:
                await self._follow(core, made, future)

    async def _follow(self, core: "Core", made: Call[Any], future: "futures.Future[Any]") -> None:
        try:
            ticket = await core.enqueue(made, self._client.own_options)
            future.add_done_callback(lambda done: self._cancelled(ticket.id) if done.cancelled() else None)
            value = value_of(await ticket.ended())
        except asyncio.CancelledError:
            if future.set_running_or_notify_cancel():
                future.set_exception(RuntimeError("the client was closed before the job ended; the job goes on"))
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it was, it is the future's
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)
        else:
            if future.set_running_or_notify_cancel():
                future.set_result(value)
        finally:
            self._open.discard(future)

    def _cancelled(self, job_id: str) -> None:
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
        futures.wait(self._cancels.copy())
        if wait:
            # a cancelled future is done for its owner; `futures.wait` would wait for the end of its job
            futures.wait([future for future in left if not future.cancelled()])
        if self._is_own:
            self._client.close()
