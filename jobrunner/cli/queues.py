"""`jobrunner queues list|declare|pause|resume|purge`."""

import contextlib
import re
import sys
from typing import Final

import click

from jobrunner.cli import out
from jobrunner.cli.command import group, option, pass_shared
from jobrunner.cli.completing import complete_queues
from jobrunner.cli.kinds import POSITIVE_DURATION
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import no_sync_option
from jobrunner.errors import BadValue, OptionsClash, PermissionRefused

SAMPLES: Final = 3
LOOK: Final = "jobrunner queues list"
"""The hint for a name that no queue of jobs can have."""


@group("queues")
def queues() -> None:
    """Look at queues, create them, pause them, empty them."""


@queues.command("list", short_help="What they hold, and who listens.")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_queues)
@no_sync_option
@pass_shared
def list_queues(shared: Shared, names: tuple[str, ...], *, no_sync: bool) -> int:
    """Queues with their messages, jobs and consumers: those named, else those with jobs, the dead and the unrouted.

    READY and CONSUMERS are what the broker counts now, the rest is from the ledger. Piped: name, ready, consumers,
    running, later, dead, oldest in seconds, type, policy (where the management API answers), pause. Exit 4 if a queue
    that was named does not exist.
    """
    from jobrunner.cli.queues_list import list_all

    return list_all(shared, names, no_sync=no_sync)


