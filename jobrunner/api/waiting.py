"""Waiting for several jobs of one client: for all, for the first, for the first failure, or as they come."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from jobrunner.api.ends import Ticket, failure_of
from jobrunner.durations import format_about
from jobrunner.errors import WaitTimeout
from jobrunner.watch import End

if TYPE_CHECKING:
    from jobrunner.api.core import Core

Until = Literal["all", "first", "failure"]


async def ended(core: "Core", ticket: Ticket, timeout_s: float | None) -> End:
    """The end of one. Raises: WaitTimeout after `timeout_s` seconds; None waits for ever."""
    if ticket.end is None:
        await core.listen([ticket])
    return await ticket.ended(timeout_s)


async def completed(core: "Core", tickets: Sequence[Ticket], timeout_s: float | None) -> AsyncGenerator[list[Ticket]]:
    """All of them, in the order of their ends, some at a time. Raises: WaitTimeout, `timeout_s` after the beginning."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    line: deque[Ticket] = deque()
    wake = asyncio.Event()

    def add(ticket: Ticket) -> None:
        line.append(ticket)
        wake.set()

    unique = list(dict.fromkeys(tickets))
    watchers = {ticket: partial(add, ticket) for ticket in unique}
    for ticket, watcher in watchers.items():
        ticket.when_ended(watcher)
    try:
        if len(line) < len(unique):
            await core.listen(unique)
        left = len(unique)
        while left:
            if not line:
                await _woken(wake, deadline, left, timeout_s or 0.0)
            batch = list(line)
            line.clear()
            wake.clear()
            left -= len(batch)
            yield batch
    finally:
        for ticket, watcher in watchers.items():
            ticket.forget(watcher)


async def _woken(wake: asyncio.Event, deadline: float | None, left: int, timeout_s: float) -> None:
    left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        async with asyncio.timeout(left_s):
            await wake.wait()
    except TimeoutError as exc:
        jobs = "1 job" if left == 1 else f"{left} jobs"
        raise WaitTimeout(
            after=format_about(timeout_s), job_id=jobs, prefix="", hint="jobrunner list state:active"
        ) from exc


async def wait_for(core: "Core", tickets: Sequence[Ticket], timeout_s: float | None, until: Until) -> None:
    """Return when all have ended, when one has, or when one has ended without a result; or after `timeout_s`."""
    batches = completed(core, tickets, timeout_s)
    try:
        async for batch in batches:
            if until == "first" or (until == "failure" and any(t.end and failure_of(t.end) for t in batch)):
                return
    except WaitTimeout:
        pass
    finally:
        await batches.aclose()
