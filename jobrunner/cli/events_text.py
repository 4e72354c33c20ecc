"""An event as a line for people or pipes, or whole as JSON."""

import sys
from typing import Any

import click
import msgspec

from jobrunner import attempts, events
from jobrunner.broker.stream import Record
from jobrunner.cli import out, phrases
from jobrunner.cli.events_read import kind_of
from jobrunner.cli.shared import Shared
from jobrunner.events import Event
from jobrunner.view.pausing import pause_words

_TEXT_CHARS = 80


def show(shared: Shared, record: Record) -> None:
    """Write it to stdout."""
    if shared.json:
        out.emit_json({"offset": record.offset, **document(record.body)})
        return
    kind, job_id = kind_of(record), record.key.rpartition(".")[2]
    try:
        event = events.decode(record.body)
    except ValueError:
        at, said = None, "of a later version"
    else:
        at, said = event.at, detail(event)
    if not sys.stdout.isatty():
        out.emit("\t".join(out.cell(each) for each in ("" if at is None else out.iso(at), kind, job_id, said)))
        return
    state = events.KINDS.get(kind)
    color = phrases.COLORS.get(kind if kind in phrases.COLORS else state or "", "")
    shown = f"{out.printable(kind):<11}"
    if color and out.has_color(shared.color, sys.stdout):
        shown = click.style(shown, fg=color)
    when = " " * 12 if at is None else phrases.clock(at)
    text = out.plain(out.printable(said), sys.stdout)
    out.emit(f"{when}  {shown} {out.printable(job_id[:8]):<8}  {text}".rstrip())


def document(body: bytes) -> dict[str, Any]:
    """The event's own fields, times as RFC 3339; a body that is no object as text."""
    try:
        fields = _fields.decode(body)
        return {name: _time(name, value) for name, value in fields.items() if name != "v"}
    except (ValueError, RecursionError):
        return {"body": body.decode(errors="replace")}


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])


def _times(value: msgspec.Raw) -> Any:
    match bytes(value)[:1]:
        case b"[":
            return [_times(each) for each in _items.decode(value)]
        case b"{":
            return {name: _time(name, each) for name, each in _fields.decode(value).items()}
        case _:
            return value


def _time(name: str, value: msgspec.Raw) -> Any:
    if name in ("job", "result"):  # what users sent and got stays as it is, as far as any JSON may go
        return value
    if name in ("at", "not_before") or name.endswith("_at"):
        at = msgspec.json.decode(value)
        if isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < 1e11:
            return out.iso(at)
    return _times(value)


def detail(event: Event) -> str:
    """What an event says, in a few words."""
    match event:
        case events.Queued():
            return _queued(event)
        case events.Started(ran=ran):
            return f"try {event.attempt} on {ran.worker}"
        case events.Succeeded(ran=ran):
            return f"try {event.attempt}{_took(ran)}"
        case events.Retrying(error=error):
            again = phrases.took(max(0.0, event.due_at - event.at))
            return f"try {event.attempt}{_took(event.ran)}: {error.headline}; again in {again}"
        case events.Dead(error=error):
            return f"try {event.attempt}{_took(event.ran)}: {error.headline}"
        case events.Parked(error=error):
            return error.headline
        case events.Interrupted(ran=ran):
            return f"try {event.attempt}{_took(ran)}: handed back"
        case events.Cancelled(reason=reason, by=by):
            return " ".join(word for word in (reason, f"by {by}" if by else "") if word)
        case _:
            return _other(event)


def _other(event: Event) -> str:
    match event:
        case events.Suppressed(worker=worker):
            return f"delivered again on {worker}, not run again"
        case events.Log(stream=stream, text=text):
            return f"{stream}: {text if len(text) <= _TEXT_CHARS else text[:_TEXT_CHARS] + '…'}".rstrip("\n")
        case events.Progress(fraction=fraction, text=text):
            return " ".join(word for word in ("" if fraction is None else f"{fraction * 100:.0f}%", text or "") if word)
        case events.Cancel(jobs=jobs, run=run, by=by):
            return f"{run or phrases.plural(len(jobs), 'job')} by {by or '?'}"
        case events.Pause():
            return f"{event.queue} is {pause_words(event, event.at) if event.paused else 'consumed again'}"
        case events.Worker(phase=phase, name=name):
            return f"{phase} {name}, {event.busy} of {event.slots} slots busy, queues {', '.join(event.queues)}"
        case events.Genesis(id=genesis):
            return f"a new ledger: {genesis}"
        case _:
            return ""


class _Named(msgspec.Struct):
    id: str
    queue: str = ""
    task: str | None = None
    argv: list[str] | None = None


def _queued(event: events.Queued) -> str:
    try:
        first = msgspec.json.decode(event.jobs[0].job, type=_Named)
    except (ValueError, IndexError):
        return phrases.plural(len(event.jobs), "job")
    more = f" and {phrases.plural(len(event.jobs) - 1, 'more job')}" if len(event.jobs) > 1 else ""
    return f"{first.task or ' '.join(first.argv or ())} → {first.queue}{more}"


def _took(ran: attempts.Run | None) -> str:
    if ran is None or ran.ended_at is None:
        return ""
    return f" on {ran.worker}, {phrases.took(max(0.0, ran.ended_at - ran.started_at))}"
