"""Things that go on at once: the first error of any ends the wait for the others."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Self


class Tasks:
    """Tasks of one map. Use as a context manager: at its end those that go on are cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it go on besides."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._failed.set()

    async def wait(self, work: Awaitable[Any], unless: asyncio.Event | None = None) -> Any:
        """What comes of it; None if `unless` comes first. Raises: the first error of anything that was spawned."""
        task = asyncio.ensure_future(work)
        events = [asyncio.ensure_future(event.wait()) for event in (self._failed, unless) if event is not None]
        try:
            await asyncio.wait([task, *events], return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            return task.result() if task.done() else None
        finally:
            for one in (task, *events):
                one.cancel()
            await asyncio.gather(task, *events, return_exceptions=True)
