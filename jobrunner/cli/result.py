"""`jobrunner result`: what a job returned."""

import sys
from typing import TYPE_CHECKING

import click

from jobrunner.cli import failures, out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.kinds import POSITIVE_DURATION
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option
from jobrunner.errors import NotEnded, OptionsClash, WaitTimeout

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store


@command("result")
@click.argument("word", required=False, metavar="[ID]", shell_complete=complete_ids)
@option("--wait", type=POSITIVE_DURATION, metavar="DUR", help="Wait so long for its end.")
@option("--raw", is_flag=True, help="A text without its quotes.")
@no_sync_option
@pass_shared
def result(shared: Shared, /, word: str | None, *, wait: float | None, raw: bool, no_sync: bool) -> int:
    """What a job returned, as JSON; of a command its stdout as it was. Your newest job without an ID.

    Exit 1 if it failed, 4 if there is no such job, 124 if it has not ended (in time).
    """
    import asyncio

    from jobrunner.cli.viewing import opened

    if wait is not None and no_sync:
        raise OptionsClash(problem="--no-sync reads nothing that --wait could wait for.")
    with opened(shared) as store:
        row = asyncio.run(_ended(shared, store, word, wait, no_sync=no_sync))
    return _show(shared, row, raw=raw)


async def _ended(shared: Shared, store: "Store", word: str | None, wait_s: float | None, *, no_sync: bool) -> "JobRow":
    import asyncio

    from jobrunner.cli.selecting import one_job
    from jobrunner.cli.viewing import catch_up, handle
    from jobrunner.durations import format_about

    await catch_up(shared, store, no_sync=no_sync)
    row = one_job(store, word)
    if row.is_ended:
        return row
    prefix = handle(store, row.id)
    if wait_s is None:
        raise NotEnded(job_id=row.short_id, prefix=prefix, state=row.state)
    from jobrunner.cli.waiting import until

    try:
        async with asyncio.timeout(wait_s):
            async for ended in until(shared, store, [row.id], lambda each: each.is_ended):
                row = ended
    except TimeoutError as exc:
        row = store.job(row.id) or row
        after = format_about(wait_s)
        raise WaitTimeout(state=row.state, after=after, job_id=row.short_id, prefix=prefix) from exc
    return row


def _show(shared: Shared, row: "JobRow", *, raw: bool) -> int:
    from jobrunner.cli.enqueue_result import failure_of, show_result
    from jobrunner.watch import end_in

    end = end_in(row)
    if shared.json:
        out.emit_json({"id": row.id, "state": row.state, "value": row.result})
    elif row.state == "succeeded":
        if raw and row.argv is None:
            _show_raw(bytes(row.result or b"null"))
        else:
            show_result(end, is_command=row.argv is not None)
    error = failure_of(end)
    return 0 if error is None else failures.show(error, shared)


def _show_raw(value: bytes) -> None:
    import msgspec

    decoded = msgspec.json.decode(value) if value[:1] == b'"' else None
    text = decoded if isinstance(decoded, str) else value.decode()
    if sys.stdout.isatty():
        text = out.printable(text, keep="\n\t")
    out.emit(text)
