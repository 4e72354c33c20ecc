"""From what a function raised to an outcome."""

import inspect
import math
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import msgspec

from jobrunner.errors import Permanent, Retry
from jobrunner.outcome import TRACEBACK_CHARS, Error, Failed, Outcome, Rejected, RetryAsked, clip

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - a child imports no pathlib
_CUT: Final = "\n[...]\n"


class Failure(msgspec.Struct, frozen=True):
    """fatal: why the process must not run another job, or None."""

    outcome: Outcome
    fatal: str | None = None


def rejected(reason: str, message: str, *, exit_code: int | None = None) -> Rejected:
    """The outcome of what can never work. message is cut at 512 characters and made printable as UTF-8."""
    return Rejected(error=Error(reason=reason, message=clip(printable(message)), exit=exit_code))


def classify(exc: BaseException, call: Callable[[], object] | None) -> Failure:
    """The outcome of a job that raised `exc`.

    call: binds the arguments to the function's signature, to tell a call that can never work from a TypeError within.
    """
    frames = _user_frames(exc.__traceback__)
    if isinstance(exc, TypeError) and frames is None and call is not None:
        try:
            call()
        except TypeError:
            return Failure(rejected("bad_arguments", _message(exc)))
        except ValueError:
            pass  # no signature: a function in C
    error = Error(
        reason="permanent" if isinstance(exc, Permanent) else "error",
        message=_message(exc),
        class_name=printable(type(exc).__name__),
        traceback=_traceback(exc, frames),
    )
    match exc:
        case Permanent():
            return Failure(Rejected(error=error))
        case Retry():
            return Failure(RetryAsked(error=error, after_s=_seconds(exc.after_s)))
        case MemoryError():
            return Failure(Failed(error=error), fatal="a job ran out of memory")
        case Exception():
            return Failure(Failed(error=error))
        case _:
            return Failure(Failed(error=error), fatal=f"a job raised {error.class_name}")


def binding(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Callable[[], object]:
    """For `classify`: raises TypeError when the arguments do not fit the function."""
    return lambda: inspect.signature(function).bind(*args, **kwargs)


def _message(exc: BaseException) -> str:
    if isinstance(exc, SystemExit):
        return f"exit({exc.code!r})"
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - a job's own __str__ may raise anything
        text = "(its text could not be made)"
    return clip(printable(text))


def _seconds(value: object) -> float | None:
    """What a job gave as `after`, if it is a number of seconds."""
    if isinstance(value, int | float) and math.isfinite(value):
        return max(0.0, float(value))
    return None


def _user_frames(frames: TracebackType | None) -> TracebackType | None:
    """Without the leading frames of jobrunner and of the event loop that runs a coroutine for it."""
    asyncio = sys.modules.get("asyncio")
    loop = os.path.dirname(asyncio.__file__ or "?") if asyncio else _OURS  # noqa: PTH120
    leading = (_OURS + os.sep, loop + os.sep, "<frozen importlib")
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(leading):
        frames = frames.tb_next
    return frames


def _traceback(exc: BaseException, frames: TracebackType | None) -> str | None:
    """The traceback as Python shows it, the middle cut out where it has more than 16 Ki characters."""
    import traceback

    try:
        text = printable("".join(traceback.format_exception(type(exc), exc, frames)))
    except Exception:  # noqa: BLE001 - formatting calls the exception's own methods
        return None
    if len(text) <= TRACEBACK_CHARS:
        return text
    half = (TRACEBACK_CHARS - len(_CUT)) // 2
    return text[:half] + _CUT + text[-half:]


def printable(text: str) -> str:
    """The text without lone surrogates, which no JSON can hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
