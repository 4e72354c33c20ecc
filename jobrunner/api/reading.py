"""Reading an input that yields calls: few at first, more at a time while it is quick."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Any

from jobrunner.api.call import Call, call
from jobrunner.api.window import CHUNK

QUICK_S = 0.01
"""An input that takes longer for what was asked of it is asked for one call at a time."""


class Reader:
    """Reads an iterable in whatever thread calls it."""

    def __init__(self, calls: Iterable[Call[object]]) -> None:
        self._calls = iter(calls)
        self._pace = 1
        self._error: Exception | None = None

    def read(self, most: int) -> list[Call[object]]:
        """The next ones, at most so many; none at the end. Raises: what the input raised, once the rest was read."""
        if self._error is not None:
            raise self._error
        found: list[Call[object]] = []
        began = time.monotonic()
        try:
            for one in self._calls:
                found.append(one)
                if len(found) >= min(most, self._pace):
                    break
        except Exception as exc:
            if not found:
                raise
            self._error = exc
        self._pace = min(CHUNK, 2 * self._pace) if time.monotonic() - began < QUICK_S else 1
        return found

    def stop(self) -> None:
        """Read no more: what follows is the end."""
        self._calls = iter(())

    async def source(self, most: int) -> Sequence[Call[object]]:
        """The same for a loop, which an input that blocks would hold up."""
        return self.read(most)


class AsyncReader:
    """Reads an asynchronous iterable. What has come is never held back for what has not."""

    def __init__(self, calls: AsyncIterable[Call[object]]) -> None:
        self._calls = aiter(calls)
        self._next: asyncio.Task[Call[object]] | None = None
        self._is_stopped = False

    async def source(self, most: int) -> Sequence[Call[object]]:
        """The next ones, at most so many; none at the end. Raises: what the input raised, once the rest was read."""
        found: list[Call[object]] = []
        while len(found) < most and not self._is_stopped:
            if self._next is None:
                self._next = asyncio.create_task(self._one())
            await asyncio.wait({self._next}, timeout=0 if found else None)
            if not self._next.done() or (found and self._next.exception() is not None):
                break
            try:
                found.append(self._next.result())
            except StopAsyncIteration:
                break  # it stays: the next question finds the end again
            self._next = None
        return found

    async def _one(self) -> Call[object]:
        return await anext(self._calls)

    def stop(self) -> None:
        """Read no more: what follows is the end."""
        if self._next is not None:
            self._next.cancel()
        self._is_stopped = True


def source_of(calls: Iterable[Call[object]] | AsyncIterable[Call[object]]) -> Reader | AsyncReader:
    """How a loop reads it: its method `source`."""
    return AsyncReader(calls) if isinstance(calls, AsyncIterable) else Reader(calls)


def calls_of(
    target: Any, inputs: Iterable[Any] | AsyncIterable[Any], more: Sequence[Iterable[Any]]
) -> Iterable[Call[Any]] | AsyncIterable[Call[Any]]:
    """A call for each input."""
    if not isinstance(inputs, AsyncIterable):
        return (call(target, *args) for args in zip(inputs, *more, strict=False))
    if more:
        raise TypeError("map() takes an asynchronous input alone")
    return _each(target, inputs)


async def _each(target: Any, inputs: AsyncIterable[Any]) -> AsyncIterator[Call[Any]]:
    async for one in inputs:
        yield call(target, one)
