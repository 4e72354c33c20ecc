"""`jobrunner list`: the jobs that a filter selects."""

import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli import out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.kinds import Number
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option
from jobrunner.cli.watching import fill_in, watch_option

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

EXAMPLES = """\b
  jobrunner list state:dead,retrying since:2h
  jobrunner list queue:video not:state:succeeded
  jobrunner list task:resize slower:30s --sort took
  jobrunner list tag:import --columns id,state,worker,error

The words of a FILTER: jobrunner help filters."""


@command("list", epilog=EXAMPLES, prepare=fill_in)
@click.argument("words", nargs=-1, metavar="[FILTER]...", shell_complete=complete_ids)
@option("--limit", type=Number(1), default=50, show_default=True, metavar="N", help="At most N.")
@option("--after", metavar="ID", help="Go on after this job: the last of the page before.")
@option(
    "--sort",
    type=click.Choice(["created", "ended", "took"]),
    default="created",
    show_default=True,
    help="Newest, or longest, first.",
)
@option("--reverse", is_flag=True, help="The other way round.")
@option("--columns", metavar="A,B", help="These columns.")
@watch_option
@no_sync_option
@pass_shared
def list_jobs(shared: Shared, /, words: tuple[str, ...], **options: Any) -> int:
    """The jobs that a filter selects, newest first; all without a filter. Exit 0 also if there are none."""
    from jobrunner.cli.columns import chosen
    from jobrunner.cli.viewing import current, opened

    names = chosen(options["columns"])
    if options["watch"] is None:
        with current(shared, no_sync=options["no_sync"]) as store:
            _Page(shared, store, words, names, options).show()
        return 0
    import asyncio

    with opened(shared) as store:
        page = _Page(shared, store, words, names, options)
        asyncio.run(_watch(page, options["watch"], no_sync=options["no_sync"]))
    return 0


async def _watch(page: "_Page", every_s: float, *, no_sync: bool) -> None:
    from jobrunner.cli.viewing import catch_up, following
    from jobrunner.cli.watching import repeat

    if no_sync:
        await repeat(every_s, page.show)
        return
    await catch_up(page.shared, page.store)
    async with following(page.shared, page.store) as task:
        await repeat(every_s, page.show, task)


class _Page:
    """A page of jobs, as often as it is asked for."""

    def __init__(
        self, shared: Shared, store: "Store", words: Sequence[str], names: Sequence[str], options: dict[str, Any]
    ) -> None:
        self.shared = shared
        self.store = store
        self._words = words
        self._names = names
        self._options = options
        self._limit: int = options["limit"]
        self._order = {"sort": options["sort"], "reverse": options["reverse"]}
        self._after = None if options["after"] is None else store.resolve(options["after"])

    def show(self) -> None:
        """Ask the view and write the answer."""
        from jobrunner.cli.selecting import parsed

        where = parsed(self._words, default="all")
        rows = self.store.jobs(where, limit=self._limit + 1, after=self._after, **self._order)
        has_more, rows = len(rows) > self._limit, rows[: self._limit]
        total = self.store.count(where) if self.shared.json or sys.stdout.isatty() else None
        if self.shared.json:
            from jobrunner.view.documents import job_document

            following = rows[-1].id if has_more else None
            out.emit_json({"jobs": [job_document(row) for row in rows], "next": following, "total": total})
        elif sys.stdout.isatty() and not self.shared.quiet:
            self._draw(rows, total, has_more=has_more)
        else:
            from jobrunner.cli.columns import piped

            for row in rows:
                out.emit(row.id if self.shared.quiet else piped(row, self._names))
            if not rows:
                self._say_nothing()

    def _draw(self, rows: Sequence["JobRow"], total: int | None, *, has_more: bool) -> None:
        from jobrunner.cli.columns import drawn
        from jobrunner.cli.viewing import handle

        if not rows:
            self._say_nothing()
            return
        out.emit(drawn(rows, self._names, time.time(), self.shared.color))
        words = f"{len(rows):,} of {'more than 10,000' if total is None else f'{total:,}'}."
        waiting = next((row.id for row in rows if row.state == "queued"), None)
        hint = f"  Why is one not running?  jobrunner show {handle(self.store, waiting)}" if waiting else ""
        if has_more:
            again = shlex.join(["jobrunner", "list", *self._words, *self._given(), "--after", rows[-1].short_id])
            hint = f"  More:  {out.printable(again)}"
        self.shared.talk(words + hint)

    def _given(self) -> list[str]:
        """The options that make another page the next one of this one. A URL is left out: it has a password."""
        shared = self.shared
        values = {"profile": shared.profile, "config": shared.config, **self._options, "after": None, "watch": None}
        defaults = {param.name: param.default for param in list_jobs.params}
        words: list[str] = []
        for name, value in values.items():
            if value not in (None, False, defaults.get(name)):
                words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return words

    def _say_nothing(self) -> None:
        from jobrunner.cli.selecting import nothing

        self.shared.talk(nothing(self.store, self._words))
