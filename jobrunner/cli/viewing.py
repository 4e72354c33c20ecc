"""The local view for commands that look: opened and brought up to date."""

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

from jobrunner.cli import out
from jobrunner.cli.command import option
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    import asyncio

    from jobrunner.broker.stream import Record
    from jobrunner.view.store import Store

QUIET_S: Final = 0.5
"""So long reading goes on without a word."""
REDRAW_S: Final = 0.1
AGAIN_S: Final = 1.0
"""Between two tries when the broker goes away just before it is followed."""


def no_sync_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--no-sync`, for all commands that look."""
    text = "Answer from what is known here; the ledger is not read."
    return option("--no-sync", is_flag=True, help=text)(command)


class Progress:
    """`reading the ledger … 62 %` on stderr, if that is a terminal, from half a second on; erased at the end."""

    def __init__(self, shared: Shared) -> None:
        self._is_shown = sys.stderr.isatty() and not shared.quiet and not shared.json
        self._next = time.monotonic() + QUIET_S
        self._has_drawn = False

    def __call__(self, records: int, fraction: float | None) -> None:
        """How far it is. fraction: None where the end is not known."""
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        self._next = now + REDRAW_S
        self._has_drawn = True
        how_far = f"{records:,} records" if fraction is None else f"{fraction * 100:.0f} %"
        sys.stderr.write("\r" + out.plain(f"reading the ledger … {how_far}", sys.stderr) + "\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave an empty line."""
        if self._has_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def opened(shared: Shared) -> Iterator["Store"]:
    """The view of the broker in force, as it is. Raises: the errors of configuration."""
    from jobrunner.view.recorder import open_view

    with open_view(shared.settings, on_notice=shared.warn) as store:
        yield store


async def catch_up(shared: Shared, store: "Store", *, no_sync: bool = False) -> None:
    """Bring the view up to date. Raises: the broker's errors."""
    if no_sync:
        return
    from jobrunner.cli.completing import remember
    from jobrunner.view.recorder import sync

    progress = Progress(shared)
    try:
        await sync(store, shared.settings.url, timeout_s=shared.settings.connect_timeout_s, on_progress=progress)
    finally:
        progress.end()
    remember(store)


@contextmanager
def current(shared: Shared, *, no_sync: bool) -> Iterator["Store"]:
    """The view, up to date unless `--no-sync` was typed."""
    import asyncio

    with opened(shared) as store:
        if not no_sync:
            asyncio.run(catch_up(shared, store))
        yield store


@asynccontextmanager
async def following(
    shared: Shared, store: "Store", on_fold: "Callable[[list[Record]], None]" = lambda _: None
) -> "AsyncIterator[asyncio.Task[None]]":
    """The view, which `catch_up` has just brought up to date, kept so across lost connections.

    Gives the task that does it, whose error says why it cannot go on. on_fold: called with the records of each batch.
    """
    import asyncio

    from jobrunner.errors import BrokerError
    from jobrunner.view.recorder import follow

    # who looks into the view from here on is told of all that comes into it later, also by another process
    seen = store.anchor

    async def keep() -> None:
        while True:
            try:
                await follow(store, shared.settings.url, on_fold, seen=seen)
            except BrokerError:  # it was there a moment ago, so this is an outage, as later ones are
                await asyncio.sleep(AGAIN_S)

    task = asyncio.create_task(keep())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def handle(store: "Store", job_id: str) -> str:
    """The beginning of an id, four characters or more, that no other job shares."""
    from jobrunner.errors import JobrunnerError

    for length in (4, 6, 8):
        try:
            if store.resolve(job_id[:length]) == job_id:
                return job_id[:length]
        except JobrunnerError:  # fits more than one
            continue
    return job_id
