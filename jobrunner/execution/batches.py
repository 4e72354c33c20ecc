"""Many calls of one function in one job: each ends on its own, and the job's result is the list of their ends."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from jobrunner.execution.failures import Failure, rejected
from jobrunner.outcome import Failed, Part, Rejected, RetryAsked, Succeeded

MAX_DEPTH: Final = 64
"""Deepest nesting of an argument."""

MAX_BYTES: Final = 960 * 1024
"""Of all results together: what would go beyond has no place in the list, and its calls do not run here."""

TRACEBACK_CHARS: Final = 1500
"""Of one call's traceback: there may be as many as calls."""

Calls = list[tuple[list[Any], dict[str, Any]]]
Evaluate = Callable[[list[Any], dict[str, Any]], Failure]

_decoder = msgspec.json.Decoder(Calls)
_encoder = msgspec.json.Encoder()


def decode(batch: msgspec.Raw) -> Calls | Rejected | None:
    """The arguments of all calls, or why they are none; None for a job that is one call."""
    if bytes(batch) == b"null":
        return None
    try:
        calls = _decoder.decode(batch)
    except (ValueError, RecursionError, MemoryError) as exc:
        return rejected("malformed", f"the batch cannot be decoded: {exc}")
    if any(depth_of(part) > MAX_DEPTH + 1 for call in calls for part in call):
        return rejected("malformed", f"the arguments nest deeper than {MAX_DEPTH}")
    return calls


def depth_of(value: Any) -> int:
    """How deep lists and objects nest. Level by level: recursion would itself fail on what it looks for."""
    depth = 0
    level = [value]
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)]
    return depth


def run(calls: Calls, evaluate: Evaluate, *, once: bool = False) -> Failure:
    """Call once for each. The outcome is Succeeded with a list of `Part`, null for what did not run.

    once: the function is not to be tried again.

    One that fails does not keep the others from running, unless this process must not go on.
    """
    parts: list[bytes] = []
    size_bytes = succeeded = 0
    fatal = None
    for args, kwargs in calls:
        done = evaluate(args, kwargs)
        part = _encoder.encode(_part(done, once=once))
        size_bytes += len(part) + 1
        if size_bytes > MAX_BYTES or getattr(done.outcome, "truncated", False):
            break
        parts.append(part)
        fatal = done.fatal
        succeeded += isinstance(done.outcome, Succeeded)
        if fatal:
            break
    parts.extend([b"null"] * (len(calls) - len(parts)))
    result = msgspec.Raw(b"[" + b",".join(parts) + b"]")
    return Failure(Succeeded(result=result, failed=len(calls) - succeeded), fatal)


def _part(done: Failure, *, once: bool) -> Part:
    match done.outcome:
        case Succeeded(result=result):
            return Part(result=result)
        case Failed(error=error) | Rejected(error=error) | RetryAsked(error=error):
            traceback = None if error.traceback is None else error.traceback[-TRACEBACK_CHARS:]
            return Part(error=msgspec.structs.replace(error, traceback=traceback), once=once)
        case outcome:
            raise AssertionError(outcome)  # a call within this process ends in no other way
