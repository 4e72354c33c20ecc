"""Questions of commands to what is live: workers over the control exchange, depths of queues, the broker itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from jobrunner.broker import control, declare, topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.control import Reply
from jobrunner.broker.settings import limit_reached, settings_of
from jobrunner.config import Settings
from jobrunner.errors import KeyCannotSign, PermissionRefused

if TYPE_CHECKING:
    from jobrunner.view.live import LiveFacts
    from jobrunner.view.store import Store

POLICIES_S = 1.0
PING_S = 1.0
"""Workers that have not answered by then count as silent."""


@asynccontextmanager
async def connected(settings: Settings, role: str) -> AsyncIterator[Connection]:
    """A connection for one command. Raises: the broker's errors."""
    connection = Connection(
        settings.url, role=role, notify=lambda _: None, connect_timeout_s=settings.connect_timeout_s
    )
    await connection.connect_once()
    try:
        yield connection
    finally:
        await connection.close()


async def ping(connection: Connection, *, timeout_s: float = PING_S, expected: int | None = None) -> list[Reply]:
    """The workers that answer, in the order of their names."""
    replies = await control.ask(connection, "all", "ping", timeout_s=timeout_s, expected=expected)
    return sorted(replies, key=lambda reply: reply.worker)


async def ping_some(connection: Connection, keys: Iterable[str], *, timeout_s: float) -> list[Reply]:
    """The workers that answer to these keys, each asked for itself."""
    asked = [control.ask(connection, key, "ping", timeout_s=timeout_s, expected=1) for key in keys]
    replies = [reply for found in await asyncio.gather(*asked) for reply in found]
    return sorted(replies, key=lambda reply: reply.worker)


def worker_key(name: str) -> str:
    """The routing key of a worker."""
    return f"worker.{topology.encode_word(name)}"


async def stack(connection: Connection, worker: str, job_id: str, chain: int) -> str | None:
    """The stacks of a job that runs on a worker; None when it did not give them."""
    key = worker_key(worker)
    replies = await control.ask(connection, key, "stack", jobs={job_id: chain}, timeout_s=2 * PING_S, expected=1)
    return next((reply.stack for reply in replies), None)


async def live_facts(settings: Settings, store: "Store", queue: str) -> "LiveFacts":
    """What explains why a job of this queue does not run; where this user may not ask workers, those of the view."""
    import msgspec

    from jobrunner.view.live import LiveFacts, LiveWorker, live_of_view, paused_queues

    now = time.time()
    known = live_of_view(store, queue, now)
    async with connected(settings, "why") as connection:
        try:
            depth = await declare.queue_depth(connection, queue)
            has_queue = depth is not None
        except PermissionRefused:
            depth, has_queue = None, True
        ready, consumers = depth or (None, None)
        try:
            replies = await ping(connection, expected=len(known.workers) or None)
        except (PermissionRefused, KeyCannotSign):
            return msgspec.structs.replace(known, ready=ready, consumers=consumers, has_queue=has_queue)
        return LiveFacts(
            workers=[LiveWorker.of_reply(reply) for reply in replies],
            ready=ready,
            consumers=consumers,
            has_queue=has_queue,
            full=await limit_reached(connection, queue, ready),
            blocked=connection.blocked,
            paused=paused_queues(store, replies, now).get(queue),
        )


async def types(connection: Connection, names: Sequence[str]) -> dict[str, str | None]:
    """Of each queue: quorum, classic or stream; None where this user may not declare it, and so cannot know."""
    found: dict[str, str | None] = {}
    for name in names:
        settings = await settings_of(connection, name)
        found[name] = str(settings.get("x-queue-type", "classic")) if settings is not None else None
    return found


async def policies(settings: Settings) -> dict[str, str]:
    """Queue -> the policy in force there, as the management API tells it; empty where none answers in time."""
    from jobrunner.doctor.management import Api, Refused

    try:
        async with asyncio.timeout(POLICIES_S):
            rows = await Api(settings.url, None).get("queues/{vhost}?columns=name,policy")
        return {str(row["name"]): str(row["policy"]) for row in rows if row.get("policy")}
    except (OSError, TimeoutError, ValueError, TypeError, KeyError, AttributeError, Refused):
        return {}


async def depths(connection: Connection, names: Sequence[str]) -> dict[str, tuple[int, int] | None]:
    """Ready messages and consumers of each queue; None: there is no such queue, or this user may not look."""
    found: dict[str, tuple[int, int] | None] = {}
    for name in names:
        try:
            found[name] = await declare.queue_depth(connection, name)
        except PermissionRefused:
            found[name] = None
    return found
