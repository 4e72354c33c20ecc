"""The columns of `jobrunner list`: what each shows on a terminal, and what it is in a pipe."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobrunner.cli import out, phrases
from jobrunner.cli.draw import Cell, Column
from jobrunner.errors import BadValue

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow

LONGEST_VALUE: Final = 24
LONGEST_CALL: Final = 48


@dataclass(frozen=True)
class JobColumn:
    """A column. shown: on a terminal, given the row, the time now and the colour as typed. piped: as text."""

    column: Column
    shown: Callable[["JobRow", float, str], Cell]
    piped: Callable[["JobRow"], str]


def call(row: "JobRow") -> str:
    """A call without its module and with its arguments cut, or a command: `resize('photo.jpg', …)`."""
    if row.task is None:
        return out.printable(shlex.join(row.argv or ()))
    function = row.task.rpartition(":")[2]
    if row.calls > 1:
        return out.printable(f"{function} ({row.calls:,} calls)")
    words = [_cut(word, LONGEST_VALUE) for word in _arguments(row)]
    whole = f"{function}({', '.join(words)})"
    while len(whole) > LONGEST_CALL and len(words) > 1:
        words = [*words[:-2], "…"] if words[-1] == "…" else [*words[:-1], "…"]
        whole = f"{function}({', '.join(words)})"
        if words == ["…"]:
            break
    return out.printable(whole)


def _arguments(row: "JobRow") -> list[str]:
    import msgspec

    try:
        args: list[Any] = msgspec.json.decode(row.args) if row.args else []
        kwargs: dict[str, Any] = msgspec.json.decode(row.kwargs) if row.kwargs else {}
        return [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    except (ValueError, RecursionError):  # a bomb of brackets is still a job that can be shown
        return ["…"]


def _cut(text: str, limit: int) -> str:
    """Shortened; a text keeps its quote."""
    if len(text) <= limit:
        return text
    end = text[-1] if text[-1] in "'\"" else ""
    return f"{text[: limit - 1 - len(end)]}…{end}"


def what(row: "JobRow") -> str:
    """What a job runs, for programs: the function's name, or the command as a shell would read it."""
    return row.task or shlex.join(row.argv or ())


def note(row: "JobRow", now: float) -> str:
    """What the state leaves open: when it is due, how far it is, why it failed."""
    if due := phrases.due(row, now):
        return due
    if row.parked:
        return "waits for a worker that knows it"
    if row.cancel_requested_at is not None and not row.is_ended:
        return "being cancelled"
    if row.state == "running" and (row.progress is not None or row.progress_text):
        done = "" if row.progress is None else f"{row.progress * 100:.0f}% "
        return out.printable(f"{done}{row.progress_text or ''}".strip())
    if row.error is not None and row.is_ended:
        return out.printable(row.error.headline)
    return out.printable(row.label or "")


def took_s(row: "JobRow", now: float) -> float | None:
    """Seconds of the last attempt; of one that runs, so far."""
    if row.state == "running" and row.started_at is not None:
        return max(0.0, now - row.started_at)
    return row.took_s


def _state(row: "JobRow", _now: float, _color: str) -> Cell:
    return f"{phrases.STATES.get(row.state, '?')} {row.state}", phrases.COLORS.get(row.state, "")


def _seconds(seconds: float | None) -> str:
    return phrases.NOTHING if seconds is None else phrases.took(seconds)


def _time(title: str, name: str) -> JobColumn:
    return JobColumn(
        Column(title, right=True),
        lambda row, now, _: phrases.NOTHING if (at := getattr(row, name)) is None else phrases.age(now - at),
        lambda row: "" if (at := getattr(row, name)) is None else out.iso(at),
    )


def _text(title: str, value: Callable[["JobRow"], object], *, flexible: bool = False) -> JobColumn:
    def text(row: "JobRow") -> str:
        found = value(row)
        return "" if found is None else str(found)

    return JobColumn(Column(title, flexible=flexible), lambda row, _now, _color: out.printable(text(row)), text)


def _error(row: "JobRow") -> str:
    return row.error.headline if row.error else ""


COLUMNS: Final[dict[str, JobColumn]] = {
    "id": JobColumn(Column("ID"), lambda row, _now, _color: row.short_id, lambda row: row.id),
    "state": JobColumn(Column("STATE"), _state, lambda row: row.state),
    "task": JobColumn(Column("TASK", flexible=True), lambda row, _now, _color: call(row), what),
    "queue": _text("QUEUE", lambda row: row.queue, flexible=True),
    "age": _time("AGE", "created_at"),
    "took": JobColumn(
        Column("TOOK", right=True),
        lambda row, now, _: _seconds(took_s(row, now)),
        lambda row: "" if row.took_s is None else f"{row.took_s:.3f}",
    ),
    "try": _text("TRY", phrases.tries),
    "note": JobColumn(Column("", flexible=True), lambda row, now, _: note(row, now), _error),
    "error": _text("ERROR", _error, flexible=True),
    "created": _time("CREATED", "created_at"),
    "started": _time("STARTED", "started_at"),
    "ended": _time("ENDED", "ended_at"),
    "due": _time("DUE", "not_before"),
    "wait": JobColumn(
        Column("WAIT", right=True),
        lambda row, _now, _color: _seconds(row.wait_s),
        lambda row: "" if row.wait_s is None else f"{row.wait_s:.3f}",
    ),
    "worker": _text("WORKER", lambda row: row.worker),
    "priority": _text("PRIORITY", lambda row: row.priority),
    "user": _text("USER", lambda row: row.user),
    "run": _text("RUN", lambda row: row.run),
    "seq": _text("SEQ", lambda row: row.seq),
    "tags": _text("TAGS", lambda row: ",".join(row.tags)),
    "label": _text("LABEL", lambda row: row.label, flexible=True),
    "cause": _text("CAUSE", lambda row: row.cause),
    "progress": _text("PROGRESS", lambda row: None if row.progress is None else f"{row.progress * 100:.0f}%"),
}
ON_TERMINAL: Final = ("id", "state", "task", "queue", "age", "took", "try", "note")
PIPED: Final = ("id", "state", "task", "queue", "created", "took", "try", "error")


def chosen(typed: str | None) -> Sequence[str]:
    """The names of the columns: those typed, else by who reads. Raises: BadValue."""
    if typed is None:
        return ON_TERMINAL if sys.stdout.isatty() else PIPED
    names = [name.strip() for name in typed.split(",") if name.strip()]
    for name in names:
        if name not in COLUMNS:
            from jobrunner.cli.table import nearest

            problem = f"There is no column '{name}'.{nearest(name, list(COLUMNS))}"
            raise BadValue(problem=problem, hint=", ".join(COLUMNS))
    return names or PIPED


def drawn(rows: Sequence["JobRow"], names: Sequence[str], now: float, color: str) -> str:
    """The table for a terminal."""
    from jobrunner.cli.draw import Column, table

    columns = [COLUMNS[name] for name in names]
    headings = [each.column for each in columns]
    if names is ON_TERMINAL:  # nobody has asked for this one
        headings[names.index("queue")] = Column("QUEUE", flexible=True, spare=1)
    return table(headings, [[each.shown(row, now, color) for each in columns] for row in rows], color)


def piped(row: "JobRow", names: Sequence[str]) -> str:
    """The line for a pipe."""
    return "\t".join(out.cell(COLUMNS[name].piped(row)) for name in names)
