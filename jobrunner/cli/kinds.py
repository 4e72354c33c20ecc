"""Types of option values: each turns what was typed into what is meant, or raises its row of the catalogue."""

from typing import Any

import click

from jobrunner.durations import parse_backoff, parse_duration, parse_size
from jobrunner.errors import BadValue

_PRIORITIES = {"low": 1, "normal": 4, "high": 8}


class _Kind(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on, not before
    """A click type from a function that raises errors of ours."""

    def __init__(self, name: str, parse: Any, ready: type | tuple[type, ...]) -> None:
        self.name = name
        self._parse = parse
        self._ready = ready

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ARG002
        """The value itself if it has its type already, else what `parse` makes of its text."""
        if isinstance(value, self._ready) and not isinstance(value, bool):
            return value
        return self._parse(str(value))


class Number(click.IntRange):
    """A whole number from `least` to `most`, which the error says in words."""

    def __init__(self, least: int, most: int = 1_000_000_000) -> None:
        super().__init__(least, most)
        self._span = f"{least} to {most}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises: click.BadParameter."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"'{value}' is not a whole number from {self._span}.", param, ctx)


def parse_priority(text: str) -> int:
    """0 to 9 from a digit or `low`, `normal`, `high`. Raises: BadValue."""
    if text in _PRIORITIES:
        return _PRIORITIES[text]
    if len(text) == 1 and text in "0123456789":
        return int(text)
    raise BadValue(problem=f"'{text}' is not a priority.", hint="0 to 9, low, normal, high")


def _queue(text: str) -> str:
    from jobrunner.broker.topology import check_queue_name

    check_queue_name(text)
    return text


def _positive(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise BadValue(problem=f"'{text}' is no time at all.", hint="90s, 5m, 1h30m")
    return seconds


def _per_second(text: str) -> float:
    """Jobs a second from `5/s`, `30/m`, `100/h` or `5`. Raises: BadValue."""
    number, _, unit = text.strip().partition("/")
    try:
        rate = float(number) / {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}[unit]
    except (KeyError, ValueError):
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise BadValue(problem=f"'{text}' is not a rate.", hint="5/s, 30/m, 100/h")
    return rate


DURATION = _Kind("duration", parse_duration, float)
"""Seconds as float >= 0."""
POSITIVE_DURATION = _Kind("duration", _positive, float)
"""Seconds as float > 0."""
BACKOFF = _Kind("backoff", parse_backoff, tuple)
"""(first, largest) in seconds."""
RATE = _Kind("rate", _per_second, float)
"""A second, as float > 0."""
SIZE = _Kind("size", parse_size, ())
"""Bytes."""
PRIORITY = _Kind("priority", parse_priority, ())
"""0 to 9."""
QUEUE = _Kind("queue", _queue, ())
"""The name of a queue of jobs."""
