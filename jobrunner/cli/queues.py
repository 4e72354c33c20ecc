"""`jobrunner queues list|declare|purge`."""

import sys

import click

from jobrunner.cli import out
from jobrunner.cli.command import group, option, pass_shared
from jobrunner.cli.shared import Shared


@group("queues")
def queues() -> None:
    """Look at queues, create them, empty them."""


@queues.command("list", short_help="Ready messages and consumers.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@pass_shared
def list_queues(shared: Shared, names: tuple[str, ...]) -> int:
    """Messages ready and consumers of queues: those named, else task_queue, the dead and the unrouted.

    Exit 4 if a queue that was named does not exist.
    """
    import asyncio

    from jobrunner.broker import topology
    from jobrunner.cli.queues_work import depths

    wanted = names or (topology.DEFAULT_QUEUE, topology.DEAD, topology.UNROUTED)
    found = asyncio.run(depths(shared.settings, wanted))
    missing = [name for name, depth in found.items() if depth is None]
    rows = [(name, *depth) for name, depth in found.items() if depth is not None]
    if shared.json:
        out.emit_json({"queues": [{"name": name, "ready": ready, "consumers": users} for name, ready, users in rows]})
    else:
        _show_rows(
            [(name, f"{ready:,}" if sys.stdout.isatty() else str(ready), str(users)) for name, ready, users in rows]
        )
    if names and missing:
        from jobrunner.errors import NotFound

        shown = ", ".join(f"'{name}'" for name in missing)
        raise NotFound(message=f"There is no queue {shown}.", hint=f"jobrunner queues declare {missing[0]}")
    return 0


def _show_rows(rows: list[tuple[str, str, str]]) -> None:
    if not sys.stdout.isatty():
        for row in rows:
            out.emit("\t".join(out.cell(column) for column in row))
        return
    table = [("QUEUE", "READY", "CONSUMERS"), *((out.printable(name), *rest) for name, *rest in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    for name, ready, users in table:
        out.emit(f"{name:<{widths[0]}}  {ready:>{widths[1]}}  {users:>{widths[2]}}")


@queues.command("declare", short_help="Create or check all that is needed.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@option("--print", is_flag=True, help="Print a definitions.json for an administrator; asks no broker.")
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
        topology.check_queue_name(name)
    if options["print"]:
        import json

        vhost = shared.settings.url.vhost
        out.emit(json.dumps(topology.definitions(wanted, vhost=vhost, broker_version=broker_version), indent=2))
        return 0
    from jobrunner.cli.queues_work import declare_all, replace_queue

    if replace is not None:
        asyncio.run(replace_queue(shared.settings, replace))
        shared.talk(f"'{replace}' is made anew.")
    report = asyncio.run(declare_all(shared.settings, wanted))
    if shared.json:
        out.emit_json({"created": report.created, "present": report.present, "differ": report.differ})
    else:
        for name in report.created:
            out.emit(f"{shared.mark('✓')} created {name}" if sys.stdout.isatty() else name)
        shared.talk(f"{len(report.created)} created, {report.present} were there.")
        for sentence in report.differ:
            out.say(f"{out.mark('✗', shared.color, sys.stderr)} {sentence}")
    return 1 if report.differ else 0


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
    from jobrunner.errors import ConfirmNeeded, NotFound
    from jobrunner.purge import Purge

    topology.check_queue_name(name)
    settings = shared.settings
    depth = asyncio.run(depths(settings, [name]))[name]
    if depth is None:
        raise NotFound(message=f"There is no queue '{name}'.", hint="jobrunner queues list")
    count = depth[0]
    jobs = f"{count:,} job{'' if count == 1 else 's'}"
    if dry_run:
        out.emit_json({"queue": name, "would_purge": count}) if shared.json else out.emit(
            f"would remove {jobs} from {name}"
        )
        return 0
    if not yes:
        if not shared.may_ask:
            raise ConfirmNeeded(action=f"remove {jobs}", target=f"'{name}' ({settings.url.masked})")
        typed = click.prompt(
            f"This removes {jobs} of '{name}'. Type its name", err=True, default="", show_default=False
        )
        if typed.strip() != name:
            raise click.Abort
    purge = Purge(settings.url, name, by=whoami(), timeout_s=settings.connect_timeout_s)
    try:
        done = asyncio.run(purge.run())
    except KeyboardInterrupt as exc:
        exc.args = (f"Stopped: {purge.done:,} removed from '{name}', the rest stays.",)
        raise
    if shared.json:
        out.emit_json({"queue": name, "purged": done})
    else:
        out.emit(f"{shared.mark('✓')} removed {done:,} from {name}" if sys.stdout.isatty() else str(done))
    return 0
