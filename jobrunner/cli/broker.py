"""`jobrunner broker start|stop|status|run`: a private, real RabbitMQ of this user on this machine."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli import out
from jobrunner.cli.broker_talk import (
    NONE_RUNS,
    Follower,
    facts,
    show,
    show_none,
    start_showing_progress,
    warn_of_ignored,
    which,
)
from jobrunner.cli.command import group, option, pass_shared
from jobrunner.cli.kinds import Number
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.local.lifecycle import StartOptions
    from jobrunner.statedir import LocalBroker

_FOLDER = click.Path(file_okay=False, path_type=Path)


@group("broker")
def broker() -> None:
    """A private RabbitMQ on this machine, for you alone.

    It has its own name, data folder, ports and password, listens on 127.0.0.1 only, and other commands find it by
    themselves. The installed rabbitmq-server is used; where there is none, a container.
    """


def _start_options(command: Callable[..., Any]) -> Callable[..., Any]:
    engine = click.Choice(["auto", "rabbitmq", "docker"])
    for decorate in (
        option("--data", type=_FOLDER, metavar="DIR", help="Its data folder [default: in the state folder]."),
        option("--port", type=Number(1, 65535), metavar="N", help="Its port [default: a free one, kept]."),
        option("--engine", type=engine, default="auto", show_default=True, help="auto: rabbitmq-server, else Docker."),
    ):
        command = decorate(command)
    return command


@broker.command("start")
@_start_options
@pass_shared
def start(shared: Shared, engine: str, port: int | None, data: Path | None) -> None:
    """Start it; returns when it answers. If it runs already, says so."""
    from jobrunner.local import lifecycle

    has_run = lifecycle.running() is not None
    options = _options(engine, port, data)
    started = start_showing_progress(shared, options)
    show(shared, started)
    warn_of_ignored(shared, started, options)
    shared.talk(f"  {'It ran already. ' if has_run else ''}Stop it:  jobrunner broker stop")


@broker.command("run")
@_start_options
@pass_shared
def run(shared: Shared, engine: str, port: int | None, data: Path | None) -> int:
    """Start it and stay in front, with its log on stderr, until Ctrl-C."""
    from jobrunner.errors import LocalBrokerRuns
    from jobrunner.local import lifecycle

    if found := lifecycle.running():
        raise LocalBrokerRuns(which=which(found))
    options = _options(engine, port, data)
    log = Follower(sys.stderr, lifecycle.logs(options), quiet=shared.quiet)
    try:
        started = lifecycle.start(options, log.show_new)
        show(shared, started)
        sys.stdout.flush()  # whoever reads it waits for this line
        lifecycle.follow(started, log.show_new)
    except KeyboardInterrupt:  # Ctrl-C, and SIGTERM: this is how it is meant to end
        lifecycle.stop()
        log.show_new()
        return 0
    log.show_new()
    shared.warn("RabbitMQ has ended.")
    return 1


@broker.command("status")
@option("--secrets", is_flag=True, help="The whole URL, with its password.")
@pass_shared
def status(shared: Shared, secrets: bool) -> int:
    """Whether it runs, and where. Exit 1 if it does not."""
    from jobrunner.local import lifecycle

    found = lifecycle.running()
    if found is None:
        show_none(shared)
        return 1
    show(shared, found, secrets=secrets)
    return 0


@broker.command("stop")
@option("--wipe", is_flag=True, help="Remove its data too: all queues and jobs in it.")
@option("--data", type=_FOLDER, metavar="DIR", help="With --wipe, if none runs: the folder to remove.")
@option("-n", "--dry-run", is_flag=True, help="Say what would happen.")
@option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_shared
def stop(shared: Shared, *, wipe: bool, data: Path | None, dry_run: bool, yes: bool) -> None:
    """End it, and the port mapper that belongs to it. Its data stays, unless --wipe."""
    from jobrunner.local import lifecycle

    found = lifecycle.running()
    name = lifecycle.name_of(found, data)
    if dry_run:
        _show_plan(shared, found, name if wipe else None)
        return
    if wipe and name and not yes:
        _ask_for_name(shared, name)
    stopped = lifecycle.stop(wipe=wipe, data_dir=data)
    wiped = bool(wipe and name)
    if shared.json:
        known = facts(stopped) if stopped else {}
        out.emit_json({**known, "running": False, "stopped": stopped is not None, "wiped": wiped})
    elif shared.quiet:
        return
    elif stopped or wiped:
        what = [f"stopped {which(stopped)}"] if stopped else []
        what += [f"removed the data of {name}"] if wiped else []
        out.emit(f"{shared.mark('✓')} {', '.join(what)}")
    else:
        out.emit(NONE_RUNS)


def _options(engine: str, port: int | None, data: Path | None) -> "StartOptions":
    from typing import cast

    from jobrunner.local.lifecycle import Engine, StartOptions

    return StartOptions(engine=cast("Engine", engine), port=port, data_dir=data)


def _show_plan(shared: Shared, found: "LocalBroker | None", wiped: str | None) -> None:
    if shared.json:
        out.emit_json({"would_stop": found is not None, "would_wipe": wiped})
        return
    plan = [f"stop {which(found)}"] if found else []
    plan += [f"remove the data of {wiped}"] if wiped else []
    out.emit(f"would {' and '.join(plan)}" if plan else NONE_RUNS)


def _ask_for_name(shared: Shared, name: str) -> None:
    """Let somebody type the name of what will be lost. Raises: ConfirmNeeded, click.Abort."""
    from jobrunner.cli.fixing import confirm_typed
    from jobrunner.errors import ConfirmNeeded

    action = "remove all queues and jobs"
    if not shared.may_ask:
        raise ConfirmNeeded(action=action, target=f"the private broker {name}")
    confirm_typed(f"This removes all queues and jobs of {name}. Type its name", name)
