"""What `map` says when nothing happens: that no worker listens, or that the queue is paused."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from jobrunner.broker import topology
from jobrunner.cli.enqueue_warnings import Warnings, idle_warnings
from jobrunner.client import Client
from jobrunner.errors import JobrunnerError
from jobrunner.mapping.line import Counts
from jobrunner.mapping.recipe import Recipe

FIRST_LOOK_S: Final = 1.5
ANSWER_S: Final = 3.0
"""For a busy worker; without one the answer comes at once."""

LOOK_S: Final = 10.0
"""So often it is looked whether anything has ended since."""


def queue_of(recipe: Recipe) -> str:
    """The queue of the jobs."""
    return recipe.wishes.queue or recipe.queue or topology.DEFAULT_QUEUE


async def look(client: Client, recipe: Recipe) -> Warnings:
    """Why no job can start now; nothing if one can, or if the broker does not tell."""
    queue = queue_of(recipe)
    with contextlib.suppress(JobrunnerError):
        depth = await client.depth(queue)
        if depth is not None and not depth[1]:
            needs = recipe.command is not None
            wait, answer_s = "The jobs wait", ANSWER_S
            return await idle_warnings(client, queue, needs_commands=needs, what=wait, answer_s=answer_s)
    return []


async def watch(client: Client, recipe: Recipe, counts: Callable[[], Counts], tell: Callable[[Warnings], None]) -> None:
    """Look whenever jobs wait and none has ended for a while. Once it was told, not again before one has ended."""
    before, told_at, wait_s = 0, -1, FIRST_LOOK_S
    while True:
        await asyncio.sleep(wait_s)
        wait_s, now = LOOK_S, counts()
        if now.open and now.ended == before and told_at != before and (warnings := await look(client, recipe)):
            told_at = before
            tell(warnings)
        before = now.ended
