"""Who runs jobs: the workers that answer now, their versions and their clocks."""

import time
from typing import Final

from jobrunner import __version__
from jobrunner.broker import control
from jobrunner.broker.connection import Connection
from jobrunner.doctor.check import Check, ok, unknown, warning
from jobrunner.doctor.told import clock_off
from jobrunner.errors import KeyCannotSign, PermissionRefused

PING_S: Final = 1.0
CLOCK_S: Final = 1.0


async def workers(connection: Connection) -> tuple[list[Check], list[control.Reply]]:
    """The findings, and who answered. Raises: BrokerLost."""
    try:
        began = time.time()
        replies = await control.ask(connection, "all", "ping", timeout_s=PING_S)
    except PermissionRefused:
        return [unknown("workers", "this user may not ask workers")], []
    except KeyCannotSign:
        return [unknown("workers", "none of the keys here may ask workers")], []
    if not replies:
        return [warning("workers", "no worker answers; jobs wait", "jobrunner worker")], []
    slots = sum(reply.slots for reply in replies)
    who = "1 worker answers" if len(replies) == 1 else f"{len(replies)} workers answer"
    text = f"{who}, {slots} slot{'' if slots == 1 else 's'}"
    others = sorted({f"{reply.worker} {reply.version}" for reply in replies if reply.version != __version__})
    if others:
        found = warning(
            "workers", f"{text}; other versions than {__version__} here: {', '.join(others[:4])}", "one version"
        )
    else:
        found = ok("workers", f"{text}, all {__version__}")
    return [found, *_clocks(replies, began)], replies


def _clocks(replies: list[control.Reply], began: float) -> list[Check]:
    """A reply was written between the question and now; what lies outside of that is a clock that is off."""
    off = []
    for reply in replies:
        late_s, early_s = reply.at - time.time(), reply.at - began
        offset_s = late_s if late_s > 0 else min(early_s, 0.0)
        if reply.at and abs(offset_s) > CLOCK_S:
            off.append(clock_off(f"{reply.worker}'s", offset_s))
    return off
