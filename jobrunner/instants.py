"""Points in time as people type them, in the machine's own zone; DST gaps and doubles are refused, not guessed."""

import os
import re
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_clock
from pathlib import Path

from jobrunner.durations import format_about
from jobrunner.errors import BadTime, BadValue, TimeAmbiguous, TimeInThePast

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"(?:(?P<day>[a-z]+|\d{4}-\d{2}-\d{2})[ T])?(?P<clock>\d{1,2}:\d{2}(?::\d{2})?)", re.IGNORECASE)
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s*([Zz]|[+-]\d{2}:\d{2})")
_SLACK_S = 60.0
"""So long ago still counts as now: `--at 07:00` typed at 07:00:30."""


def parse_instant(text: str, now_s: float | None = None) -> float:
    """Seconds since the epoch from RFC 3339, `2026-11-22 07:00`, `07:00` (the next), `tomorrow 07:00`, `mon 07:00`.

    now_s: the present, for tests. Raises: BadTime, TimeInThePast, TimeAmbiguous, BadValue for a time that a change of
    clocks leaves out.
    """
    now_s = time.time() if now_s is None else now_s
    typed = text.strip()
    if _RFC3339.fullmatch(typed):
        try:
            when = datetime.fromisoformat(typed.upper().replace(" +", "+").replace(" -", "-").replace(" Z", "Z"))
        except ValueError as exc:
            raise BadTime(value=text) from exc
        return _not_past(when.timestamp(), when, now_s)
    match = _CLOCK.fullmatch(typed)
    if match is None:
        raise BadTime(value=text)
    now = datetime.fromtimestamp(now_s).astimezone()
    try:
        hour, *rest = match["clock"].split(":")
        clock = wall_clock.fromisoformat(":".join((hour.zfill(2), *rest)))
        day = _day(match["day"], now.date())
    except ValueError as exc:
        raise BadTime(value=text) from exc
    if day is not None:
        if match["day"].lower() in _DAYS and datetime.combine(day, clock) <= now.replace(tzinfo=None):
            day += timedelta(days=7)
        return _resolve(datetime.combine(day, clock), now_s)
    naive = datetime.combine(now.date(), clock)
    if naive <= now.replace(tzinfo=None, microsecond=0, second=0):
        naive += timedelta(days=1)
    return _resolve(naive, now_s)


def _day(word: str | None, today: date) -> date | None:
    """The day of a word; None: no word, so the next such clock time. Raises: ValueError."""
    match word.lower() if word else None:
        case None:
            return None
        case "today":
            return today
        case "tomorrow":
            return today + timedelta(days=1)
        case name if name in _DAYS:
            return today + timedelta(days=(_DAYS.index(name) - today.weekday()) % 7)
        case other:
            return date.fromisoformat(other)


def _resolve(naive: datetime, now_s: float) -> float:
    """The instant of a local wall-clock time."""
    try:
        early, late = naive.replace(fold=0).astimezone(), naive.replace(fold=1).astimezone()
    except (ValueError, OverflowError) as exc:  # the first and the last day of the calendar
        raise BadTime(value=str(naive)) from exc
    shown = f"{naive:%Y-%m-%d %H:%M}"
    if early.utcoffset() != late.utcoffset():
        if early.replace(tzinfo=None) != naive:
            hint = " · ".join(f"--at '{near.replace(tzinfo=None):%Y-%m-%d %H:%M}'" for near in sorted((early, late)))
            raise BadValue(problem=f"{shown} does not exist in {zone_name()}: the clocks go forward.", hint=hint)
        first, second = offset(early), offset(late)
        raise TimeAmbiguous(when=shown, zone=zone_name(), first=first, second=second)
    return _not_past(early.timestamp(), early, now_s)


def _not_past(at_s: float, shown: datetime, now_s: float) -> float:
    if at_s >= now_s - _SLACK_S:
        return at_s
    when = f"{shown:%Y-%m-%d %H:%M} {offset(shown)}"
    raise TimeInThePast(when=when, ago=format_about(now_s - at_s), suggestion=f"tomorrow {shown:%H:%M}")


def offset(when: datetime) -> str:
    """`+01:00`."""
    text = when.strftime("%z")
    return f"{text[:3]}:{text[3:5]}"


def zone_name() -> str:
    """The machine's zone: `Europe/Berlin` where it can be told, else its abbreviation."""
    if name := os.environ.get("TZ", "").removeprefix(":"):
        return name
    target = str(Path("/etc/localtime").resolve())
    return target.partition("/zoneinfo/")[2] or time.tzname[0]


def show_instant(at_s: float, now_s: float | None = None) -> str:
    """An instant for people in the local zone: `Sat 12:05:00 +01:00`, with its date if it is six days off or more."""
    now_s = time.time() if now_s is None else now_s
    when = datetime.fromtimestamp(at_s, UTC).astimezone()
    day = f"{_DAYS[when.weekday()].title()}" if abs(at_s - now_s) < 6 * 86_400 else f"{when:%Y-%m-%d}"
    return f"{day} {when:%H:%M:%S} {offset(when)}"
