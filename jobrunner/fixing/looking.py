"""A short look at all messages of a queue that workers consume. They go back in their order, but each look counts as a
delivery: workers give a message up after five that ended badly, so nobody may look often.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from jobrunner.broker import declare
from jobrunner.broker.browse import Browser
from jobrunner.broker.connection import Connection
from jobrunner.broker.delivery import Delivery

MOST_MESSAGES: Final = 20_000
HOLD_S: Final = 3.0
"""Longest time for which the workers of the queue wait."""

QUIET_S: Final = 0.25
"""No message for so long: then the broker is asked whether any is left."""

LOOKS_AT_ZERO: Final = 3
"""How often a queue that must have messages is asked before it counts as empty: a leader that is slow to answer counts
none.
"""

SEEN_BEFORE: Final = 2
"""Deliveries of a message after which a look stops: the rest belongs to the workers."""

SEEN_UNROUTED: Final = 10
"""The same for what had no queue: no worker takes it, and from RabbitMQ 4.0 on the broker drops it after 20."""

SEEN_TO_MOVE: Final = 18
"""The same for who looks at these to bring them where they belong."""


class Sighting(msgspec.Struct, frozen=True):
    """What lies in a queue. deliveries: id -> message. reason: why not all were seen; empty: they were."""

    deliveries: dict[str, Delivery]
    reason: str = ""


async def look(
    connection: Connection,
    queue: str,
    on_all: Callable[[Sighting, Browser], object] | None = None,
    *,
    seen: int = SEEN_BEFORE,
) -> Sighting:
    """All messages that are ready now. on_all: awaited or called before they go back, for one who wants to ack some.
    seen: deliveries of one after which the look stops.

    Raises: Missing, PermissionRefused, BrokerLost.
    """
    depth = await declare.queue_depth(connection, queue)
    ready = 0 if depth is None else depth[0]
    if ready > MOST_MESSAGES:
        return Sighting({}, f"it has {ready:,} messages, more than may be taken at once")
    found: dict[str, Delivery] = {}
    state = _Progress()

    def take(delivery: Delivery) -> None:
        state.count += 1
        state.is_worn |= (delivery.delivery_count or 0) >= seen
        if delivery.message_id is not None:
            found[delivery.message_id] = delivery
        state.changed.set()

    browser = Browser(connection, queue, take, prefetch=ready + 1000)
    await browser.open()
    try:
        reason = await _until_all(state, ready, lambda: _is_empty(browser, connection, queue))
        sighting = Sighting(found, reason)
        if on_all is not None:
            answer = on_all(sighting, browser)
            if asyncio.iscoroutine(answer):
                await answer
    finally:
        await browser.close()
    return sighting


class _Progress:
    def __init__(self) -> None:
        self.count = 0
        self.is_worn = False
        self.changed = asyncio.Event()


async def _is_empty(browser: Browser, connection: Connection, queue: str) -> bool:
    """Whether nothing is left to come. A broker that stands still is silent too; and a leader that is slow to answer
    counts nothing.
    """
    for _ in range(LOOKS_AT_ZERO):
        depth = await declare.queue_depth(connection, queue)
        if depth is not None and depth[0]:
            return False
    await browser.answer()
    return True


async def _until_all(state: _Progress, ready: int, is_empty: Callable[[], Awaitable[bool]]) -> str:
    """Wait until all have come. Gives why they have not, or nothing."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HOLD_S):
            while not state.is_worn:
                state.changed.clear()
                try:
                    async with asyncio.timeout(QUIET_S):
                        await state.changed.wait()
                except TimeoutError:
                    count = state.count
                    # workers may have taken some of those that were counted
                    if 0 < ready <= count or (await is_empty() and state.count == count):
                        return ""
    if state.is_worn:
        return "its messages were delivered several times before; another look would count against them"
    return "" if state.count >= ready else f"only {state.count:,} of {ready:,} messages came within {HOLD_S:g} s"
