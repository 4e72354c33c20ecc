"""`jobrunner config show|path|check`: what holds, where it was found, whether it is right."""

import os
import re
import sys
from typing import Any

import click

from jobrunner.cli import out, table
from jobrunner.cli.command import Command, Option, group, keys_of, option, pass_shared
from jobrunner.cli.shared import Shared
from jobrunner.errors import ConfigInvalid, JobrunnerError

_PASSWORD = re.compile(r"(://[^:/@\s]*):[^/\s]*@")
"""In a URL that an option holds."""


@group("config")
def config() -> None:
    """What is configured, and where: flag, environment, project file, user's file, default."""


@config.command("show")
@option("--origin", is_flag=True, help="Say where each value comes from.")
@pass_shared
def show(shared: Shared, *, origin: bool) -> None:
    """The settings in force; never a password."""
    rows = _rows(shared)
    if shared.json:
        out.emit_json({"settings": {name: {"value": value, "origin": source} for name, value, source in rows}})
        return
    if not sys.stdout.isatty():
        for row in rows:
            out.emit("\t".join(out.cell(column) for column in (row if origin else row[:2])))
        return
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, value, source in rows:
        out.emit(
            f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}".rstrip()
            if origin
            else f"{name:<{widths[0]}}  {value}"
        )


def _rows(shared: Shared) -> list[tuple[str, str, str]]:
    """(name, value, origin): the broker, the timeout, the profile, and each option set in a file or the environment."""
    from jobrunner.config import route_of, tls_of
    from jobrunner.durations import format_duration

    settings = shared.settings
    rows = [
        ("url", settings.url.masked, settings.url.origin),
        ("connect_timeout", format_duration(settings.connect_timeout_s), settings.connect_timeout_origin),
    ]
    if (ring := settings.url.ring) is not None:
        rows.append(("keys", ", ".join(key.kid for key in ring.keys), ring.origin))
    if settings.profile:
        rows.append(("profile", settings.profile, "--profile" if shared.profile_typed else "configuration"))
    rows += [(f"tls.{key}", value, origin) for key, (value, origin) in tls_of(os.environ, shared.files).items()]
    route, route_origin = route_of(os.environ, shared.files)
    if route_origin != "default":
        rows.append(("broker.route", route, route_origin))
    for name in table.COMMANDS:
        command = table.load(name)
        if command is None:
            continue
        keys = keys_of(command)
        for key, value in shared.files.table(name, keys).items():
            rows.append((f"{name}.{key}", _shown(value), shared.files.place(name, key)))
        for key in keys:
            variable = f"JOBRUNNER_{name}_{key}".upper()
            if value := os.environ.get(variable):
                rows = [row for row in rows if row[0] != f"{name}.{key}"]
                rows.append((f"{name}.{key}", value, variable))
    return [(name, _PASSWORD.sub(r"\1:…@", value), origin) for name, value, origin in rows]


def _shown(value: Any) -> str:
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


@config.command("path", short_help="The files that are read.")
@pass_shared
def path(shared: Shared) -> None:
    """The configuration files: those that are read, and the user's even if it is not there."""
    paths = shared.files.paths
    if shared.json:
        out.emit_json({"files": [{"path": str(file), "read": is_read} for file, is_read in paths]})
        return
    for file, is_read in paths:
        note = "" if is_read else "  (not there)"
        out.emit(f"{file}{note}" if sys.stdout.isatty() else str(file))


@config.command("check", short_help="Whether files, URL and options are right.")
@pass_shared
@click.pass_context
def check(ctx: click.Context, shared: Shared, /) -> None:
    """Whether the files, the URL and every option in them are right; exit 2 and the place if not."""
    shared.settings  # noqa: B018 - reading them is the check
    for name in table.COMMANDS:
        command = table.load(name)
        if command is not None:
            _check_table(ctx, shared, name, command)
    files = [str(file) for file, is_read in shared.files.paths if is_read]
    if shared.json:
        out.emit_json({"files": files, "ok": True})
    else:
        out.emit(f"{shared.mark('✓')} {', '.join(files) or 'no configuration file'}" if sys.stdout.isatty() else "ok")


def _check_table(ctx: click.Context, shared: Shared, name: str, command: click.Command) -> None:
    """Raises: ConfigInvalid for a key that is unknown, or a value that its option does not take."""
    values = shared.files.table(name, keys_of(command))
    if not values:
        return
    for option_ in _options(command):
        if option_.name not in values:
            continue
        try:
            option_.type_cast_value(ctx, values[option_.name])
        except (JobrunnerError, click.BadParameter) as exc:
            place = shared.files.place(name, option_.name)
            raise ConfigInvalid(problem=f"{place}: {option_.name}: {exc.message}") from exc


def _options(command: click.Command) -> list[Option]:
    if isinstance(command, click.Group):
        return [found for child in command.commands.values() for found in _options(child)]
    return [param for param in command.params if isinstance(param, Option)] if isinstance(command, Command) else []
