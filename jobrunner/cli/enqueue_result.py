"""The end of a job, for whoever waited for it: its result on stdout, its failure on stderr, an exit code."""

import enum
import signal
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from jobrunner.attempts import Stream
from jobrunner.cli import failures, out, phrases
from jobrunner.cli.pieces import rest_of
from jobrunner.cli.shared import Shared
from jobrunner.errors import JobCancelled, JobExpired, JobFailed, JobrunnerError, ResultCut
from jobrunner.watch import End


class Shows(enum.Enum):
    """What of an end is still to be shown: result and output, the result of a function, or nothing."""

    ALL = enum.auto()
    RESULT = enum.auto()
    NOTHING = enum.auto()


def shows_of(options: Mapping[str, Any]) -> Shows:
    """What is still to be shown at the end, by the options of `enqueue`: who follows has seen the output."""
    if not options["follow"]:
        return Shows.ALL
    return Shows.RESULT if options["wait"] else Shows.NOTHING


def finish(
    shared: Shared, end: End, document: dict[str, Any], *, is_command: bool, exit_code: bool, shows: Shows = Shows.ALL
) -> int:
    """Show how a job ended. Gives the exit code: 0, 1, 5 for a result that was cut, or the command's own."""
    error = failure_of(end)
    if shared.json:
        out.emit_json(document | facts(end))
    elif shows is Shows.NOTHING or (shows is Shows.RESULT and is_command):
        if end.state == "succeeded":
            took = "" if end.took_s is None else f"  {phrases.took(end.took_s)}"
            shared.talk(f"{out.mark('✓', shared.color, sys.stderr)} {end.id[:8]} succeeded{took}")
    elif end.state == "succeeded":
        show_result(end, is_command=is_command)
    elif is_command:
        _pass_on(end.stdout, sys.stdout)
        _pass_on(end.stderr, sys.stderr)
    if error is None:
        return 0
    code = failures.show(error, shared)
    own = _own_code(end) if exit_code and is_command else None
    return code if own is None else own


def facts(end: End) -> dict[str, Any]:
    """The fields that an end adds to a job's document."""
    return {"state": end.state, "took_s": end.took_s, "result": end.result, "error": end.error}


def failure_of(end: End) -> JobrunnerError | None:
    """Why waiting for this end does not exit with 0."""
    short = end.id[:8]
    match end.state:
        case "succeeded":
            return ResultCut(job_id=short) if end.truncated else None
        case "expired":
            return JobExpired(job_id=short)
        case "cancelled":
            return JobCancelled(job_id=short)
        case _:
            tries = f"{end.attempt} {'try' if end.attempt == 1 else 'tries'}"
            reason = end.error.headline if end.error else "no reason given"
            return JobFailed(job_id=short, prefix=phrases.prefix(short), tries=tries, error=reason)


def _own_code(end: End) -> int | None:
    """The status of the command as a shell would give it: its exit code, or 128 + the signal's number."""
    error = end.error
    if error is None:
        return None
    if error.signal:
        return 128 + getattr(signal, error.signal, 0)
    return error.exit


def show_result(end: End, *, is_command: bool) -> None:
    """The result of one that succeeded: JSON of a function, the stdout of a command as it was."""
    value = bytes(end.result or b"null")
    if not is_command:
        out.emit(out.printable(value.decode()) if sys.stdout.isatty() else value.decode())
        return
    text = msgspec.json.decode(value)
    _write(text if isinstance(text, str) else text_of(end.stdout), sys.stdout)


def _pass_on(stream: Stream | None, target: Any) -> None:
    _write(text_of(stream), target)


def text_of(stream: Stream | None) -> str:
    """What was kept of an output, the gap shown."""
    if stream is None:
        return ""
    return stream.head + rest_of(stream)


def _write(text: str, target: Any) -> None:
    """A command's output as it was; on a terminal without control characters that could act on it."""
    if not text:
        return
    if target.isatty():
        text = out.printable(text, keep="\n\t")
        text += "" if text.endswith("\n") else "\n"
    target.write(text)
    target.flush()
