"""The worker's log records as lines: for people on a terminal, as text for files, as JSON (ECS) for machines."""

import json
import logging
import sys
from typing import Any, Final

from jobrunner.cli import out
from jobrunner.cli.banner import worker_banner
from jobrunner.cli.pretty import Banner, PrettyFormatter
from jobrunner.cli.records import action_of, facts_of, masked, trace_of

LEVELS: Final = ("debug", "info", "warning", "error")
_LEVEL_WORDS: Final = {"CRITICAL": "ERROR"}


def configure(kind: str, level: str, color: str, banner: Banner | None = None) -> None:
    """Send the records of `jobrunner` to stderr. kind: auto, pretty, text, json. banner: lines of `worker.started`."""
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
        return masked(" ".join(words) + trace_of(record))


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
            document["error.stack_trace"] = trace_of(record).strip()
        return masked(out.json_text(json.dumps(document, ensure_ascii=False, default=str)))
