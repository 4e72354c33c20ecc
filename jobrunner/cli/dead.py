"""`jobrunner dead`: what died, by cause; `dead list`, `dead purge`."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from jobrunner.cli import out, phrases
from jobrunner.cli.command import Group, option, pass_shared
from jobrunner.cli.fixing import sure_options
from jobrunner.cli.kinds import Number
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option

if TYPE_CHECKING:
    from jobrunner.view.rows import CauseRow
    from jobrunner.view.store import Store

DEFAULT = "causes"
WIDE: Final = 80
"""On a terminal with fewer columns the place of an error is left out: its text says more."""


class DeadGroup(Group):
    """A group whose first command need not be named: `dead cause:3f2a` is `dead causes cause:3f2a`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the first command's name where no command is named."""
        if not ctx.resilient_parsing and not {"-h", "--help", *self.commands} & set(args):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group("dead", cls=DeadGroup)
def dead() -> None:
    """What died, grouped by cause: same task, same error, same place. Alone or with a FILTER it is `dead causes`."""


@dead.command("causes", short_help="Dead jobs grouped by cause.")
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@no_sync_option
@pass_shared
def causes(shared: Shared, words: tuple[str, ...], *, no_sync: bool) -> int:
    """Dead jobs grouped by cause, the group with the newest first.

    The cause: the task, the error's class and the innermost place in your code; of a command the program, its exit code
    and its last words. Piped: cause, count, newest, oldest, task, error, place.
    """
    from jobrunner.cli.selecting import parsed
    from jobrunner.cli.viewing import current

    with current(shared, no_sync=no_sync) as store:
        rows = store.causes(parsed(words, default="all"))
    if shared.json:
        out.emit_json({"causes": [_document(row) for row in rows], "total": sum(row.count for row in rows)})
    elif sys.stdout.isatty() and not shared.quiet:
        _draw(shared, rows)
    else:
        for row in rows:
            out.emit(row.cause if shared.quiet else "\t".join(map(out.cell, _piped(row))))
    return 0


def _document(row: "CauseRow") -> dict[str, Any]:
    return {
        "cause": row.cause,
        "count": row.count,
        "newest_at": out.iso(row.newest),
        "oldest_at": out.iso(row.oldest),
        "task": row.task,
        "error": row.error,
        "place": row.place,
    }


def _piped(row: "CauseRow") -> list[str]:
    newest, oldest = out.iso(row.newest), out.iso(row.oldest)
    return [row.cause, str(row.count), newest, oldest, row.task, row.error, row.place or ""]


def _draw(shared: Shared, rows: Sequence["CauseRow"]) -> None:
    from jobrunner.cli.draw import Cell, Column, table, width

    if not rows:
        shared.talk("Nothing is dead.")
        return
    now = time.time()
    has_room = width() >= WIDE
    cells: list[list[Cell]] = [
        [
            row.cause,
            f"{row.count:,}",
            f"{phrases.age(now - row.newest)} ago",
            f"{phrases.age(now - row.oldest)} ago",
            out.printable(row.task),
            out.printable(row.error),
            *([out.printable(row.place or "")] if has_room else []),
        ]
        for row in rows
    ]
    columns = [
        Column("CAUSE"),
        Column("COUNT", right=True),
        Column("NEWEST", right=True, spare=1),
        Column("OLDEST", right=True, spare=2),
        Column("TASK"),
        Column("ERROR", flexible=True),
        *([Column("")] if has_room else []),
    ]
    out.emit(table(columns, cells, shared.color))
    first = f"cause:{rows[0].cause}"
    canary = " --canary 3" if rows[0].count > 3 else ""
    shared.talk(f"Look:  jobrunner list {first}    Again:  jobrunner retry {first}{canary}")


@dead.command("list", short_help="The dead jobs themselves.")
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@option("--limit", type=Number(1), default=50, show_default=True, metavar="N", help="At most N.")
@no_sync_option
@click.pass_context
def list_dead(ctx: click.Context, words: tuple[str, ...], *, limit: int, no_sync: bool) -> Any:
    """The dead jobs, newest first, as `list state:dead` shows them."""
    from jobrunner.cli.list import list_jobs

    return ctx.invoke(list_jobs, words=("state:dead", *words), limit=limit, no_sync=no_sync)


