"""Options that every command takes, before or after its name, and what they add up to."""

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from jobrunner.cli import out
from jobrunner.cli.kinds import POSITIVE_DURATION

if TYPE_CHECKING:
    from jobrunner.config import Settings
    from jobrunner.configfile import Files


@dataclass
class Shared:
    """The shared options of this call. `files` and `settings` are read on first use, so that help reads nothing."""

    url: str | None = None
    profile: str | None = None
    profile_typed: bool = False
    config: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: str = "auto"
    no_input: bool = False
    connect_timeout: float | None = None
    authkey_file: str | None = None

    @cached_property
    def files(self) -> "Files":
        """The configuration files in force. Raises: ConfigInvalid."""
        from pathlib import Path

        from jobrunner.cli.table import COMMANDS
        from jobrunner.configfile import find

        return find(Path.cwd(), explicit=self.config, profile=self.profile, sections=list(COMMANDS))

    @cached_property
    def settings(self) -> "Settings":
        """Where the broker is, and how long to wait for it. Raises: ConfigInvalid, OptionsClash, UrlInvalid, ..."""
        from jobrunner.config import Flags, load

        flags = Flags(
            url=self.url,
            profile_typed=self.profile_typed,
            connect_timeout_s=self.connect_timeout,
            authkey_file=self.authkey_file,
        )
        settings = load(flags, os.environ, self.files)
        if self.url and settings.url.password not in ("guest", ""):
            self.warn("The password in --url can be read by others with ps. Use JOBRUNNER_URL or url_file.")
        return settings

    def mark(self, symbol: str) -> str:
        """A mark for stdout."""
        return out.mark(symbol, self.color, sys.stdout)

    def talk(self, text: str) -> None:
        """A line on stderr for people, unless only the essential is asked for."""
        if not self.quiet and not self.json:
            out.say(text)

    def warn(self, text: str) -> None:
        """A warning on stderr, with its mark."""
        self.talk(f"{out.mark('!', self.color, sys.stderr)} {text}")

    @property
    def may_ask(self) -> bool:
        """Whether somebody is there to answer a question."""
        return not self.no_input and not os.environ.get("CI") and sys.stdin.isatty() and sys.stderr.isatty()


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    source = ctx.get_parameter_source(param.name or "")
    if value is None or source not in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
        return
    shared = ctx.find_object(Shared)
    if shared is None or param.name is None:
        return
    name = param.name
    setattr(shared, name, max(shared.verbose, int(value)) if name == "verbose" else value)
    if name == "profile":
        shared.profile_typed = source is ParameterSource.COMMANDLINE


_OPTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (
        ("--url",),
        {"metavar": "URL", "help": "The broker: amqp://user:password@host:5672/vhost. Better not here: others see it."},
    ),
    (
        ("--authkey-file",),
        {"metavar": "FILE", "help": "Keys: what goes to the broker is signed, what comes from it verified."},
    ),
    (("--profile",), {"metavar": "NAME", "help": "A [profiles.NAME] of the configuration."}),
    (("--config",), {"metavar": "FILE", "help": "This file instead of the nearest jobrunner.toml."}),
    (("--json",), {"is_flag": True, "help": "One JSON document, or JSON Lines; errors as JSON on stderr."}),
    (("--quiet",), {"is_flag": True, "help": "Only the essential datum."}),
    (("-v", "--verbose"), {"count": True, "help": "Tracebacks; twice, for a worker: a debug log."}),
    (("--color",), {"type": click.Choice(["auto", "always", "never"]), "help": "Colour (auto: on a terminal)."}),
    (("--no-input",), {"is_flag": True, "help": "Ask nothing; on without a terminal, or with CI."}),
    (
        ("--connect-timeout",),
        {"type": POSITIVE_DURATION, "metavar": "DUR", "help": "For connecting and for a confirm (10s)."},
    ),
]

SHARED_NAMES = frozenset(words[-1] for words, _ in _OPTIONS)


def _variables(word: str) -> str:
    """The variables that say the same as an option."""
    own = {
        "--url": "$JOBRUNNER_URL, $JOBRUNNER_URL_FILE",
        "--authkey-file": "$JOBRUNNER_AUTHKEY_FILE, $JOBRUNNER_AUTHKEY",
        "--color": "$NO_COLOR, $FORCE_COLOR",
    }
    return own.get(word) or f"$JOBRUNNER_{word.removeprefix('--').replace('-', '_').upper()}"


def shared_options(*, root: bool) -> list[click.Option]:
    """The shared options. Eager: all are known before any other option looks into the configuration files.

    root: those before the command also read the environment (the URL and the keys are read with the configuration).
    """
    return [
        click.Option(
            words,
            expose_value=False,
            is_eager=True,
            callback=_store,
            default=None if not extra.get("count") else 0,
            allow_from_autoenv=root and words[-1] not in ("--url", "--authkey-file", "--color"),
            hidden=not root,
            **(extra | {"help": f"{extra['help']} [{_variables(words[-1])}]"}),
        )
        for words, extra in _OPTIONS
    ]
