"""`jobrunner status`: queues, workers, and what is wrong."""

import sys
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli import out, phrases
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_queues
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option
from jobrunner.cli.watching import fill_in, watch_option
from jobrunner.errors import BadValue

if TYPE_CHECKING:
    from jobrunner.cli.status_facts import Facts, QueueFacts
    from jobrunner.view.store import Store


@command("status", prepare=fill_in)
@click.argument("names", nargs=-1, metavar="[QUEUE]...", shell_complete=complete_queues)
@option("--check", is_flag=True, help="Exit 1 if anything is wrong.")
@watch_option
@no_sync_option
@pass_shared
def status(shared: Shared, /, names: tuple[str, ...], **options: Any) -> int:
    """Queues with their jobs, workers that answer, and what is wrong.

    READY is what the broker counts now; the rest is from the ledger, rates over the last minute. Piped: name, ready,
    running, later, dead, oldest in seconds, in/s, out/s, consumers. --no-sync: from the local view, without the broker.
    Exit 4 if there is no queue of a name that was given.
    """
    import asyncio

    from jobrunner.cli.viewing import opened

    if "" in names:
        raise BadValue(problem="A queue needs a name.", hint="jobrunner queues list")
    with opened(shared) as store:
        look = _Look(shared, store, names, no_sync=options["no_sync"])
        if options["watch"] is None:
            asyncio.run(look.once())
        else:
            asyncio.run(look.again(options["watch"]))
    return 1 if options["check"] and look.has_problems else 0


class _Look:
    """The status, once or again and again."""

    def __init__(self, shared: Shared, store: "Store", names: tuple[str, ...], *, no_sync: bool) -> None:
        self._shared = shared
        self._store = store
        self._names = names
        self._no_sync = no_sync
        self.has_problems = False

    async def once(self) -> None:
        """Bring the view up to date, ask, and write."""
        from jobrunner.cli.viewing import catch_up

        await catch_up(self._shared, self._store, no_sync=self._no_sync)
        await self._show()

    async def again(self, every_s: float) -> None:
        """Until Ctrl-C."""
        from jobrunner.cli.viewing import catch_up, following
        from jobrunner.cli.watching import repeat

        if self._no_sync:
            await repeat(every_s, self._show)
            return
        await catch_up(self._shared, self._store)
        async with following(self._shared, self._store) as task:
            await repeat(every_s, self._show, task)

    async def _show(self) -> None:
        from jobrunner.cli.status_document import document
        from jobrunner.cli.status_facts import gather, missing
        from jobrunner.errors import NotFound

        facts = await gather(self._shared, self._store, self._names, no_sync=self._no_sync)
        if gone := missing(facts, self._names):
            shown = ", ".join(f"'{name}'" for name in gone)
            raise NotFound(message=f"There is no queue {shown}.", hint="jobrunner queues list")
        self.has_problems = bool(facts.problems)
        if self._shared.json:
            out.emit_json(document(facts, self._shared))
        elif sys.stdout.isatty():
            self._draw(facts)
        else:
            for row in facts.queues:
                out.emit(_piped(row, facts.now))
            for problem in facts.problems:
                fix = f"  {problem.fix}" if problem.fix else ""
                self._shared.talk(f"{out.plain(_mark(problem.level), sys.stderr)} {problem.text}{fix}")

    def _draw(self, facts: "Facts") -> None:
        from jobrunner.cli.draw import table

        shared = self._shared
        out.emit(out.plain(_heading(facts, shared), sys.stdout))
        out.emit("")
        out.emit(table(_columns(), [_cells(row, facts.now) for row in facts.queues], shared.color))
        out.emit("")
        out.emit(_workers(facts))
        for problem in facts.problems:
            fix = f"  {problem.fix}" if problem.fix else ""
            out.emit(f"{shared.mark(_mark(problem.level))} {out.printable(problem.text)}{fix}")


def _mark(level: str) -> str:
    return "✗" if level == "error" else "!"


def _heading(facts: "Facts", shared: Shared) -> str:
    settings = shared.settings
    broker = f"{facts.product} {facts.version}" if facts.version else "not asked (--no-sync)"
    profile = f"  profile {settings.profile}" if settings.profile else ""
    return f"{settings.url.masked}  {broker}{profile}"


def _workers(facts: "Facts") -> str:
    if facts.replies is None:
        return f"workers {facts.expected}, not asked"
    if not facts.expected:
        return "no workers.  Start one:  jobrunner worker"
    slots, busy = sum(each.slots for each in facts.replies), sum(each.busy for each in facts.replies)
    return f"workers {len(facts.replies)} of {facts.expected} answering, {busy} of {slots} slots busy"


def _columns() -> list[Any]:
    from jobrunner.cli.draw import Column

    numbers = ("READY", "RUNNING", "LATER", "DEAD", "OLDEST", "IN/s", "OUT/s")
    spare = {"OUT/s": 3, "IN/s": 2, "OLDEST": 1}
    return [Column("QUEUE", flexible=True), *(Column(each, right=True, spare=spare.get(each, 0)) for each in numbers)]


def _cells(row: "QueueFacts", now: float) -> list[Any]:
    counts, oldest_s = row.counts, row.oldest_s(now)
    return [
        out.printable(row.name),
        phrases.NOTHING if row.ready is None else f"{row.ready:,}",
        f"{counts.running:,}",
        f"{counts.later:,}",
        (f"{counts.dead:,}", "red" if counts.dead else ""),
        phrases.NOTHING if oldest_s is None else phrases.took(round(oldest_s)),
        f"{counts.in_per_s:.1f}",
        f"{counts.out_per_s:.1f}",
    ]


def _piped(row: "QueueFacts", now: float) -> str:
    counts, oldest_s = row.counts, row.oldest_s(now)
    numbers = [row.ready, counts.running, counts.later, counts.dead]
    words = ["" if number is None else str(number) for number in numbers]
    words.append("" if oldest_s is None else f"{oldest_s:.1f}")
    words += [f"{counts.in_per_s:.2f}", f"{counts.out_per_s:.2f}", "" if row.consumers is None else str(row.consumers)]
    return "\t".join([out.cell(row.name), *words])
