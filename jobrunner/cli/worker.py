"""`jobrunner worker`: its options."""

from typing import Any

import click

from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.kinds import DURATION, QUEUE, SIZE, Number
from jobrunner.cli.shared import Shared

EPILOG = """\b
  jobrunner worker -p 4 -q high -q task_queue -A tasks
  jobrunner worker -q video --allow-commands

\b
TERM, Ctrl-C  finish what runs, for --grace; again: hand it back now
HUP           renew the worker processes
USR1          their stacks to stderr"""


@command("worker", epilog=EPILOG)
@option("-p", "--procs", type=Number(1, 1024), metavar="N", show_default="usable CPUs", help="Worker processes.")
@option(
    "-q",
    "--queue",
    type=QUEUE,
    multiple=True,
    metavar="NAME",
    show_default="task_queue",
    help="Looked at in this order; repeat.",
)
@option(
    "-A",
    "--app",
    multiple=True,
    metavar="MODULE",
    show_default="tasks if it is here",
    help="Its @job functions; repeat.",
)
@option("--allow-commands", is_flag=True, help="Run any command; on for the local broker.")
@option("--allow-command", multiple=True, metavar="PROG", help="Run the command PROG, a name or a path; repeat.")
@option("--allow-import", multiple=True, metavar="PREFIX", help="Run functions of modules under PREFIX; repeat.")
@option("--insecure", is_flag=True, help="Allow commands from a broker elsewhere, unsigned.")
@option("--share-broker", is_flag=True, help="Jobs get JOBRUNNER_URL, to enqueue jobs of their own.")
@option(
    "--grace",
    type=DURATION,
    default="25s",
    metavar="DUR",
    show_default="25s",
    help="On stop: wait so long, then hand back.",
)
@option(
    "--lost-after",
    type=DURATION,
    default="15s",
    metavar="DUR",
    show_default="15s",
    help="A redelivered job runs once no worker claims it for so long.",
)
@option("--burst", is_flag=True, help="End when queues and processes have nothing to do.")
@option("--max-jobs", type=Number(1), metavar="N", help="Renew a process after N jobs.")
@option("--max-memory", type=SIZE, metavar="SIZE", help="Renew a process that is larger, between jobs.")
@option("--reload", is_flag=True, help="Renew idle processes when a *.py changes.")
@option("--name", metavar="NAME", show_default="host-4hex", help="Unique among live workers.")
@option("--raw-handler", metavar="M:F", help="Messages that are no jobs: their body is this function's argument.")
@option("--raw-handler-command", metavar="LINE", help="Messages that are no jobs: their body is this command's stdin.")
@option(
    "--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True, help="To stderr."
)
@option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least that is told.",
)
@pass_shared
def worker(shared: Shared, /, **options: Any) -> int:
    """Run queued jobs on this machine, until TERM or Ctrl-C."""
    import asyncio

    from jobrunner.cli.logs import configure
    from jobrunner.cli.worker_settings import settings_of, warn_of_openness

    settings = settings_of(shared, options)
    warn_of_openness(shared, settings)
    from jobrunner.worker.run import run_worker

    configure(options["log_format"], "debug" if shared.verbose > 1 else options["log_level"], shared.color)
    return asyncio.run(run_worker(settings))
