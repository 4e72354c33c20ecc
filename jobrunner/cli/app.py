"""The root of the command line: finds the command, runs it, and turns whatever happens into an exit code."""

import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from jobrunner.cli import failures, out, table
from jobrunner.cli.command import CONTEXT, Group
from jobrunner.cli.shared import Shared, shared_options
from jobrunner.errors import CannotWrite, JobrunnerError

OVERVIEW = """\
Run jobs on one machine or many, through RabbitMQ.

  jobrunner dev                               try it now: broker + worker
  jobrunner enqueue tasks:resize a.jpg        queue a Python function
  jobrunner enqueue -- ffmpeg -i a.mov a.mp4  queue a command
  ls *.jpg | jobrunner map -- convert {{}} {{.}}.webp

{sections}

Every command: --help.  Bugs: paste the output of `jobrunner doctor --report`."""
_OUTPUT_ENDS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The reader is gone; there is no room for more. Neither is a bug."""

_COMPLETE = "_JOBRUNNER_COMPLETE"
SAME_S = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the command ends as for Ctrl-C, with exit code 143."""


class Root(Group):
    """`jobrunner` itself: commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Their names, in the order of the overview."""
        return [name for name, entry in table.COMMANDS.items() if entry.section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        return table.load(cmd_name)

    def shown_alone(self, ctx: click.Context) -> str:  # noqa: ARG002
        """The overview."""
        return overview()

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, the commands and the options of all of them. No module of a command is imported."""
        formatter.write(overview() + "\n\n")
        with formatter.section("Commands"):
            rows = [(name, entry.help) for name, entry in table.COMMANDS.items()]
            formatter.write_dl(rows)
        with formatter.section("Options of every command, before or after its name"):
            records = [param.get_help_record(ctx) for param in self.get_params(ctx)]
            formatter.write_dl([record for record in records if record is not None])


def overview() -> str:
    """What bare `jobrunner` prints."""
    lines = [f"{heading:<8} {'  '.join(names)}" for heading, names in table.sections().items()]
    return OVERVIEW.format(sections="\n".join(lines))


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from jobrunner import __version__

        click.echo(f"jobrunner {__version__}")
        ctx.exit()


def build() -> Root:
    """The root command."""
    root = Root("jobrunner")
    root.params = [
        *shared_options(root=True),
        click.Option(
            ("-V", "--version"),
            is_flag=True,
            expose_value=False,
            is_eager=True,
            allow_from_autoenv=False,
            callback=_version,
            help="Show the version and exit.",
        ),
    ]
    return root


def run(args: Sequence[str]) -> int:
    """Run a command line without its program name. Gives the exit code; writes whatever there is to say."""
    out.settle_streams()
    shared = Shared()
    try:
        code = _run(list(args), shared)
        sys.stdout.flush()
    except BrokenPipeError:
        out.silence_stdout()
        return 0
    except OSError as exc:
        out.silence_stdout()
        return failures.show(CannotWrite(reason=exc.strerror), shared)
    except Terminated as exc:
        return _ended(shared, exc, "Ended by SIGTERM.", 143)
    except (KeyboardInterrupt, click.Abort) as exc:
        return _ended(shared, exc, "Stopped.", 130)
    return code


def _ended(shared: Shared, exc: BaseException, sentence: str, code: int) -> int:
    """Say how it stands. A command that knows more has put its own sentence into the exception."""
    try:
        sys.stdout.flush()
    except OSError:  # its reader is gone, or its disk is full
        out.silence_stdout()
    if not shared.json:
        out.say(str(exc.args[0]) if exc.args else sentence)
    return code


class OnTerminate:
    """The handler of SIGTERM for a process that runs one command.

    A second one that comes at once is the same: `timeout 10 jobrunner ...` signals the process and then its group. It
    would break off what the first one ends.
    """

    def __init__(self) -> None:
        self._last = -SAME_S

    def __call__(self, _number: int, _frame: object) -> None:
        """Raises: Terminated."""
        before, self._last = self._last, time.monotonic()
        if self._last - before >= SAME_S:
            raise Terminated


def _run(args: list[str], shared: Shared) -> int:
    root = build()
    settings: dict[str, Any] = CONTEXT | {"obj": shared, "auto_envvar_prefix": "JOBRUNNER"}
    if instruction := os.environ.get(_COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(root, settings, "jobrunner", _COMPLETE, instruction)
    try:
        with root.make_context("jobrunner", args, **settings) as ctx:
            result = root.invoke(ctx)
            return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.Abort:
        raise
    except click.ClickException as exc:
        shared.json = shared.json or _asked_for_json(args)
        return failures.show(failures.from_click(exc, args), shared)
    except JobrunnerError as exc:
        shared.json = shared.json or _asked_for_json(args)
        return failures.show(exc, shared)
    except Exception as exc:
        # the last line of defence: a report instead of a traceback
        if isinstance(exc, OSError) and exc.errno in _OUTPUT_ENDS:
            raise
        return failures.show(failures.report_bug(exc, shared, args), shared)


def _asked_for_json(args: list[str]) -> bool:
    """Whether `--json` stands in a line that was refused before it was read to its end."""
    return "--json" in (args[: args.index("--")] if "--" in args else args)
