"""What `jobrunner logs` does: output from the view, and from then on as it comes."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from jobrunner.cli import failures
from jobrunner.cli.enqueue_result import failure_of
from jobrunner.cli.following import Following
from jobrunner.cli.live import Events, Live, Recorded
from jobrunner.cli.output_print import Printer
from jobrunner.cli.pieces import STREAMS, Unfold, last_lines
from jobrunner.cli.selecting import some_jobs
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import catch_up, following, handle
from jobrunner.errors import PermissionRefused
from jobrunner.view.rows import JobRow
from jobrunner.view.store import Store
from jobrunner.watch import end_in

EACH_OF_SEVERAL: Final = 10
"""Lines of each job, when there are several."""


class Output:
    """One call. options: as typed. following: once that has begun."""

    def __init__(self, shared: Shared, store: Store, options: dict[str, Any]) -> None:
        self._shared = shared
        self._store = store
        self._options = options
        self._lines: int | None = options["lines"]
        self._from = 0.0 if options["since"] is None else time.time() - options["since"]
        self._printer = Printer(shared, has_times=options["timestamps"])
        self.following: Following | None = None

    async def past(self, words: Sequence[str]) -> int:
        """What is known. Raises: NotFound, AmbiguousId, the broker's errors."""
        rows = await self._select(words)
        for row in rows:
            self._print_past(self._unfold(row), row)
        self._printer.close()
        if not self._printer.has_written:
            self._say_nothing(rows)
        return 0

    async def follow(self, words: Sequence[str]) -> int:
        """What is known, and what comes until all have ended. Gives the exit code."""
        return self._conclude(await self.to_the_end(words))

    async def to_the_end(self, words: Sequence[str]) -> Following:
        """The same, and gives how they ended. Raises: NotFound, AmbiguousId, the broker's errors."""
        rows = await self._select(words)
        printing = self.following = Following(self._printer, {row.id: self._unfold(row) for row in rows})
        jobs = {row.id: row.chain for row in rows if not row.is_ended}
        async with contextlib.AsyncExitStack() as stack:
            live = await self._live(stack, jobs) if jobs else None
            for row in rows:
                now = self._store.job(row.id) or row
                self._print_past(printing.unfolds[row.id], now)
                if now.is_ended:
                    printing.end(end_in(now))
            if live is not None:
                await printing.to_the_end(live)
        self._printer.close()
        return printing

    async def _live(self, stack: contextlib.AsyncExitStack, jobs: dict[str, int]) -> Events:
        """What comes from now on; all before it is in the view."""
        try:
            live = await stack.enter_async_context(Live(self._shared.settings, jobs))
        except PermissionRefused:  # who may only look reads the ledger, and sees what that keeps
            recorded = Recorded(jobs)
            await catch_up(self._shared, self._store)
            await stack.enter_async_context(following(self._shared, self._store, recorded.fold))
            return recorded
        await catch_up(self._shared, self._store)  # what came between the first look and the subscription
        return live

    def _conclude(self, following: Following) -> int:
        failed = [error for end in following.ends.values() if (error := failure_of(end)) is not None]
        if len(following.ends) == 1 and failed:
            return failures.show(failed[0], self._shared)
        return 1 if failed else 0

    async def _select(self, words: Sequence[str]) -> list[JobRow]:
        await catch_up(self._shared, self._store, no_sync=self._options["no_sync"])
        rows = some_jobs(self._store, words, default="last")
        self._printer.has_ids = len(rows) > 1
        if self._lines is None and len(rows) > 1:
            self._lines = EACH_OF_SEVERAL
        return rows

    def _unfold(self, row: JobRow) -> Unfold:
        stream = self._options["stream"]
        return Unfold(row.id, attempt=self._options["attempt"], streams=(stream,) if stream else STREAMS)

    def _print_past(self, unfold: Unfold, row: JobRow) -> None:
        known = unfold.past(self._store.attempts(row.id), self._store.logs(row.id))
        pieces = [piece for piece in known if piece.at >= self._from]
        if self._lines is not None:
            pieces = last_lines(pieces, self._lines)
        for piece in pieces:
            self._printer.write(piece)
        if row.is_ended:
            self._printer.finish(row.id)

    def _say_nothing(self, rows: Sequence[JobRow]) -> None:
        if any(list(Unfold(row.id).past(self._store.attempts(row.id), self._store.logs(row.id))) for row in rows):
            name = rows[0].short_id if len(rows) == 1 else "They"
            self._shared.talk(f"{name} wrote nothing that these options select.")
            return
        if len(rows) != 1:
            self._shared.talk("They wrote nothing.")
            return
        row = rows[0]
        if row.started_at is None and not row.is_ended:
            hint = f"jobrunner show {handle(self._store, row.id)} --why"
            self._shared.talk(f"{row.short_id} has not started: it is {row.state}.  {hint}")
        else:
            so_far = "" if row.is_ended else " so far"
            self._shared.talk(f"{row.short_id} wrote nothing{so_far}.")
