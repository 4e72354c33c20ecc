"""Which releases of RabbitMQ are known to be bad for jobs. Source: RabbitMQ's release notes and the issues named."""

import re
from collections.abc import Mapping
from typing import Any, Final

from jobrunner.doctor.check import Check, error, ok, unknown, warning

OLDEST: Final = (3, 10)
UPDATED: Final = (3, 12)
"""Older ones get no security updates any more."""

_BAD: Final = (
    ((3, 13, 0), (3, 13, 2), "takes delayed jobs for a loop and keeps them (rabbitmq-server#11159)", "3.13.3"),
    ((4, 1, 0), (4, 1, 4), "can strand messages of quorum queues (rabbitmq-server#14589)", "4.1.5"),
    ((4, 2, 0), (4, 2, 6), "can stop the delay ladder (rabbitmq-server#16203)", "4.2.7"),
    ((4, 3, 0), (4, 3, 2), "can lose delayed jobs (rabbitmq-server#16652)", "4.3.3"),
)


def numbers_of(version: str) -> tuple[int, int, int] | None:
    """`3.10.8`, `4.1.0-rc.1` -> its three numbers; None for what is no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def release(properties: Mapping[str, Any], *, is_loopback: bool) -> Check:
    """The broker's product and version, as it gives them at login."""
    product, version = str(properties.get("product", "?")), str(properties.get("version", "?"))
    if product != "RabbitMQ":
        return warning("version", f"{product} {version} is not RabbitMQ; jobrunner is tested with nothing else")
    numbers = numbers_of(version)
    if numbers is None:
        return unknown("version", f"RabbitMQ of an unknown version: {version}")
    if numbers[:2] < OLDEST:
        return error("version", f"RabbitMQ {version} has no delay queues that lose nothing", "RabbitMQ 3.10 or later")
    for first, last, what, fixed_in in _BAD:
        if first <= numbers <= last:
            return error("version", f"RabbitMQ {version} {what}", f"RabbitMQ {fixed_in} or later")
    if numbers[:2] < UPDATED and not is_loopback:
        return warning("version", f"RabbitMQ {version} gets no security updates any more", "a newer RabbitMQ")
    return ok("version", f"RabbitMQ {version}")
