"""A job on a terminal, or in a pipe, as lines: what it is, what happened to it, and why it does not run."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from jobrunner.cli import out, phrases
from jobrunner.cli.columns import what
from jobrunner.cli.shared import Shared
from jobrunner.durations import format_size

if TYPE_CHECKING:
    from jobrunner.view.rows import AttemptRow, JobRow, UnknownEvent
    from jobrunner.view.why import Why

_MARKS: Final = {"succeeded": "✓", "failed": "↻", "dead": "✗", "interrupted": "⇠", "cancelled": "⊘", "running": "●"}
_END_OF_TIME: Final = 1e11
"""What no calendar has is no time: events of later versions are not checked."""

_ENDS: Final = {"interrupted": "handed back", "failed": "failed", "dead": "failed for good"}


def lines(
    shared: Shared,
    row: "JobRow",
    attempts: Sequence["AttemptRow"],
    why: "Why | None",
    unknown: Sequence["UnknownEvent"] = (),
) -> Iterator[str]:
    """All of it. unknown: events of a later version."""
    now = time.time()
    name = what(row) if row.argv is not None else row.name
    yield f"{row.id}  {phrases.state(row.state, shared.color, sys.stdout)}   {_shown(name)}"
    yield f"  {_plain(' · '.join(_facts(row)))}"
    for at, text, more in sorted(_history(shared, row, attempts), key=lambda each: each[0]):
        yield f"  {phrases.moment(at, now)}  {text}"
        for line in more.splitlines():
            yield f"      {_shown(line)}"
    for event in unknown:
        when = (
            phrases.moment(event.at, now) if event.at is not None and 0 <= event.at < _END_OF_TIME else "at some time"
        )
        yield f"  {when}  {_shown(event.kind)} (an event of a later version)"
    if row.state == "running":
        yield from _progress(row)
    if row.result is not None:
        yield f"  result {_result(row)}"
    if why is not None:
        yield f"Why it is not running: {_shown(why.text)}"
        if why.fix:
            yield f"  {why.label}:  {_shown(why.fix)}"


def _shown(text: str) -> str:
    return out.printable(text)


def _plain(text: str) -> str:
    return out.plain(out.printable(text), sys.stdout)


def _facts(row: "JobRow") -> Iterator[str]:
    yield f"queue {row.queue}"
    yield f"priority {row.priority}"
    yield f"try {phrases.tries(row)}"
    if row.timeout_s:
        yield f"timeout {phrases.took(row.timeout_s)}"
    if row.interruptions:
        yield f"handed back {row.interruptions} times" if row.interruptions > 1 else "handed back once"
    if row.chain:
        yield f"retried {row.chain} times" if row.chain > 1 else "retried once"
    if row.run:
        yield f"run {row.run}" if row.seq is None else f"run {row.run} #{row.seq}"
    if row.tags:
        yield f"tags {', '.join(row.tags)}"
    if row.label:
        yield row.label
    if row.cause:
        yield f"cause {row.cause}"
    if row.user:
        yield f"by {row.user}"


def _history(shared: Shared, row: "JobRow", attempts: Sequence["AttemptRow"]) -> Iterator[tuple[float, str, str]]:
    """When, what, and lines that belong to it."""
    if row.created_at is not None:
        yield row.created_at, "accepted by the broker", ""
    for each in attempts:
        yield from _attempt(shared, row, each)
    if row.cancel_requested_at is not None and row.state != "cancelled":
        yield row.cancel_requested_at, "a cancel was asked for", ""
    if row.not_before is not None and not row.is_ended:
        yield row.not_before, "due" if row.state == "scheduled" else "due again", ""
    if row.is_ended and not (attempts and attempts[-1].outcome == row.state):
        told = _shown(row.error.headline) if row.error else ""
        reason = f" {told}" if told.startswith("by ") else f": {told}" if told else ""  # `cancelled by ana@mbp`
        yield row.state_at, f"{phrases.mark_of(row.state, shared.color, sys.stdout)} {row.state}{reason}", ""


def _attempt(shared: Shared, row: "JobRow", each: "AttemptRow") -> Iterator[tuple[float, str, str]]:
    where = f" on {_shown(each.worker)}" if each.worker else ""
    process = f", pid {each.pid}" if each.pid else ""
    yield each.started_at, f"try {each.number}{where}{process}", ""
    if each.ended_at is None:
        return
    mark = shared.mark(_MARKS.get(each.outcome, "·"))
    took = phrases.took(max(0.0, each.ended_at - each.started_at))
    text = f"{mark} {_ENDS.get(each.outcome, each.outcome)} after {took}"
    trace = ""
    if each.error is not None:
        text += f": {_shown(each.error.headline)}"
        trace = each.error.traceback or "" if row.state in ("dead", "retrying") else ""
    yield each.ended_at, text, trace


def _progress(row: "JobRow") -> Iterator[str]:
    if row.progress is not None or row.progress_text:
        done = "" if row.progress is None else f"{row.progress * 100:.0f} % "
        yield f"  progress {_shown((done + (row.progress_text or '')).strip())}"


def _result(row: "JobRow") -> str:
    value = bytes(row.result or b"null").decode(errors="replace")
    size = row.result_bytes if row.result_bytes is not None else len(value)
    if len(value) > 200:
        note = ", cut" if row.truncated else ""
        dots = out.plain("…", sys.stdout)
        return f"{_shown(value[:200])}{dots} ({format_size(size)}{note}: jobrunner result {row.short_id})"
    return _shown(value)
