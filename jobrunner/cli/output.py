"""`jobrunner logs`: what jobs wrote."""

from typing import Any

import click

from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.kinds import POSITIVE_DURATION, Number
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option
from jobrunner.errors import OptionsClash


@command("logs")
@click.argument("words", nargs=-1, metavar="[ID|FILTER]...", shell_complete=complete_ids)
@option("-f", "--follow", is_flag=True, help="Go on until the jobs have ended; exit 0, or 1 if one failed.")
@option("-l", "--lines", type=Number(0), metavar="N", help="The last N lines (all; 10 of each of several jobs).")
@option("--attempt", type=Number(1), metavar="N", help="Only of this attempt.")
@option("--stream", type=click.Choice(["out", "err"]), help="Only stdout, or only stderr.")
@option("-t", "--timestamps", is_flag=True, help="When each line was read, before it.")
@option("--since", type=POSITIVE_DURATION, metavar="DUR", help="Only what was written that long ago or later.")
@no_sync_option
@pass_shared
def logs(shared: Shared, /, words: tuple[str, ...], **options: Any) -> int:
    """What jobs wrote to stdout and stderr, live with -f from any machine; of your newest job without a word.

    Of each attempt the first and the last 64 KiB are kept. Several jobs: each line begins with the id. Exit 4 if there
    is no such job.
    """
    import asyncio

    from jobrunner.cli.output_work import Output
    from jobrunner.cli.viewing import opened

    if options["follow"] and options["no_sync"]:
        raise OptionsClash(problem="--no-sync reads nothing that --follow could show.")
    with opened(shared) as store:
        output = Output(shared, store, options)
        try:
            return asyncio.run(output.follow(words) if options["follow"] else output.past(words))
        except KeyboardInterrupt as exc:
            if output.following is not None:
                exc.args = (output.following.left_words(),)
            raise