@queues.command("declare", short_help="Create or check all that is needed.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@option("--print", is_flag=True, help="Print a definitions.json for an administrator; asks no broker.")
@option("--users", is_flag=True, help="With --print: also users, each with the rights that its work needs.")
@option("--broker-version", default="3.13.0", show_default=True, metavar="V", help="With --print: what will read it.")
@option("--replace", metavar="NAME", help="Make one of ours anew, with the right settings, if it is empty.")
@pass_shared
def declare_queues(
    shared: Shared, /, names: tuple[str, ...], *, broker_version: str, replace: str | None, **options: bool
) -> int:
    """Create, or check, everything that jobrunner needs in the broker, and the queues named.

    Exit 1 if something is there with other settings.
    """
    import asyncio

    from jobrunner.broker import topology

    wanted = list(names) if names or replace else [topology.DEFAULT_QUEUE]
    for name in wanted:
        topology.check_queue_name(name, LOOK)
    if options["print"]:
        _print_definitions(shared, wanted, broker_version, with_users=options["users"])
        return 0
    if options["users"]:
        raise OptionsClash(problem="--users goes with --print.", hint="jobrunner queues declare --print --users")
    from jobrunner.cli.queues_work import declare_all, replace_queue

    if replace is not None:
        asyncio.run(replace_queue(shared.settings, replace))
        shared.talk(f"'{replace}' is made anew.")
    report = asyncio.run(declare_all(shared.settings, wanted))
    if shared.json:
        out.emit_json({"created": report.created, "present": report.present, "differ": report.differ})
    else:
        for name in report.created:
            out.emit(f"{shared.mark('✓')} created {out.printable(name)}" if sys.stdout.isatty() else name)
        shared.talk(f"{len(report.created)} created, {report.present} were there.")
        for sentence in report.differ:
            out.say(f"{out.mark('✗', shared.color, sys.stderr)} {sentence}")
    return 1 if report.differ else 0


def _print_definitions(shared: Shared, names: list[str], broker_version: str, *, with_users: bool) -> None:
    import json

    from jobrunner.broker import users
    from jobrunner.broker.definitions import definitions

    vhost = shared.settings.url.vhost
    if re.match(r"\d+\.\d+", broker_version) is None:
        raise BadValue(problem=f"'{broker_version}' is not a version of RabbitMQ.", hint="--broker-version 3.13.0")
    printed = definitions(names, vhost=vhost, broker_version=broker_version)
    if with_users:
        printed |= users.definitions(names, vhost=vhost)
        shared.talk("Nobody can log in as these users yet:  rabbitmqctl change_password jr_worker  and so on.")
    out.emit(json.dumps(printed, indent=2))


@queues.command("pause", short_help="Let nothing more start from a queue.")
@click.argument("name", shell_complete=complete_queues)
@option("--for", type=POSITIVE_DURATION, metavar="DUR", help="So long; else until it is resumed.")
@option("--reason", default="", metavar="TEXT", help="For those who ask why.")
@pass_shared
def pause_queue(shared: Shared, /, name: str, *, reason: str, **options: float | None) -> int:
    """No worker takes a job from this queue until `queues resume`: not those of now, and not those that start later.

    What runs goes on to its end. New jobs are accepted and wait. Exit 4 if there is no such queue.
    """
    from jobrunner.broker.topology import check_queue_name
    from jobrunner.cli.queues_pause import change

    check_queue_name(name, LOOK)
    return change(shared, name, paused=True, for_s=options["for"], reason=reason)


@queues.command("resume", short_help="Let jobs start from a paused queue again.")
@click.argument("name", shell_complete=complete_queues)
@pass_shared
def resume_queue(shared: Shared, name: str) -> int:
    """End the pause of a queue. One that is not paused stays as it is. Exit 4 if there is no such queue."""
    from jobrunner.broker.topology import check_queue_name
    from jobrunner.cli.queues_pause import change

    check_queue_name(name, LOOK)
    return change(shared, name, paused=False)


@queues.command("purge", short_help="Empty a queue, on the record.")
@click.argument("name")
@option("-n", "--dry-run", is_flag=True, help="Only count.")
@option("-y", "--yes", is_flag=True, help="Do not ask for the name.")
@pass_shared
def purge_queue(shared: Shared, name: str, *, dry_run: bool, yes: bool) -> int:
    """Empty a queue: each job is recorded as cancelled, then removed. They do not come back."""
    import asyncio

    from jobrunner.broker import topology
    from jobrunner.cli.queues_work import depths
    from jobrunner.client import whoami
    from jobrunner.errors import NotFound
    from jobrunner.purge import Purge

    topology.check_queue_name(name, LOOK)
    settings = shared.settings
    depth = asyncio.run(depths(settings, [name]))[name]
    if depth is None:
        raise NotFound(message=f"There is no queue '{name}'.", hint="jobrunner queues list")
    count = depth[0]
    if not count and not dry_run:
        return _purged(shared, name, 0)
    jobs = f"{count:,} job{'' if count == 1 else 's'}"
    if dry_run:
        out.emit_json({"queue": name, "would_purge": count}) if shared.json else out.emit(
            f"would remove {jobs} from {name}"
        )
        return 0
    if not yes:
        _ask_for_name(shared, name, jobs)
    purge = Purge(settings.url, name, by=whoami(), timeout_s=settings.connect_timeout_s)
    try:
        done = asyncio.run(purge.run())
    except KeyboardInterrupt as exc:
        exc.args = (f"Stopped: {purge.done:,} removed from '{name}', the rest stays.",)
        raise
    return _purged(shared, name, done)


def _purged(shared: Shared, name: str, done: int) -> int:
    if shared.json:
        out.emit_json({"queue": name, "purged": done})
    else:
        out.emit(
            f"{shared.mark('✓')} removed {done:,} from {out.printable(name)}" if sys.stdout.isatty() else str(done)
        )
    return 0


def _ask_for_name(shared: Shared, name: str, jobs: str) -> None:
    """jobs: how many, in words. Raises: click.Abort for another name; ConfirmNeeded where nobody can be asked."""
    from jobrunner.cli.fixing import confirm_typed
    from jobrunner.errors import ConfirmNeeded

    if not shared.may_ask:
        raise ConfirmNeeded(action=f"remove {jobs}", target=f"'{name}' ({shared.settings.url.masked})")
    _tell_first(shared, name)
    confirm_typed(f"This removes {jobs} of '{name}'. Type its name", name)


def _tell_first(shared: Shared, name: str) -> None:
    """The jobs that would go first, to see whether it is the right queue. Who may not read the ledger sees none."""
    from jobrunner.cli.columns import call
    from jobrunner.cli.selecting import parsed
    from jobrunner.cli.viewing import current

    with contextlib.suppress(PermissionRefused), current(shared, no_sync=False) as store:
        where = parsed([f"queue:{name}", "state:queued"], default="all")
        rows = store.jobs(where, limit=SAMPLES, sort="created", reverse=True)
        for row in rows:
            if row.queue == name:
                shared.talk(f"  {row.short_id}  {call(row)}")
