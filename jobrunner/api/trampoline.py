"""An asynchronous generator of the loop's thread, walked through in the caller's; its input is read there as well."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from jobrunner.api.call import Call
from jobrunner.api.link import Link, drive
from jobrunner.api.reading import Reader
from jobrunner.api.window import Source

if TYPE_CHECKING:
    from jobrunner.api.core import Core
    from jobrunner.api.thread import LoopThread

T = TypeVar("T")
Make = Callable[["Core", Source], AsyncGenerator[T]]
_Found = Sequence[Call[object]]
_Need = tuple[int, "asyncio.Future[_Found]"]


def walk(link: Link, make: Make[T], reader: Reader) -> Iterator[T]:
    """What `make` gives on the link's loop, in the caller's thread.

    The input is read only while the caller waits here, so it may use whatever belongs to that thread.
    """
    core, thread = link.open()
    if thread is None:
        return _inline(make(core, reader.source))
    return _Walk(thread, core, make, reader).steps()


def _inline(batches: AsyncGenerator[T]) -> Iterator[T]:
    try:
        while (batch := drive(_next(batches))) is not None:
            yield batch
    finally:
        drive(batches.aclose())


async def _next(batches: AsyncGenerator[T]) -> T | None:
    return await anext(batches, None)


class _Walk(Generic[T]):
    def __init__(self, thread: "LoopThread", core: "Core", make: Make[T], reader: Reader) -> None:
        self._thread = thread
        self._reader = reader
        self._mail: SimpleQueue[_Need | None] = SimpleQueue()
        self._batches = make(core, self._ask)
        self._step: asyncio.Task[object] | None = None

    def steps(self) -> Iterator[T]:
        try:
            while (batch := self._wait()) is not None:
                yield batch
        finally:
            # nobody waits: this may run wherever the last reference to it went
            with contextlib.suppress(RuntimeError):  # the client was closed first
                self._thread.start(self._leave())

    def _wait(self) -> T | None:
        step = self._thread.start(self._take())
        step.add_done_callback(lambda _: self._mail.put(None))
        while (need := self._mail.get()) is not None:
            self._serve(*need)
        return step.result()

    def _serve(self, most: int, answer: "asyncio.Future[_Found]") -> None:
        try:
            found = self._reader.read(most)
        except Exception as exc:  # noqa: BLE001 - the input is the user's own and may raise anything
            self._thread.loop.call_soon_threadsafe(_settle, answer, (), exc)
        else:
            self._thread.loop.call_soon_threadsafe(_settle, answer, found, None)

    # --- on the loop ------------------------------------------------------------------------------------------------

    async def _take(self) -> T | None:
        self._step = asyncio.current_task()
        return await _next(self._batches)

    async def _ask(self, most: int) -> _Found:
        answer: asyncio.Future[_Found] = asyncio.get_running_loop().create_future()
        self._mail.put((most, answer))
        return await answer

    async def _leave(self) -> None:
        if self._step is not None and not self._step.done():
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)
        await self._batches.aclose()


def _settle(answer: "asyncio.Future[_Found]", value: _Found, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
