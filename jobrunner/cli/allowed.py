"""What a worker may run, and from whom: refused here before it starts, enforced by the worker for each job."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from jobrunner.brokerurl import BrokerUrl
from jobrunner.calls import parse_target
from jobrunner.errors import BadTarget, BadValue, OptionsClash, WorkerOpen
from jobrunner.registry import is_task_name
from jobrunner.worker.settings import WorkerSettings

_SHELLS: Final = (
    "sh",
    "ash",
    "bash",
    "csh",
    "dash",
    "fish",
    "ksh",
    "mksh",
    "rbash",
    "tcsh",
    "zsh",
    "busybox",
    "toybox",
)
_STARTERS: Final = ("doas", "env", "nice", "nohup", "setsid", "stdbuf", "sudo", "timeout", "xargs")
_INTERPRETERS: Final = ("awk", "gawk", "lua", "node", "perl", "php", "python", "ruby")
RUN_OTHERS: Final = frozenset((*_SHELLS, *_STARTERS, *_INTERPRETERS))
"""Programs whose arguments are or name what runs: who allows one of them allows every command."""


def check_open(url: BrokerUrl, *, allows_commands: bool, insecure: bool) -> None:
    """Raises: WorkerOpen when anyone who can publish to another machine could run any command here."""
    if allows_commands and not insecure and url.ring is None and not url.is_loopback:
        raise WorkerOpen(host=url.host)


def check_import_prefixes(prefixes: Sequence[str]) -> None:
    """Raises: BadValue for a prefix that opens everything, the standard library, or what runs the jobs."""
    for prefix in prefixes:
        if not is_task_name(f"{prefix}:f"):
            raise BadValue(problem=f"'{prefix}' is not the name of a module.", hint="--allow-import mypackage.jobs")
        if prefix.partition(".")[0] in sys.stdlib_module_names:
            problem = f"--allow-import {prefix} would open the standard library."
            raise BadValue(problem=problem, hint="--allow-import mypackage.jobs")
        if prefix.partition(".")[0] in ("jobrunner", "__main__"):
            problem = f"--allow-import {prefix} would open jobrunner itself."
            raise BadValue(problem=problem, hint="--allow-import mypackage.jobs")


def check_programs(programs: Sequence[str], *, all_allowed: bool) -> None:
    """Raises: OptionsClash where all are allowed anyway; BadValue for what is neither a name nor a whole path."""
    if programs and all_allowed:
        raise OptionsClash(problem="--allow-commands allows every command, --allow-command only some.")
    for program in programs:
        is_path, is_name = program.startswith("/"), "/" not in program and not program.startswith(("-", "."))
        if not (is_path or is_name) or program.split() != [program] or not program.isprintable():
            problem = f"'{program}' is neither the name of a program nor its whole path."
            raise BadValue(problem=problem, hint="--allow-command ffmpeg · --allow-command /opt/bin/convert")


def runs_any_command(programs: Sequence[str]) -> bool:
    """Whether one of them is a shell, an interpreter, or another program that runs what its arguments name."""
    return any(PurePosixPath(program).name.rstrip("0123456789.") in RUN_OTHERS for program in programs)


def apps_of(typed: Sequence[str], raw_handler: str | None) -> tuple[str, ...]:
    """The modules whose jobs run: as typed, else `tasks` if it is in this folder; and that of the raw handler.

    Raises: BadValue.
    """
    for app in typed:
        if not is_task_name(f"{app}:f") or app.endswith(".py"):
            module = app.removesuffix(".py").removeprefix("./").replace("/", ".")
            raise BadValue(problem=f"'{app}' is not the name of a module.", hint=f"--app {module}")
    apps = list(typed)
    if not apps and (Path("tasks.py").is_file() or Path("tasks/__init__.py").is_file()):
        apps.append("tasks")
    if raw_handler:
        apps.append(raw_handler.partition(":")[0])
    return tuple(dict.fromkeys(apps))


def raw_handler_of(function: str | None, line: str | None) -> tuple[str | None, str | None]:
    """The handler of messages that are no jobs: a task name, or a command line.

    Raises: OptionsClash, BadTarget, BadValue.
    """
    if function and line:
        raise OptionsClash(problem="--raw-handler and --raw-handler-command both take what is no job.")
    if line is not None:
        try:
            words = shlex.split(line)
        except ValueError as exc:
            raise BadValue(problem=f"--raw-handler-command: {exc}.", hint="--raw-handler-command 'wc -c'") from exc
        if not words:
            raise BadValue(problem="--raw-handler-command is empty.", hint="--raw-handler-command 'wc -c'")
    try:
        return (parse_target(function) if function else None), line
    except BadTarget as exc:
        raise BadTarget(target=function, hint="--raw-handler tasks:handle · --raw-handler-command 'wc -c'") from exc


def check_raw_is_unsigned(settings: WorkerSettings) -> None:
    """Raises: OptionsClash for a handler of foreign messages where none is taken."""
    if settings.url.ring is not None and (settings.raw_handler or settings.raw_handler_command):
        problem = "--raw-handler takes messages of others, which are not signed; with keys, none of those is taken."
        raise OptionsClash(problem=problem, hint="a worker of its own for that queue, without keys")


def check_something_runs(settings: WorkerSettings) -> None:
    """Raises: BadValue for a worker that would refuse every job."""
    commands = settings.allow_commands or settings.allow_programs or settings.raw_handler_command
    if not (settings.apps or settings.allow_import or commands):
        problem = "This worker would run nothing: there is no tasks.py here, and nothing else is allowed."
        raise BadValue(problem=problem, hint="--app MODULE · --allow-commands")
