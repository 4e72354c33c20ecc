"""The classes of all commands: shared options anywhere, the line cut at `--`, defaults from configuration files.

A module of a command writes `@command(...)`, `@option(...)` and takes the shared options with `@pass_shared`:

    @command("list")
    @option("--limit", type=int, default=50, show_default=True, help="At most N.")
    @pass_shared
    def list_jobs(shared: Shared, limit: int) -> int | None: ...      # the exit code; None is 0
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from jobrunner.cli.shared import Shared, shared_options
from jobrunner.errors import ConfigInvalid, JobrunnerError, UsageError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_TAIL = "jobrunner.tail"
Prepare = Callable[[list[str]], list[str]]
pass_shared = click.make_pass_decorator(Shared)


class Defaults(Mapping[str, Any]):
    """A command's table in the configuration files, read when an option first asks: help and wrong usage read none."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        self._values: dict[str, Any] | None = None

        self._own = keys_of(ctx.command)

    def _table(self) -> dict[str, Any]:
        shared = self._ctx.find_object(Shared)
        if self._ctx.resilient_parsing or shared is None:
            return {}
        if self._values is None:
            values = shared.files.table(section_of(self._ctx), option_names(self._ctx))
            self._values = {key: value for key, value in values.items() if key in self._own}
        return self._values

    def __getitem__(self, name: str) -> Any:
        if name not in self._own:  # a shared option, or --help: the files are not read for it
            raise KeyError(name)
        return self._table()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table())

    def __len__(self) -> int:
        return len(self._table())


def section_of(ctx: click.Context) -> str:
    """The table of a command in the configuration: its name; a command of a group has the group's."""
    while ctx.parent is not None and ctx.parent.parent is not None:
        ctx = ctx.parent
    return ctx.info_name or ""


def option_names(ctx: click.Context) -> list[str]:
    """The keys that a command's table may have; a group's table has those of all its commands."""
    while ctx.parent is not None and ctx.parent.parent is not None:
        ctx = ctx.parent
    return keys_of(ctx.command)


def keys_of(command: click.Command) -> list[str]:
    """The configuration keys of a command, or of all commands of a group."""
    if isinstance(command, click.Group):
        return sorted({key for child in command.commands.values() for key in keys_of(child)})
    return [param.name for param in command.params if isinstance(param, Option) and param.name]


class Option(click.Option):
    """An option whose help names its variable, and whose errors say which file or variable the value came from."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Names and help, its default and its variable in brackets."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        extra = []
        if self.show_default:
            extra.append(f"default: {self.default if self.show_default is True else self.show_default}")
        extra.append(f"${ctx.auto_envvar_prefix}_{(self.name or '').upper()}")
        return record[0], f"{self.help} [{'; '.join(extra)}]"

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """The value converted. Raises: ConfigInvalid for one from a configuration file."""
        try:
            return super().process_value(ctx, value)
        except (JobrunnerError, click.BadParameter) as exc:
            source = ctx.get_parameter_source(self.name or "")
            shared = ctx.find_object(Shared)
            if source is ParameterSource.DEFAULT_MAP and shared is not None:
                place = shared.files.place(section_of(ctx), self.name or "")
                raise ConfigInvalid(problem=f"{place}: {self.name}: {_sentence(exc)}") from exc
            if source is ParameterSource.ENVIRONMENT:
                variable = f"{ctx.auto_envvar_prefix}_{(self.name or '').upper()}"
                hint = exc.hint if isinstance(exc, JobrunnerError) else ""
                raise UsageError(message=f"{variable}: {_sentence(exc)}", hint=hint) from exc
            raise


def _sentence(exc: JobrunnerError | click.BadParameter) -> str:
    return exc.message


class Command(click.Command):
    """A command. takes_tail: whether something may stand after `--` (then `tail_of` gives it).

    prepare: changes the words that were typed before click reads them.
    """

    def __init__(self, *args: Any, takes_tail: bool = False, prepare: Prepare | None = None, **kwargs: Any) -> None:
        kwargs["context_settings"] = CONTEXT | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.takes_tail = takes_tail
        self.prepare = prepare
        self.params.extend(shared_options(root=False))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cut the line at the first `--` before click sees it: click drops that word and refuses a later `-x`."""
        ctx.default_map = Defaults(ctx)  # type: ignore[assignment]  # a read-only mapping is all that click uses
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_TAIL] = args[:at], args[at + 1 :]
            if not self.takes_tail and not ctx.resilient_parsing:
                raise UsageError(message=f"'{self.name}' takes nothing after '--'.", hint=f"{ctx.command_path} --help")
        return super().parse_args(ctx, self.prepare(args) if self.prepare else args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Where the options of all commands are."""
        super().format_epilog(ctx, formatter)
        if not any(isinstance(param, Option) for param in self.params):
            return
        formatter.write_paragraph()
        formatter.write_text(
            f"Options may also stand in jobrunner.toml, in the table [{section_of(ctx)}]: long names, with _ for -. "
            "Options of all commands (--url, --json, ...): jobrunner --help."
        )


class Group(click.Group):
    """A group of commands, such as `queues`; alone it shows their list."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, context_settings=CONTEXT, **kwargs)
        self.params.extend(shared_options(root=False))

    def shown_alone(self, ctx: click.Context) -> str:
        """What the bare command prints."""
        return ctx.get_help()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the list if nothing was typed."""
        if not args and not ctx.resilient_parsing:
            click.echo(self.shown_alone(ctx))
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command named. Raises: NoSuchCommand with the nearest name."""
        from jobrunner.cli.table import nearest
        from jobrunner.errors import NoSuchCommand

        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            known = self.list_commands(ctx)
            suggestion = nearest(args[0], known)
            raise NoSuchCommand(name=args[0], suggestion=suggestion, hint=f"{ctx.command_path} --help")
        return super().resolve_command(ctx, args)


def tail_of(ctx: click.Context) -> list[str] | None:
    """What stood after the first `--`; None when there was none."""
    tail: list[str] | None = ctx.meta.get(_TAIL)
    return tail


def command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command. settings: those of `Command`."""
    return click.command(name, cls=Command, **settings)


def group(name: str, **settings: Any) -> Callable[[Callable[..., Any]], Group]:
    """Make a function a group; `@that_group.command("x")` adds to it."""
    return click.group(name, cls=Group, **settings)


def option(*words: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option of one command; its variable is shown by the help."""
    return click.option(*words, cls=Option, **settings)
