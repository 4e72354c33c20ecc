"""One check's finding, and what all checks share."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from jobrunner.broker import declare
from jobrunner.broker.connection import Connection
from jobrunner.errors import JobrunnerError, PermissionRefused

CHECK_S: Final = 15.0
"""Bound of one check at the broker, so that a silent broker cannot hold the whole."""


GIVE_RIGHTS: Final = (
    "rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*' · fewer: jobrunner queues declare --print --users"
)
"""What an administrator types for a user who has none."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and seen. level: `ok`, `warning`, `error`, or `unknown` where nobody could tell.

    fix: a command or a setting. code: of the error behind it, as in the catalogue.
    """

    name: str
    level: str
    text: str
    fix: str | None = None
    code: str | None = None


def ok(name: str, text: str) -> Check:
    """All is well."""
    return Check(name=name, level="ok", text=text)


def warning(name: str, text: str, fix: str | None = None) -> Check:
    """It works, but may bite one day."""
    return Check(name=name, level="warning", text=text, fix=fix)


def error(name: str, text: str, fix: str | None = None) -> Check:
    """It does not work."""
    return Check(name=name, level="error", text=text, fix=fix)


def unknown(name: str, text: str, fix: str | None = None) -> Check:
    """It could not be found out."""
    return Check(name=name, level="unknown", text=text, fix=fix)


def of_error(name: str, exc: JobrunnerError) -> Check:
    """An error of the catalogue as a finding."""
    return Check(name=name, level="error", text=exc.message, fix=exc.hint or None, code=exc.code)


async def within(name: str, work: Coroutine[Any, Any, list[Check]], timeout_s: float | None = None) -> list[Check]:
    """What `work` finds; an error of the broker, or no answer in time, is a finding too."""
    timeout_s = CHECK_S if timeout_s is None else timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            return await work
    except TimeoutError:
        return [error(name, f"no answer from the broker within {timeout_s:g} s")]
    except JobrunnerError as exc:
        return [of_error(name, exc)]


async def one(name: str, work: Coroutine[Any, Any, Check], timeout_s: float) -> Check:
    """The same for a check that finds one thing. timeout_s: beyond the bounds that it has itself."""

    async def as_list() -> list[Check]:
        return [await work]

    return (await within(name, as_list(), timeout_s))[0]


Ask = Callable[[Any, Callable[[Any], None]], object]
"""Sends something on a channel, with the callback for its answer."""


async def refusal(connection: Connection, ask: Ask) -> str | None:
    """The name of what this user lacks a right on for `ask`; None: it is allowed, or fails for another reason.

    Raises: TimeoutError; BrokerLost when the whole connection is gone.
    """
    try:
        await declare.on_throwaway(connection, ask)
    except PermissionRefused as exc:
        return str(exc.fields.get("entity", "?"))
    except declare.Missing:
        return None
    except JobrunnerError:
        if not connection.is_open:
            raise
    return None