@dead.command("purge", short_help="Throw dead letters away, on the record.")
@click.argument("words", nargs=-1, metavar="FILTER...")
@sure_options
@pass_shared
def purge(shared: Shared, words: tuple[str, ...], *, dry_run: bool, yes: bool) -> int:
    """Throw dead letters away: each job is recorded as cancelled, with the reason `purged`, then its letter goes.

    Afterwards no filter of `retry` brings these jobs back. `all` also takes letters of which the ledger knows nothing.
    Piped: the ids. Exit 4 if there is no such job, 5 if some had gone on.
    """
    import asyncio

    from jobrunner.cli.fixing import refuse_none
    from jobrunner.cli.viewing import opened

    refuse_none(words)
    with opened(shared) as store:
        return asyncio.run(_purge(shared, store, words, dry_run=dry_run, yes=yes))


async def _purge(shared: Shared, store: "Store", words: Sequence[str], *, dry_run: bool, yes: bool) -> int:
    from jobrunner.cli.fixing import chosen
    from jobrunner.cli.viewing import catch_up
    from jobrunner.client import Client
    from jobrunner.errors import PartlyDone
    from jobrunner.fixing.purging import LetterPurge

    await catch_up(shared, store)
    rows = [row for row in chosen(store, words, ["dead"]) if row.state == "dead"]
    is_all = list(words) == ["all"]
    ids = [row.id for row in rows] + (await _unknown(shared, store) if is_all and (dry_run or not yes) else [])
    if dry_run or not (ids or (is_all and yes)):
        return _dry_run(shared, ids, is_asked=dry_run)
    if not yes:
        _confirm(shared, len(ids), words)
    done: dict[str, bool] = {}
    settings = shared.settings
    async with Client(settings.url, timeout_s=settings.connect_timeout_s) as client:
        purging = LetterPurge(store, client, done.__setitem__)
        await purging.run(rows, with_unknown=is_all)
    purged = [job_id for job_id, is_purged in done.items() if is_purged]
    if shared.json:
        out.emit_json({"jobs": [{"id": job_id, "purged": is_purged} for job_id, is_purged in done.items()]})
    elif sys.stdout.isatty():
        out.emit(f"{shared.mark('✓')} removed {phrases.plural(len(purged), 'dead job')}")
    else:
        for job_id in purged:
            out.emit(job_id)
    for job_id in [job_id for job_id, is_purged in done.items() if not is_purged]:
        shared.talk(f"{job_id[:8]}  is not dead any more; left alone.")
    return 0 if all(done.values()) else PartlyDone.exit_code


async def _unknown(shared: Shared, store: "Store") -> list[str]:
    """The ids of dead letters of which the ledger knows nothing. Raises: LettersInUse, the broker's errors."""
    from jobrunner.client import Client
    from jobrunner.fixing.dead import dead_letters

    settings = shared.settings
    async with Client(settings.url, timeout_s=settings.connect_timeout_s) as client:
        letters = await dead_letters(client)
    return list(dict.fromkeys(letter.id for letter in letters if store.job(letter.id) is None))


def _dry_run(shared: Shared, ids: Sequence[str], *, is_asked: bool) -> int:
    if shared.json:
        out.emit_json(({"dry_run": True} if is_asked else {}) | {"jobs": [{"id": job_id} for job_id in ids]})
    elif not ids:
        shared.talk("Nothing to purge.")
    elif sys.stdout.isatty():
        out.emit(f"would remove {phrases.plural(len(ids), 'dead job')}")
    else:
        for job_id in ids:
            out.emit(job_id)
    return 0


def _confirm(shared: Shared, count: int, words: Sequence[str]) -> None:
    """Let the filter be typed again. Raises: ConfirmNeeded, click.Abort."""
    from jobrunner.cli.fixing import confirm_typed, place
    from jobrunner.errors import ConfirmNeeded

    what = f"remove {phrases.plural(count, 'dead job')} for good"
    if not shared.may_ask:
        raise ConfirmNeeded(action=what, target=place(shared))
    typed = " ".join(words)
    confirm_typed(f"This would {what} on {place(shared)}. Type {typed} to do it", typed)
