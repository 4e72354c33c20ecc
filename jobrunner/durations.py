"""Durations and sizes as people type them."""

import re

from jobrunner.errors import BadDuration, BadSize, BadValue

_PART_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PLAIN = re.compile(r"\d+(\.\d+)?", re.ASCII)
_PARTS = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_ISO = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.IGNORECASE | re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_SIZE_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}

MAX_DURATION_S = 10 * 365 * 86400.0
"""Ten years: longer is a slip of the hand."""


def parse_duration(text: str) -> float:
    """Seconds as float >= 0 from `90`, `90s`, `1.5s`, `250ms`, `5m`, `1h30m`, `2d` or ISO 8601 `PT5M`.

    Raises: BadDuration, also for more than ten years.
    """
    value = text.strip()
    seconds = None
    if _PLAIN.fullmatch(value):
        seconds = float(value)
    elif _PARTS.fullmatch(value):
        seconds = sum(float(number) * _PART_S[unit] for number, unit in _PART.findall(value))
    elif (iso := _ISO.fullmatch(value)) and any(iso.groups()):
        days, hours, minutes, rest = (float(part or 0) for part in iso.groups())
        seconds = days * 86400 + hours * 3600 + minutes * 60 + rest
    if seconds is None or seconds > MAX_DURATION_S:
        raise BadDuration(value=text)
    return seconds


def parse_backoff(text: str) -> tuple[float, float]:
    """First and largest backoff in seconds from `10s..1h`; `10s` alone keeps the largest at one hour or itself.

    Raises: BadDuration, BadValue when the largest is smaller than the first.
    """
    first_text, dots, largest_text = text.partition("..")
    first_s = parse_duration(first_text)
    largest_s = parse_duration(largest_text) if dots else max(first_s, 3600.0)
    if largest_s < first_s:
        raise BadValue(problem=f"The backoff '{text}' ends before it begins.", hint="--backoff 10s..1h")
    return first_s, largest_s


def parse_size(text: str) -> int:
    """Bytes from `500M`, `2G`, `1GiB`, `1048576`. Raises: BadSize."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise BadSize(value=text)
    return int(float(match[1]) * _SIZE_BYTES[match[2].lower()])


def format_duration(seconds: float) -> str:
    """A duration for people: `0.3 s`, `10 s`, `5m`, `1h30m`, `2d3h`."""
    if seconds < 60:
        rounded = round(seconds, 1)
        return f"{rounded:.0f} s" if rounded == int(rounded) else f"{rounded} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest_s:02d}s" if rest_s else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h" if hours else f"{days}d"


def format_about(seconds: float) -> str:
    """A duration in its largest sensible unit, for sentences: `45 s`, `10 min`, `29 h`, `3 d`."""
    for unit, unit_s, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if round(seconds) < limit:
            return f"{round(seconds / unit_s)} {unit}"
    return f"{round(seconds / 86400)} d"


def format_size(size_bytes: int) -> str:
    """A size for people: `812 B`, `64.0 KiB`, `41.2 MiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size_bytes} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
