"""`jobrunner workers list|ping`."""

import sys
import time
from typing import TYPE_CHECKING

import click

from jobrunner.cli import out, phrases
from jobrunner.cli.command import group, option, pass_shared
from jobrunner.cli.kinds import POSITIVE_DURATION
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option

if TYPE_CHECKING:
    from jobrunner.view.rows import WorkerRow

SHOWN_S = 600.0
"""A worker that stopped or vanished is listed for so long."""


@group("workers")
def workers() -> None:
    """Look at the workers, and ask whether they answer."""


@workers.command("list", short_help="Who works, on what, and who is gone.")
@no_sync_option
@pass_shared
def list_workers(shared: Shared, *, no_sync: bool) -> int:
    """The workers that have told of themselves; those that stopped or vanished stay for ten minutes.

    Piped: name, host, version, slots, busy, queues, seen, state.
    """
    from jobrunner.cli.viewing import current

    now = time.time()
    with current(shared, no_sync=no_sync) as store:
        rows = [row for row in store.workers() if not row.gone(now) or now - row.seen_at <= SHOWN_S]
    rows.sort(key=lambda row: row.name)
    if shared.json:
        from jobrunner.view.documents import worker_document

        out.emit_json({"workers": [worker_document(row, now) for row in rows]})
    elif not sys.stdout.isatty() or shared.quiet:
        for row in rows:
            out.emit(row.name if shared.quiet else _piped(row, now))
    elif rows:
        _draw(rows, now, shared.color)
    else:
        shared.talk("No worker has told of itself.  Start one:  jobrunner worker")
    return 0


def _piped(row: "WorkerRow", now: float) -> str:
    facts = [row.name, row.host, row.version, row.slots, row.busy, ",".join(row.queues), out.iso(row.seen_at)]
    return "\t".join(out.cell(str(fact)) for fact in [*facts, _state(row, now)])


def _state(row: "WorkerRow", now: float) -> str:
    from jobrunner.view.documents import worker_document

    return str(worker_document(row, now)["state"])


def _draw(rows: "list[WorkerRow]", now: float, color: str) -> None:
    from jobrunner.cli.draw import Cell, Column, table

    columns = [
        *(Column("NAME"), Column("HOST", flexible=True), Column("VERSION"), Column("BUSY", right=True)),
        *(Column("QUEUES", flexible=True), Column("SEEN", right=True), Column("")),
    ]

    def cells(row: "WorkerRow") -> list[Cell]:
        state: Cell = ""
        if row.gone(now):
            state = ("stopped", "yellow") if row.phase == "offline" else ("gone", "red")
        return [
            out.printable(row.name),
            out.printable(row.host),
            out.printable(row.version),
            f"{row.busy}/{row.slots}",
            out.printable(", ".join(row.queues)),
            f"{phrases.age(now - row.seen_at)} ago",
            state,
        ]

    out.emit(table(columns, map(cells, rows), color))


@workers.command("ping", short_help="Ask who answers.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@option("--timeout", type=POSITIVE_DURATION, default="2s", show_default=True, metavar="DUR", help="Wait so long.")
@option("--self", is_flag=True, help="Only workers of this host: a health check. The ledger is not read.")
@pass_shared
def ping_workers(shared: Shared, /, names: tuple[str, ...], *, timeout: float, **options: bool) -> int:
    """Ask workers for a sign of life: those named, else all that have started and not stopped.

    Exit 4 if there is no such worker, 5 if one did not answer.
    """
    import asyncio

    from jobrunner.cli.workers_ping import Ping

    asked = Ping(shared, timeout)
    if options["self"]:
        return asyncio.run(asked.this_host())
    return asyncio.run(asked.named(names))
