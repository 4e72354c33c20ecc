"""Paused queues in words."""

import shlex

from jobrunner.events import Pause
from jobrunner.instants import show_instant


def pause_words(pause: Pause, now: float) -> str:
    """`paused by ana@mbp until Sat 12:05:00 +01:00: maintenance`. now: seconds since the epoch."""
    by = f" by {pause.by}" if pause.by else ""
    until = " until it is resumed" if pause.until is None else f" until {show_instant(pause.until, now)}"
    return f"paused{by}{until}{f': {pause.reason}' if pause.reason else ''}"


def resume_command(queue: str) -> str:
    """The command that ends a pause."""
    return shlex.join(["jobrunner", "queues", "resume", queue])
