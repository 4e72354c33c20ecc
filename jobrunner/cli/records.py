"""What a log record of ours holds."""

import logging
import re
from typing import Any, Final

from jobrunner.cli import out

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "action"}

_IN_URL: Final = re.compile(r"(://[^/\s:@\"']*):[^/\s@\"']+@")
_NAMED: Final = re.compile(
    r"((?:password|passwd|secret|token|authorization|api[-_]?key|jr-[a-z-]*sig)(?:_key|_access_key)?"
    r"[\\\"']*\s*[=:]\s*[\\\"']*(?:(?:bearer|basic|token|digest) )?)[^\s\"'\\,;&)]+",
    re.IGNORECASE,
)


def masked(line: str) -> str:
    """A line of the log without what looks like a secret: an error of a job may quote a URL or a header."""
    return _NAMED.sub(r"\1…", _IN_URL.sub(r"\1:…@", line))


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record: what was given as `extra`, without what is None."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}


def action_of(record: logging.LogRecord) -> str:
    """The machine word of a record; `log` for one of another library."""
    return str(getattr(record, "action", "log"))


def trace_of(record: logging.LogRecord) -> str:
    """The traceback of a bug in jobrunner itself; jobs' tracebacks are never in a record."""
    if not record.exc_info:
        return ""
    return "\n" + out.printable(logging.Formatter().formatException(record.exc_info), keep="\n")
