"""The settings of a queue that someone made, asked over AMQP: its type, its limit, whether it heeds priorities.

A passive declare tells none of it, and the management API need not be there. A declare with other settings is refused
with a sentence that names one that differs; with that one put right, the next is named, until nothing differs.
"""

import re
from typing import Final

from jobrunner.broker import declare
from jobrunner.broker.connection import Connection
from jobrunner.broker.topology import Queue
from jobrunner.errors import EntityDiffers, JobrunnerError

Settings = dict[str, str | int | bool]

QUORUM_HEEDS: Final = 4
"""The major version from which quorum queues heed priorities."""

_VALUE: Final = re.compile(r"(?:the value )?'(?P<value>.*?)'(?: of type '(?P<type>\w+)')?", re.DOTALL)

_QUESTIONS: Final = 16
"""RabbitMQ compares about a dozen arguments."""


async def settings_of(connection: Connection, queue: str) -> Settings | None:
    """The arguments of a queue that exists, such as `{"x-queue-type": "quorum", "x-max-length": 10}`; not its policies.

    None where that cannot be told: no right to declare it, a lost connection.
    """
    told: Settings = {"x-queue-type": "quorum"}
    for _ in range(_QUESTIONS):
        try:
            await declare.declare(connection, [Queue(queue, told)])
        except EntityDiffers as exc:
            name, value = str(exc.fields.get("argument")), _value(str(exc.fields.get("found")))
            told.pop(name, None)
            if value is not None:
                told[name] = value
        except JobrunnerError:
            return None
        else:
            return told
    return None


def _value(text: str) -> str | int | bool | None:
    """A value in the broker's words, such as `the value '10' of type 'signedint'` or `'classic'`; None for `none`."""
    found = _VALUE.fullmatch(text.strip())
    if found is None:
        return None
    match found["type"]:
        case None | "longstr":
            return found["value"]
        case "bool":
            return found["value"] == "true"
        case _:
            return int(found["value"]) if found["value"].lstrip("-").isdigit() else None


async def ignores_priority(connection: Connection, queue: str) -> bool:
    """Whether priorities have no effect in a queue that exists. False also where that cannot be told.

    Up to RabbitMQ 3.13 quorum queues ignore them; classic queues without `x-max-priority` always do.
    Source: RabbitMQ docs "Classic Queues Support Priorities" and "Quorum Queues" (priorities, from 4.0).
    """
    settings = await settings_of(connection, queue)
    if settings is None or "x-max-priority" in settings:
        return False
    if settings.get("x-queue-type") != "quorum":
        return True
    return int(connection.server_version.partition(".")[0] or 0) < QUORUM_HEEDS


async def limit_reached(connection: Connection, queue: str, ready: int | None) -> int | None:
    """How many messages a queue may hold, if it holds so many and refuses more. None also where that cannot be told.

    ready: its messages. A quorum queue that has refused takes messages again below four fifths of its limit, so from
    there on it may refuse.
    """
    settings = await settings_of(connection, queue) if ready else None
    if not ready or settings is None or not str(settings.get("x-overflow", "")).startswith("reject-publish"):
        return None
    limit = settings.get("x-max-length")
    if not isinstance(limit, int):
        return None
    refuses_from = limit if settings.get("x-queue-type") != "quorum" else -(-limit * 4 // 5)
    return limit if ready >= refuses_from else None
