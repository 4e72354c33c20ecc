"""`jobrunner worker`: the options, and from them what the worker may run."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.kinds import DURATION, SIZE
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.config import BrokerUrl
    from jobrunner.worker.settings import WorkerSettings

EPILOG = """\b
  jobrunner worker -p 4 -q high -q task_queue -A tasks
  jobrunner worker -q video --allow-commands

\b
TERM, Ctrl-C  finish what runs, for --grace; again: hand it back now
HUP           renew the worker processes
USR1          their stacks to stderr"""


@command("worker", epilog=EPILOG)
@option(
    "-p", "--procs", type=click.IntRange(1, 1024), metavar="N", show_default="usable CPUs", help="Worker processes."
)
@option(
    "-q", "--queue", multiple=True, metavar="NAME", show_default="task_queue", help="Looked at in this order; repeat."
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
@option("--max-jobs", type=click.IntRange(1), metavar="N", help="Renew a process after N jobs.")
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

    settings = settings_of(shared, options)
    warn_of_openness(shared, settings)
    from jobrunner.worker.run import run_worker

    configure(options["log_format"], "debug" if shared.verbose > 1 else options["log_level"], shared.color)
    return asyncio.run(run_worker(settings))


def settings_of(shared: Shared, options: Mapping[str, Any]) -> "WorkerSettings":
    """What the worker is to do. Raises: WorkerOpen, BadValue, BadTarget, QueueNameTooLong, the errors of the URL."""
    import shlex

    from jobrunner.broker.topology import DEFAULT_QUEUE, check_queue_name
    from jobrunner.cli.allowed import (
        apps_of,
        check_import_prefixes,
        check_open,
        check_programs,
        check_raw_is_unsigned,
        check_something_runs,
        raw_handler_of,
        runs_any_command,
    )
    from jobrunner.worker.settings import WorkerSettings

    url = shared.settings.url
    check_import_prefixes(options["allow_import"])
    check_programs(options["allow_command"], all_allowed=options["allow_commands"])
    handler, handler_command = raw_handler_of(options["raw_handler"], options["raw_handler_command"])
    opens_all = options["allow_commands"] or runs_any_command(options["allow_command"])
    check_open(url, allows_commands=opens_all, insecure=options["insecure"])
    for queue in options["queue"]:
        check_queue_name(queue)
    # a broker of one's own: whoever can publish to it could run anything here anyway; but what was listed is the limit
    opens_itself = url.is_local_broker and not (options["allow_command"] or options["allow_import"])
    settings = WorkerSettings(
        url=url,
        queues=tuple(dict.fromkeys(options["queue"])) or (DEFAULT_QUEUE,),
        procs=options["procs"] or usable_cpus(),
        name=options["name"] or default_name(),
        apps=apps_of(options["app"], handler),
        allow_import=("*",) if opens_itself else tuple(options["allow_import"]),
        allow_commands=options["allow_commands"] or opens_itself,
        allow_programs=tuple(dict.fromkeys(options["allow_command"])),
        raw_handler=handler,
        raw_handler_command=tuple(shlex.split(handler_command)) if handler_command else None,
        grace_s=options["grace"],
        lost_after_s=options["lost_after"],
        burst=options["burst"],
        max_jobs=options["max_jobs"],
        max_memory_bytes=options["max_memory"],
        reload=options["reload"],
        share_broker=options["share_broker"],
        connect_timeout_s=shared.settings.connect_timeout_s,
    )
    check_something_runs(settings)
    check_raw_is_unsigned(settings)
    return settings


def warn_of_openness(shared: Shared, settings: "WorkerSettings") -> None:
    """What a person should know about a broker that is not on this machine."""
    url: BrokerUrl = settings.url
    if url.is_loopback:
        return
    if url.ring is None:
        what = "which of its functions run"
        if settings.allow_commands or settings.allow_programs:
            what = "which commands run here" if settings.allow_commands else "which of its functions and programs run"
        shared.warn(f"Jobs from {url.host} are not signed: whoever can publish there chooses {what}.")
    if not url.tls:
        shared.warn(f"Passwords and jobs cross the network to {url.host} in the clear. amqps:// encrypts.")


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_name() -> str:
    """`mbp-7f3a`: this host and four random digits."""
    import secrets

    return f"{os.uname().nodename.partition('.')[0]}-{secrets.token_hex(2)}"
