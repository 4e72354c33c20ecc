"""How a command ends when it does not end well: one sentence, one hint, one exit code."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from jobrunner.cli import out
from jobrunner.cli.shared import Shared
from jobrunner.cli.table import COMMANDS, nearest
from jobrunner.errors import BrokerUnknownHost, Bug, DashArgument, JobrunnerError, NoSuchOption, UsageError


def show(error: JobrunnerError, shared: Shared) -> int:
    """Write the error to stderr, as text or with `--json` as a document. Gives its exit code."""
    if isinstance(error, BrokerUnknownHost) and (profiles := shared.files.profiles()):
        error.hint = f"Profiles: {', '.join(profiles)}"  # another one may have been meant
    sys.stdout.flush()
    sys.stderr.write(_document(error) if shared.json else _text(error, shared))
    sys.stderr.flush()
    return error.exit_code


def _text(error: JobrunnerError, shared: Shared) -> str:
    label = "error:"
    if out.has_color(shared.color, sys.stderr):
        label = click.style(label, fg="red", bold=True)
    lines = f"{label} {out.printable(error.message)}\n"
    if error.hint:
        lines += f"hint:  {out.printable(error.hint)}\n"
    if shared.verbose and not isinstance(error, Bug):
        lines = out.printable("".join(traceback.format_exception(error)), keep="\n") + lines
    return lines


def _document(error: JobrunnerError) -> str:
    import json

    facts = {"code": error.code, "message": error.message, "hint": error.hint or None, "exit": error.exit_code}
    return out.json_text(json.dumps({"schema": 1, "error": facts}, ensure_ascii=False)) + "\n"


def from_click(exc: click.ClickException, args: Sequence[str]) -> JobrunnerError:
    """A usage error of click as a row of ours. args: the whole line, to show a word as it was typed."""
    ctx = exc.ctx if isinstance(exc, click.UsageError) else None
    # click's parser does not say in which command it was
    path = ctx.command_path if ctx else " ".join(["jobrunner", *[arg for arg in args if arg in COMMANDS][:1]])
    if isinstance(exc, click.NoSuchOption):
        return _unknown_option(exc, args, path)
    message = " ".join(exc.format_message().split())
    if isinstance(exc, click.BadParameter) and exc.param is not None and not isinstance(exc, click.MissingParameter):
        name = exc.param.opts[-1] if isinstance(exc.param, click.Option) else exc.param.human_readable_name.strip("[]")
        message = f"{name}: {exc.message}"
    return UsageError(message=message if message.endswith(".") else f"{message}.", hint=f"{path} --help")


def _unknown_option(exc: click.NoSuchOption, args: Sequence[str], path: str) -> JobrunnerError:
    options = args[: args.index("--")] if "--" in args else args
    word = next((arg for arg in options if arg.startswith(exc.option_name)), exc.option_name)
    command = exc.ctx.command if exc.ctx else None
    known = [name for param in (command.params if command else ()) for name in param.opts if name.startswith("--")]
    suggestion = nearest(word.partition("=")[0], known, prefix="--") if word.startswith("--") else ""
    takes_words = command is not None and any("--arg" in param.opts for param in command.params)
    if takes_words and not suggestion:
        return DashArgument(argument=word, command=command.name if command else "")
    return NoSuchOption(option=word.partition("=")[0], suggestion=suggestion, command=path)


def report_bug(exc: BaseException, shared: Shared, args: Sequence[str]) -> Bug:
    """Write where it happened to a file in the state folder: classes and places, no values, no secrets."""
    frames = traceback.extract_tb(exc.__traceback__)
    last = frames[-1] if frames else None
    what = f"{type(exc).__name__} in {Path(last.filename).name}:{last.lineno}" if last else type(exc).__name__
    if shared.verbose:
        sys.stderr.write(out.printable("".join(traceback.format_exception(exc)), keep="\n"))
    try:
        report = _write_report(exc, args)
    except OSError as problem:
        report = f"not written ({problem.strerror})"
    return Bug(what=what, report=report)


def _write_report(exc: BaseException, args: Sequence[str]) -> str:
    import platform
    from datetime import UTC, datetime

    from jobrunner import __version__
    from jobrunner.folders import state_dir

    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [
        f"jobrunner {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"at {datetime.now(UTC).isoformat(timespec='seconds')}",
        f"command {next((arg for arg in args if arg in COMMANDS), '?')}",
        "",
    ]
    link: Any = exc
    while link is not None:
        # neither messages nor values: they may hold arguments of jobs and passwords
        lines += ["".join(traceback.format_tb(link.__traceback__)).rstrip(), type(link).__name__, ""]
        link = link.__cause__ or link.__context__
    number = 1
    while True:
        path = folder / f"bug-{number}.txt"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            number += 1
            continue
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        return str(path)
