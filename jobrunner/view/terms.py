"""Single conditions on the table `jobs`: SQL with its parameters, for `filters`."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from jobrunner.durations import parse_duration
from jobrunner.errors import BadDuration, BadFilter, BadTime
from jobrunner.view.rows import ENDED, STATES

EXACT_ID: Final = "id = ?"
_GROUPS: Final = {
    "failed": ("dead", "retrying"),
    "active": tuple(state for state in STATES if state not in ENDED),
}
STATE_WORDS: Final = (*STATES, *_GROUPS)
"""What `state:` takes."""

STORED: Final = {
    "scheduled": ("scheduled",),
    "queued": ("queued", "scheduled", "retrying", "parked"),
    "retrying": ("retrying",),
}
"""State as it is told -> states as they are stored that it can come from; the others are told as they are stored."""

_DUE = "state IN ('scheduled', 'retrying') AND due_at <= ?"
STATE_NOW: Final = f"CASE WHEN state = 'parked' OR ({_DUE}) THEN 'queued' ELSE state END"
"""The state as it is told; its parameter is the time."""

_WHEN: Final = "2h · 2026-11-20 · '2026-11-20 07:00' · yesterday"
_EXIT: Final = re.compile(r"-?\d{1,9}")
_CAUSE: Final = re.compile(r"[0-9a-f*]{1,4}")
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_NUMBER: Final = (int, float)


class Term(NamedTuple):
    """A condition and the values of its `?`, in order."""

    sql: str
    parameters: tuple[Any, ...] = ()


def any_of(terms: Sequence[Term]) -> Term:
    """One of these; in halves of halves, since SQLite bounds how deep a condition is."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    left, right = any_of(terms[:half]), any_of(terms[half:])
    return Term(f"({left.sql}) OR ({right.sql})", (*left.parameters, *right.parameters))


def begins(prefix: str) -> Term:
    """Ids that begin so; an index answers it."""
    return Term("(id >= ? AND id < ?)", (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)))


def newest_of(user: str, count: int) -> Term:
    """The newest jobs of user@host."""
    return Term("n IN (SELECT n FROM jobs WHERE user = ? ORDER BY born DESC, n DESC LIMIT ?)", (user, count))


def glob(pattern: str) -> str:
    """A pattern whose only special character is `*`, as GLOB wants it."""
    return re.sub(r"[\[?]", lambda match: f"[{match[0]}]", pattern)


def matches(column: str, value: str) -> Term:
    """A column that is exactly that, or fits where the value has a `*`. column: one of ours."""
    return Term(f"{column} GLOB ?", (glob(value),)) if "*" in value else Term(f"{column} = ?", (value,))


def task(value: str) -> Term:
    """A function by its whole name or its last part; a program by its name. `.` and `:` are alike."""
    pattern = glob(value.replace(":", "."))
    program = glob(value.rpartition("/")[2])
    return Term(
        "name GLOB ? OR name GLOB ? OR (name GLOB ? AND name NOT GLOB '/*')", (pattern, f"/{program}", f"*.{pattern}")
    )


def tag(value: str) -> Term:
    """One of the tags."""
    return Term("EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE value GLOB ?)", (glob(value),))


def user(value: str) -> Term:
    """user@host, or the user on any host."""
    pattern = glob(value)
    return Term("user GLOB ? OR user GLOB ?", (pattern, f"{pattern}@*"))


def cause(value: str) -> Term:
    """A cause group. Raises: BadFilter."""
    if not _CAUSE.fullmatch(value):
        raise BadFilter(problem=f"'{value}' is no cause: four of 0-9 a-f.", hint="jobrunner dead")
    return matches("cause", value)


def exit_code(value: str) -> Term:
    """A command's exit code. Raises: BadFilter."""
    if not _EXIT.fullmatch(value):
        raise BadFilter(problem=f"'{value}' is no exit code.", hint="exit:137")
    return Term("json_extract(error, '$.exit') = ?", (int(value),))


def reason(value: str) -> Term:
    """Why it failed: the reason, alone or with its detail, such as `crash:SIGSEGV`."""
    pattern = glob(value)
    detail = "json_extract(error, '$.reason') || ':' || json_extract(error, '$.signal')"
    return Term(f"json_extract(error, '$.reason') GLOB ? OR {detail} GLOB ?", (pattern, pattern))


def slower(value: str, now: float) -> Term:
    """Runs that took at least so long, or have been running for so long. Raises: BadDuration."""
    return Term(
        "COALESCE(ended_at, CASE WHEN state = 'running' THEN ? END) - started_at >= ?", (now, parse_duration(value))
    )


def state(names: Iterable[str], now: float) -> Term:
    """Jobs in one of these states now: names of `STATE_WORDS`."""
    told = {each for name in names for each in _GROUPS.get(name, (name,))}
    stored = sorted({each for name in told for each in STORED.get(name, (name,))})
    among = f"state IN ({', '.join('?' * len(stored))})"  # the index of states answers this
    if not told & STORED.keys():
        return Term(among, tuple(stored))
    return Term(f"{among} AND {STATE_NOW} IN ({', '.join('?' * len(told))})", (*stored, now, *sorted(told)))


def argument(name: str, value: str) -> Term:
    """An argument by its name, or by its place from 0. A number is compared as a number. Raises: BadFilter."""
    if not name or '"' in name or "\\" in name:
        raise BadFilter(problem=f"'args.{name}:' names no argument.", hint="args.user_id:42 · args.0:a.jpg")
    first, *inner = name.split(".")
    path = f"$.args[{int(first)}]" if _INDEX.fullmatch(first) else f'$.kwargs."{first}"'
    path += "".join(f"[{int(part)}]" if _INDEX.fullmatch(part) else f'."{part}"' for part in inner)
    text = "CAST(body AS TEXT)"
    # SQLite refuses a whole statement over one body that it cannot read, such as one nested a thousand deep
    found = f"CASE WHEN json_valid({text}) THEN json_extract({text}, ?) END"
    kind = f"CASE WHEN json_valid({text}) THEN json_type({text}, ?) END"
    number = _number(value)
    if number is not None:
        return Term(f"{kind} IN ('integer', 'real') AND {found} = ? OR {found} = ?", (path, path, number, path, value))
    if value in ("true", "false", "null"):
        return Term(f"{kind} = ? OR {found} = ?", (path, value, path, value))
    return Term(f"{kind} IN ('text', 'array', 'object') AND {found} GLOB ?", (path, path, glob(value)))


def _number(value: str) -> float | None:
    """A number as JSON writes it; SQLite compares 42 and 42.0 as equal."""
    try:
        number = msgspec.json.decode(value)
        return float(number) if isinstance(number, _NUMBER) and not isinstance(number, bool) else None
    except (ValueError, RecursionError, OverflowError):
        return None


def moment(value: str, now: float) -> float:
    """A time in the past: so long ago, or a date or time in the machine's zone. Raises: BadTime."""
    try:
        return now - parse_duration(value)
    except BadDuration:
        pass
    today = (
        datetime.fromtimestamp(now, UTC).astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    )
    days = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        when = days.get(value) or datetime.fromisoformat(value)
        return when.timestamp()
    except (ValueError, OverflowError) as exc:
        raise BadTime(value=value, hint=_WHEN) from exc
