"""The worker's log records as lines: for people on a terminal, as text for files, as JSON (ECS) for machines."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from jobrunner.cli import out
from jobrunner.cli.banner import worker_banner
from jobrunner.durations import format_duration

LEVELS: Final = ("debug", "info", "warning", "error")
_MARKS: Final = {
    "job.started": "●",
    "job.succeeded": "✓",
    "job.retrying": "↻",
    "job.parked": "↻",
    "job.dead": "✗",
    "job.expired": "⌛",
    "job.handed_back": "⇠",
}
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "action"}
_LEVEL_WORDS: Final = {"CRITICAL": "ERROR"}


def configure(
    kind: str, level: str, color: str, banner: Callable[[logging.LogRecord], list[str]] | None = None
) -> None:
    """Send the records of `jobrunner` to stderr. kind: auto, pretty, text or json. banner: lines of `worker.started`."""
    stream = sys.stderr
    if kind == "auto":
        kind = "pretty" if stream.isatty() else "text"
    formatter: logging.Formatter
    match kind:
        case "json":
            formatter = JsonFormatter()
        case "pretty":
            formatter = PrettyFormatter(stream, color, banner or worker_banner)
        case _:
            formatter = TextFormatter()
    handler: logging.Handler = logging.StreamHandler(stream)
    if kind == "pretty":
        from jobrunner.cli.summary import SummaryHandler

        handler = SummaryHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger("jobrunner")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    # pika logs the start of bodies at WARNING; what concerns a person we say ourselves
    logging.getLogger("pika").setLevel(logging.ERROR)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record: what was given as `extra`, without what is None."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}


def action_of(record: logging.LogRecord) -> str:
    """The machine word of a record; `log` for one of another library."""
    return str(getattr(record, "action", "log"))


class TextFormatter(logging.Formatter):
    """`TIME LEVEL action id key=value…`, one line for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        facts = facts_of(record)
        words = [_time(record), _LEVEL_WORDS.get(record.levelname, record.levelname), action_of(record)]
        if job_id := facts.pop("job_id", None):
            words.append(str(job_id))
        words += [f"{name}={_value(value)}" for name, value in facts.items()]
        if not facts or not action_of(record).startswith("job."):
            words.append(f"message={_value(record.getMessage())}")
        return " ".join(words) + _trace(record)


def _time(record: logging.LogRecord) -> str:
    return out.iso(record.created)


def _value(value: Any) -> str:
    """Quoted where a blank would make two words of it."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.3f}"
        case list() | tuple():
            text = ",".join(map(str, value))
        case _:
            text = str(value)
    text = out.printable(text)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text or "=" in text else text


def _trace(record: logging.LogRecord) -> str:
    """The traceback of a bug in jobrunner itself; jobs' tracebacks are never in a record."""
    if not record.exc_info:
        return ""
    return "\n" + logging.Formatter().formatException(record.exc_info)


class JsonFormatter(logging.Formatter):
    """Elastic Common Schema, one document a line: our own facts under `labels`.

    Source: ECS reference 8, fields `@timestamp`, `log.level`, `message`, `event.action`, `labels.*`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        document: dict[str, Any] = {
            "@timestamp": _time(record),
            "log.level": _LEVEL_WORDS.get(record.levelname, record.levelname).lower(),
            "message": record.getMessage(),
            "event.action": action_of(record),
            "log.logger": record.name,
            "labels": facts_of(record),
        }
        if record.exc_info:
            document["error.stack_trace"] = _trace(record).strip()
        return json.dumps(document, ensure_ascii=False, default=str)


class PrettyFormatter(logging.Formatter):
    """Lines for a person: clock, mark, job, what happened, slot."""

    def __init__(self, stream: TextIO, color: str, banner: Callable[[logging.LogRecord], list[str]]) -> None:
        super().__init__()
        self._stream = stream
        self._color = color
        self._banner = banner

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of a banner."""
        action = action_of(record)
        if action == "worker.started":
            text = "\n".join(self._banner(record))
        elif action.startswith("worker."):
            text = out.printable(record.getMessage())
        elif action.startswith("job."):
            text = f"{clock(record)} {self._mark(action)} {job_line(record)}"
        else:
            level = "✗" if record.levelno >= logging.ERROR else "!" if record.levelno >= logging.WARNING else "·"
            text = f"{clock(record)} {out.mark(level, self._color, self._stream)} {out.printable(record.getMessage())}"
        return out.plain(text, self._stream) + _trace(record)

    def _mark(self, action: str) -> str:
        return out.mark(_MARKS.get(action, "·"), self._color, self._stream)


def clock(record: logging.LogRecord) -> str:
    """`12:00:01` in the local zone."""
    return f"{datetime.fromtimestamp(record.created, UTC).astimezone():%H:%M:%S}"


def job_line(record: logging.LogRecord) -> str:
    """What a record says of its job, after its mark."""
    facts = facts_of(record)
    words = [str(facts.get("job_id", ""))[:8]]
    action = action_of(record)
    if action == "job.handed_back":
        return f"{words[0]} {record.getMessage()}"
    words[0] += f" {_task(facts.get('task'))}"
    match action:
        case "job.succeeded":
            words.append(_took(facts))
        case "job.retrying":
            words.append(f"{_error(facts)}, try {_tries(facts, 1)} in {format_duration(facts.get('due_in_s', 0.0))}")
        case "job.parked":
            due = format_duration(facts.get("due_in_s", 0.0))
            words.append(f"{_error(facts)}, asked again in {due}")
        case "job.dead":
            words.append(f"{_error(facts)}, after try {_tries(facts, 0)}")
        case "job.started":
            pass
        case _:
            words.append(out.printable(record.getMessage()))
    if (slot := facts.get("slot")) is not None:
        words.append(f"[{slot}]")
    return "  ".join(word for word in words if word)


def _task(name: object) -> str:
    return out.printable(str(name or "")).replace(":", ".")


def _took(facts: dict[str, Any]) -> str:
    return format_duration(facts["took_s"]) if "took_s" in facts else ""


def _error(facts: dict[str, Any]) -> str:
    return out.printable(str(facts.get("error", "")))


def _tries(facts: dict[str, Any], more: int) -> str:
    """`2/4`: the try that comes, of how many."""
    return f"{int(facts.get('attempt', 0)) + more}/{facts.get('max_attempts', '?')}"
