"""Log records as lines for a person on a terminal."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from jobrunner.cli import out
from jobrunner.cli.records import action_of, facts_of, masked, trace_of
from jobrunner.durations import format_duration

Banner = Callable[[logging.LogRecord], list[str]]
"""Makes the lines of `worker.started`."""
_MARKS: Final = {
    "job.started": "●",
    "job.succeeded": "✓",
    "job.retrying": "↻",
    "job.parked": "↻",
    "job.dead": "✗",
    "job.expired": "⌛",
    "job.handed_back": "⇠",
}


class PrettyFormatter(logging.Formatter):
    """Lines for a person: clock, mark, job, what happened, slot."""

    def __init__(self, stream: TextIO, color: str, banner: Banner) -> None:
        super().__init__()
        self._stream = stream
        self._color = color
        self._banner = banner

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of a banner."""
        action = action_of(record)
        if action == "worker.started":
            text = "\n".join(map(out.printable, self._banner(record)))
        elif action.startswith("worker."):
            text = out.printable(record.getMessage())
            if action == "worker.stopping" and facts_of(record).get("running"):
                text += " Ctrl-C again hands them back now."
        elif action.startswith("job."):
            text = f"{clock(record)} {self._mark(action)} {job_line(record)}"
        else:
            level = "✗" if record.levelno >= logging.ERROR else "!" if record.levelno >= logging.WARNING else "·"
            text = f"{clock(record)} {out.mark(level, self._color, self._stream)} {out.printable(record.getMessage())}"
        return out.plain(masked(text + trace_of(record)), self._stream)

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
        return f"{words[0]} {out.printable(record.getMessage())}"
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
    if "took_s" not in facts:
        return ""
    took_s = float(facts["took_s"])
    return format_duration(took_s) if took_s >= 0.1 else f"{took_s * 1000:.0f} ms"


def _error(facts: dict[str, Any]) -> str:
    return out.printable(str(facts.get("error", "")))


def _tries(facts: dict[str, Any], more: int) -> str:
    """`2/4`: the try that comes, of how many."""
    return f"{int(facts.get('attempt', 0)) + more}/{facts.get('max_attempts', '?')}"
