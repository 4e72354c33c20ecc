"""`jobrunner wait`: until jobs have ended, or run, or failed."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli import out, phrases
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.kinds import POSITIVE_DURATION
from jobrunner.cli.shared import Shared
from jobrunner.errors import WaitTimeout

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

EXAMPLES = """\b
  jobrunner wait tag:import --timeout 10m && ./publish.sh
  jobrunner enqueue --from jobs.jsonl | jobrunner wait -

The words of a FILTER: jobrunner help filters. The set is that of the start: jobs queued later are not waited for."""


@command("wait", epilog=EXAMPLES)
@click.argument("words", nargs=-1, metavar="[ID|FILTER|-]...", shell_complete=complete_ids)
@option("--timeout", type=POSITIVE_DURATION, metavar="DUR", help="Wait no longer; exit 124, the jobs go on.")
@option(
    "--for",
    type=click.Choice(["ended", "succeeded", "running", "dead"]),
    default="ended",
    show_default=True,
    help="What to wait for.",
)
@option("--any", is_flag=True, help="The first one is enough.")
@pass_shared
def wait(shared: Shared, /, words: tuple[str, ...], **options: Any) -> int:
    """Wait for jobs, and say how each ended; your newest job without a word. `-`: ids from stdin.

    Exit 0 if all succeeded, or reached what --for names; 1 if not; 4 if there is no such job; 124 after --timeout.
    Piped: id, state, seconds, error.
    """
    import asyncio

    from jobrunner.cli.selecting import ids_from_stdin
    from jobrunner.cli.viewing import opened

    waiting = _Waiting(shared, options)
    typed = ids_from_stdin(words)
    if words and not typed:  # an empty stdin names no job, also not the newest one
        shared.talk("Nothing to wait for.")
        return 0
    with opened(shared) as store:
        try:
            return asyncio.run(waiting.run(store, typed))
        except KeyboardInterrupt as exc:
            exc.args = (f"Stopped waiting; {waiting.left_words}.",)
            raise


class _Waiting:
    """One call of `wait`."""

    def __init__(self, shared: Shared, options: dict[str, Any]) -> None:
        self._shared = shared
        self._timeout_s: float | None = options["timeout"]
        self._goal: str = options["for"]
        self._is_any: bool = options["any"]
        self._left: dict[str, None] = {}
        self._count = 0
        self._code = 0

    @property
    def left_words(self) -> str:
        """`k7f2m9xq goes on`, `3 jobs go on`."""
        if len(self._left) == 1:
            return f"{next(iter(self._left))[:8]} goes on"
        return f"{len(self._left):,} jobs go on"

    async def run(self, store: "Store", words: Sequence[str]) -> int:
        """Gives the exit code. Raises: WaitTimeout, NotFound, AmbiguousId, the broker's errors."""
        import asyncio

        from jobrunner.cli.selecting import some_jobs
        from jobrunner.cli.viewing import catch_up, handle
        from jobrunner.durations import format_about

        await catch_up(self._shared, store)
        self._left = dict.fromkeys(row.id for row in some_jobs(store, words, default="last"))
        self._count = len(self._left)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._wait(store)
        except TimeoutError as exc:
            if not self._left:  # all have ended: it was only about to leave
                return self._code
            one = next(iter(self._left))
            name = one[:8] if self._count == 1 else f"{len(self._left):,} of {self._count:,} jobs"
            after = format_about(self._timeout_s or 0.0)
            states = {row.state for job_id in self._left if (row := store.job(job_id)) is not None}
            state = " or ".join(sorted(states)) or "not ended"
            raise WaitTimeout(state=state, after=after, job_id=name, prefix=handle(store, one)) from exc

    async def _wait(self, store: "Store") -> int:
        from jobrunner.cli.waiting import until

        async for row in until(self._shared, store, list(self._left), self._is_over):
            del self._left[row.id]
            self._show(row)
            reached = self._has_reached(row)
            if self._is_any and reached:
                return 0
            self._code = self._code if reached else 1
        return self._code

    def _is_over(self, row: "JobRow") -> bool:
        """Whether it has ended, or is where it was waited for."""
        return row.is_ended or (self._goal == "running" and row.state == "running")

    def _has_reached(self, row: "JobRow") -> bool:
        match self._goal:
            case "running":
                return row.started_at is not None
            case "dead":
                return row.state == "dead"
            case _:
                return row.state == "succeeded"

    def _show(self, row: "JobRow") -> None:
        error = row.error if row.is_ended else None
        if self._shared.json:
            document = None if error is None else _error_document(row)
            out.emit_json({"id": row.id, "state": row.state, "took_s": row.took_s, "error": document})
        elif sys.stdout.isatty():
            state = phrases.state(row.state, self._shared.color, sys.stdout)
            words = [row.short_id, state, "" if row.took_s is None else phrases.took(row.took_s)]
            words.append(out.printable(error.headline) if error else "")
            out.emit("  ".join(word for word in words if word))
        else:
            seconds = "" if row.took_s is None else f"{row.took_s:.3f}"
            cells = [row.id, row.state, seconds, error.headline if error else ""]
            out.emit("\t".join(map(out.cell, cells)))
        sys.stdout.flush()


def _error_document(row: "JobRow") -> Any:
    from jobrunner.view.documents import job_document

    return job_document(row)["error"]
