"""What a log record of ours holds."""

import logging
from typing import Any, Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "action"}


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
    return "\n" + logging.Formatter().formatException(record.exc_info)
