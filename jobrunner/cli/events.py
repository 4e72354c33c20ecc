"""`jobrunner events`: the ledger itself, record by record."""

import sys
import time
from contextlib import aclosing
from typing import Any

import click

from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.kinds import POSITIVE_DURATION
from jobrunner.cli.shared import Shared
from jobrunner.durations import format_duration

SINCE_S = 3600.0
KEPT_S = 30 * 86_400.0
"""So far back the ledger goes."""

EXAMPLES = """\b
  jobrunner events --follow
  jobrunner events k7f2 --since 2d
  jobrunner events --kind dead,expired --follow --json

What each kind means and holds is in the page on the wire format. Nothing is kept here: the ledger is read each time."""


@command("events", epilog=EXAMPLES)
@click.argument("words", nargs=-1, metavar="[ID]...", shell_complete=complete_ids)
@option("-f", "--follow", is_flag=True, help="Go on with those that come; from now on, if there is no --since.")
@option("--since", type=POSITIVE_DURATION, metavar="DUR", show_default="1h", help="From so long ago on.")
@option("--kind", metavar="K,K", help="Only these kinds, such as dead,expired,worker.")
@pass_shared
def events(shared: Shared, /, words: tuple[str, ...], **options: Any) -> int:
    """What was recorded of jobs and workers, as it was recorded; with --json each event whole.

    ID: only events of jobs whose id begins so. Piped: time, kind, id, what it says.
    """
    import asyncio

    from jobrunner.cli.events_read import Wanted, followed, recorded
    from jobrunner.cli.events_text import show

    wanted = Wanted(words, options["kind"])
    since_s, follows = options["since"], options["follow"]
    if since_s is None and not follows:
        since_s = SINCE_S
    start = None if since_s is None else time.time() - since_s

    async def run() -> bool:
        is_empty = True
        found = followed(shared.settings, start) if follows or start is None else recorded(shared.settings, start)
        async with aclosing(found) as records:
            async for record in records:
                if wanted.takes(record):
                    is_empty = False
                    show(shared, record)
                    if follows:
                        sys.stdout.flush()

        return is_empty

    if asyncio.run(run()) and since_s is not None:
        further = "" if since_s >= KEPT_S else "  Further back:  --since 30d"
        shared.talk(f"No such event in the last {format_duration(since_s)}.{further}")
    return 0
