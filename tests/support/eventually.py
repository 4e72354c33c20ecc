"""Wait for a condition instead of sleeping: the check is repeated until it passes, and its last failure is shown.

Between two checks it waits as long as a check took, at most a second: what is run as a check leaves the CPU to what it
waits for.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout_s: float = 60.0, interval_s: float = 0.02) -> T:
    """What `check` gives, once it raises no AssertionError. Any other exception comes through at once."""
    end = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        try:
            return check()
        except AssertionError:
            if time.monotonic() >= end:
                raise
        Event().wait(max(interval_s, min(1.0, time.monotonic() - began)))


async def eventually_async(
    check: Callable[[], T | Awaitable[T]], timeout_s: float = 60.0, interval_s: float = 0.02
) -> T:
    """The same on a running loop, which goes on between two checks. `check` may be a coroutine function."""
    end = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        try:
            answer = check()
            return await answer if isinstance(answer, Awaitable) else answer
        except AssertionError:
            if time.monotonic() >= end:
                raise
        await asyncio.sleep(max(interval_s, min(1.0, time.monotonic() - began)))


async def eventually_is(ask: Callable[[], Awaitable[T]], wanted: T) -> None:
    """Until that is the answer: a quorum queue that is busy counts for a moment as an empty one."""

    async def same() -> None:
        assert await ask() == wanted

    await eventually_async(same)
