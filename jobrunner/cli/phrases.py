"""Short words for tables and lines: how long, how long ago, which state, which job."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from jobrunner.cli import out

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow

STATES: Final = {
    "waiting": "·",
    "scheduled": "◷",
    "queued": "○",
    "running": "●",
    "retrying": "↻",
    "succeeded": "✓",
    "dead": "✗",
    "cancelled": "⊘",
    "expired": "⌛",
}
"""State -> its mark."""

COLORS: Final = {
    "waiting": "",
    "scheduled": "",
    "queued": "",
    "running": "cyan",
    "retrying": "yellow",
    "succeeded": "green",
    "dead": "red",
    "cancelled": "yellow",
    "expired": "yellow",
}
NOTHING: Final = "\u2013"
"""A cell without a value, on a terminal."""

_EARLIEST_S: Final = 0.0
_LATEST_S: Final = 253_370_764_800.0
"""The last year of the calendar."""
_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60))


def age(seconds: float) -> str:
    """How long ago, in its largest unit: `12s`, `2m`, `4h`, `3d`."""
    for unit, unit_s in _UNITS:
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)}{unit}"
    return f"{max(0, int(seconds))}s"


def took(seconds: float) -> str:
    """How long something took: `12ms`, `1.9s`, `42s`, `2m10s`, `3h05m`, `2d4h`."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"


def state(name: str, color: str, stream: TextIO) -> str:
    """`● running`, coloured if the stream takes it. A state of a later version has no mark."""
    return f"{mark_of(name, color, stream)} {name}"


def mark_of(name: str, color: str, stream: TextIO) -> str:
    """The mark of a state, coloured if the stream takes it."""
    return out.mark(STATES.get(name, "?"), color, stream)


def moment(at: float, now: float) -> str:
    """`Sat 12:01:07.112` in the local zone; with its date if it is six days off or more."""
    when = _local(at)
    day = f"{when:%a}" if abs(now - at) < 6 * 86_400 else f"{when:%Y-%m-%d}"
    return f"{day} {when:%H:%M:%S}.{when.microsecond // 1000:03d}"


def clock(at: float) -> str:
    """`12:01:07.112` in the local zone."""
    return f"{_local(at):%H:%M:%S.%f}"[:-3]


def _local(at: float) -> datetime:
    """The nearest that the calendar has: an event may have any time."""
    return datetime.fromtimestamp(max(_EARLIEST_S, min(at, _LATEST_S)), UTC).astimezone()


def tries(row: "JobRow") -> str:
    """`1/4`: attempts begun, of how many; `1` where only the function itself knows how many there will be."""
    return f"{row.attempt}/{row.max_attempts}" if row.max_attempts else str(row.attempt)


def due(row: "JobRow", now: float) -> str:
    """`in 20s` for a job that waits for its time, else nothing."""
    if row.state not in ("scheduled", "retrying") or row.not_before is None:
        return ""
    left_s = row.not_before - now
    return f"in {took(round(left_s))}" if left_s >= 1 else "due now"


def prefix(job_id: str) -> str:
    """As much of an id as is usually enough to name it."""
    return job_id[:4]


def plural(count: int, word: str) -> str:
    """`1 job`, `1,204 jobs`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
