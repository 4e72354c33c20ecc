"""Which broker a client talks to, found as the command line finds it; or none at all, while jobs run inline."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobrunner import configfile
from jobrunner.api.options import Duration, seconds_of
from jobrunner.config import Flags, Settings, load

if TYPE_CHECKING:
    from jobrunner.api.core import Core


@dataclass(frozen=True)
class Wanted:
    """What a program said. url: None is found. timeout: None is that of the configuration, else 10 s."""

    url: str | None = None
    timeout: Duration | None = None

    def settings(self) -> Settings:
        """The broker: this URL, else the environment's, the files', a running local broker's, the default.

        Raises: UrlInvalid, UrlNotAmqp, OptionsClash, ConfigInvalid.
        """
        environ = os.environ
        timeout = self.timeout if self.timeout is not None else environ.get("JOBRUNNER_CONNECT_TIMEOUT")
        explicit, profile = environ.get("JOBRUNNER_CONFIG"), environ.get("JOBRUNNER_PROFILE")
        files = configfile.find(Path.cwd(), explicit=explicit, profile=profile, sections=None)
        return load(Flags(url=self.url, connect_timeout_s=seconds_of("timeout", timeout)), environ, files)


_inline: list[Callable[[str, bool], "Core"]] = []
"""The innermost `inline` in force, last."""


def is_inline() -> bool:
    """Whether jobs run where they are queued."""
    return bool(_inline)


def make(wanted: Wanted, run: str, *, is_async: bool) -> "Core":
    """A core for these wishes, not connected yet; on the loop that it is used on, if it needs one.

    is_async: for a client on a loop of its program's own.
    """
    if _inline:
        return _inline[-1](run, is_async)
    from jobrunner.api.core import BrokerCore

    return BrokerCore(wanted.settings(), run)


@contextmanager
def inline(factory: Callable[[str, bool], "Core"]) -> Iterator[None]:
    """All clients get what `factory` makes meanwhile, from their run and whether they are on a loop."""
    _inline.append(factory)
    try:
        yield
    finally:
        _inline.pop()
