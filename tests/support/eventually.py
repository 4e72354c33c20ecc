"""Wait for a condition instead of sleeping: the check is repeated until it passes, and its last failure is shown."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout_s: float = 10.0, interval_s: float = 0.02) -> T:
    """What `check` gives, once it raises no AssertionError. Any other exception comes through at once."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() >= end:
                raise
        Event().wait(interval_s)


async def eventually_async(
    check: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, interval_s: float = 0.02
) -> T:
    """The same on a running loop, which goes on between two checks. `check` may be a coroutine function."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            answer = check()
            return await answer if isinstance(answer, Awaitable) else answer
        except AssertionError:
            if time.monotonic() >= end:
                raise
        await asyncio.sleep(interval_s)
