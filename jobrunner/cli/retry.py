"""`jobrunner retry`: dead, cancelled and expired jobs go back to their queue."""

from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.fixing import sure_options
from jobrunner.cli.kinds import POSITIVE_DURATION, RATE, Number
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.cli.retry_report import Report
    from jobrunner.client import Client
    from jobrunner.fixing.retrying import Retrier
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

EXAMPLES = """\b
  jobrunner retry k7f2
  jobrunner retry cause:3f2a --canary 3
  jobrunner retry state:dead task:fetch since:2h --rate 5/s
  jobrunner retry p3h8 --set timeout=10m --set retries=5

The words of a FILTER: jobrunner help filters. What `dead purge` and `queues purge` threw away comes back by id only."""


@command("retry", epilog=EXAMPLES, short_help="Queue dead, cancelled and expired jobs again.")
@click.argument("words", nargs=-1, metavar="ID|FILTER|-...", shell_complete=complete_ids)
@option("--set", multiple=True, metavar="KEY=VALUE", help="Other queue, timeout, retries, priority, backoff.")
@option("--delay", type=POSITIVE_DURATION, metavar="DUR", help="Not before that.")
@option("--rate", type=RATE, metavar="N/s", help="So many a second at most; also 30/m.")
@option("--canary", type=Number(1), metavar="N", help="N first; the others only if all of these succeed.")
@sure_options
@pass_shared
def retry(shared: Shared, /, words: tuple[str, ...], **options: Any) -> int:
    """Queue jobs again: the same id, all attempts anew, the history kept. `-`: ids from stdin.

    A dead job leaves the dead letters only after it is confirmed in its queue. Piped: the ids. Exit 1 after a failed
    canary, 4 if there is no such job, 5 if some were left alone.
    """
    import asyncio

    from jobrunner.cli.fixing import typed
    from jobrunner.cli.retry_report import Report
    from jobrunner.cli.viewing import opened
    from jobrunner.fixing.changes import parse_changes

    changes = parse_changes(options["set"])
    chosen = typed(words)
    report = Report(shared, options["delay"] or 0.0)
    with opened(shared) as store:
        try:
            return asyncio.run(_retry(shared, store, chosen, report, options | {"changes": changes}))
        except KeyboardInterrupt as exc:
            exc.args = (f"Stopped: {report.queued:,} queued again.",)
            raise


async def _retry(shared: Shared, store: "Store", words: list[str], report: "Report", options: dict[str, Any]) -> int:
    from jobrunner.cli.fixing import are_ids, by_state, chosen, confirm
    from jobrunner.cli.viewing import catch_up
    from jobrunner.client import Client
    from jobrunner.fixing.retrying import STATES, Retrier, is_purged, refusal

    await catch_up(shared, store)
    found = chosen(store, words, STATES)
    rows = [row for row in found if are_ids(words) or not is_purged(row)]
    good = [row for row in rows if refusal(row) is None]
    canary = options["canary"] if (options["canary"] or 0) < len(good) else None
    what = f"retry {by_state(good)}"
    if canary:
        what = f"retry {canary} of {len(good):,} jobs, {len(good) - canary:,} more if they succeed,"
    if options["dry_run"]:
        return report.dry_run(good, rows, what)
    confirm(shared, what, len(good), yes=options["yes"])
    report.begin(good, [row for row in rows if refusal(row)])
    settings = shared.settings
    async with Client(settings.url, timeout_s=settings.connect_timeout_s) as client:
        retrier = Retrier(
            store,
            client,
            report.done,
            changes=options["changes"],
            delay_s=options["delay"] or 0.0,
            rate=options["rate"],
        )
        if canary and not await _canary(client, retrier, good[:canary], report):
            return report.end(untouched=len(good) - canary)
        await retrier.run(good[canary or 0 :])
    return report.end()


async def _canary(client: "Client", retrier: "Retrier", rows: list["JobRow"], report: "Report") -> bool:
    """Retry some and wait for their ends. Gives whether all succeeded."""
    chains = {row.id: row.chain for row in rows}
    # not their ends so far: after a lost connection those come again
    async with client.watch(ids=list(chains), wanted=lambda job_id, chain: chain > chains[job_id]) as watch:
        await retrier.run(rows)
        left = {row.id for row in rows} - report.failed_ids
        if len(left) < len(rows):
            return report.canary(None)
        while left:
            end = await watch.next()
            if end is None or end.id not in left:
                continue
            left.discard(end.id)
            if not report.canary(end):
                return False
    return True
