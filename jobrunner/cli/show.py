"""`jobrunner show`: one job, its attempts, and why it does not run."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli import out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option
from jobrunner.errors import NotRunning, OptionsClash

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store
    from jobrunner.view.why import Why


@command("show")
@click.argument("word", required=False, metavar="[ID]", shell_complete=complete_ids)
@option("--why", is_flag=True, help="Only the reason why it does not run, and what helps.")
@option("--stack", is_flag=True, help="Where it is now: the stacks of its process, asked from its worker.")
@no_sync_option
@pass_shared
def show(shared: Shared, /, word: str | None, **options: bool) -> int:
    """All that is known of a job, and why it does not run; your newest job without an ID.

    Exit 4 if there is no such job.
    """
    import asyncio

    from jobrunner.cli.viewing import opened

    if options["why"] and options["stack"]:
        raise OptionsClash(problem="--why is for a job that does not run, --stack for one that does.")
    with opened(shared) as store:
        asyncio.run(_show(shared, store, word, options))
    return 0


async def _show(shared: Shared, store: "Store", word: str | None, options: dict[str, bool]) -> None:
    from jobrunner.cli.selecting import one_job
    from jobrunner.cli.viewing import catch_up

    await catch_up(shared, store, no_sync=options["no_sync"])
    row = one_job(store, word)
    if options["stack"]:
        await _show_stack(shared, row)
        return
    why = None if row.is_ended else await _reason(shared, store, row, no_sync=options["no_sync"])
    if options["why"]:
        _show_why(shared, row, why)
        return
    if shared.json:
        from jobrunner.view.documents import show_document

        out.emit_json(show_document(row, store.attempts(row.id), why, store.unknown_events(row.id)))
        return
    from jobrunner.cli.show_text import lines

    for line in lines(shared, row, store.attempts(row.id), why, store.unknown_events(row.id)):
        out.emit(line)


async def _reason(shared: Shared, store: "Store", row: "JobRow", *, no_sync: bool) -> "Why | None":
    """Why a job does not run, by what is live now. no_sync: by what the view has."""
    from jobrunner.view.live import live_of_view
    from jobrunner.view.why import explain_why

    now = time.time()
    if no_sync:
        return explain_why(store, row, now=now, live=live_of_view(store, row.queue, now))
    from jobrunner.cli.asking import live_facts

    live = await live_facts(shared.settings, store, row.queue)
    return explain_why(store, row, now=now, live=live)


async def _show_stack(shared: Shared, row: "JobRow") -> None:
    from jobrunner.cli.asking import connected, stack

    if row.state != "running" or row.worker is None:
        raise NotRunning(job_id=row.short_id, prefix=row.id[:4], state=row.state)
    async with connected(shared.settings, "stack") as connection:
        text = await stack(connection, row.worker, row.id, row.chain)
    if text is None:
        state = f"not on {row.worker} any more, or that worker is silent"
        raise NotRunning(job_id=row.short_id, prefix=row.id[:4], state=state)
    if shared.json:
        out.emit_json({"id": row.id, "worker": row.worker, "stack": text})
        return
    shown = out.printable(text, keep="\n\t") if sys.stdout.isatty() else text
    sys.stdout.write(shown if shown.endswith("\n") else f"{shown}\n")


def _show_why(shared: Shared, row: "JobRow", why: "Why | None") -> None:
    if shared.json:
        document: dict[str, Any] = {"id": row.id, "state": row.state}
        found = None if why is None else {"code": why.code, "text": why.text, "fix": why.fix or None}
        out.emit_json(document | {"why": found})
        return
    if why is None:
        sentence = {"running": "It runs.", "succeeded": "It has succeeded.", "dead": "It is dead."}
        out.emit(sentence.get(row.state, f"It is {row.state}."))
        return
    text = why.text[:1].upper() + why.text[1:]
    out.emit(out.printable(text) if sys.stdout.isatty() else text)
    if why.fix:
        shared.talk(out.printable(f"  {why.label}:  {why.fix}"))
