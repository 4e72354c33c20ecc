"""What happens to a connection, as it is told to those who hold channels on it and to those who are notified."""

from typing import Protocol

import msgspec

from jobrunner.errors import JobrunnerError


class ConnectionUp(msgspec.Struct, frozen=True):
    """Open. epoch: how often it has been opened, from 1."""

    role: str
    epoch: int


class ConnectionDown(msgspec.Struct, frozen=True):
    """Lost, or a try failed. retry_in_s: seconds until the next try; None when there will be none."""

    role: str
    epoch: int
    error: JobrunnerError
    retry_in_s: float | None


class ConnectionBlocked(msgspec.Struct, frozen=True):
    """The broker takes no publishes (memory or disk alarm). reason: its own word."""

    role: str
    reason: str


class ConnectionUnblocked(msgspec.Struct, frozen=True):
    """The alarm is over."""

    role: str


ConnectionMessage = ConnectionUp | ConnectionDown | ConnectionBlocked | ConnectionUnblocked


class ConnectionUser(Protocol):
    """Who holds channels on a connection: told before anyone is notified."""

    def connection_up(self) -> None:
        """Open channels now."""

    def connection_down(self) -> None:
        """All channels are gone."""
