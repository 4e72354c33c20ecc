"""Which failures are the same: four hex digits of what failed, how, and where in the user's code."""

import hashlib
import re
from typing import TYPE_CHECKING, Final

import msgspec

from jobrunner.outcome import Error

if TYPE_CHECKING:
    from jobrunner.view.draft import Draft

_FRAME: Final = re.compile(r'^  File "([^"]+)", line (\d+), in (\S+)', re.MULTILINE)
_LIBRARY: Final = re.compile(r"[/\\](?:site-packages|dist-packages|lib[/\\]python\d[^/\\]*)[/\\]|^<frozen ")
_LAST: Final = "Traceback (most recent call last):"
_DIGITS: Final = re.compile(r"\d+")

_encode = msgspec.json.Encoder().encode


def error_text(error: Error) -> str:
    """The error as it is stored with its job: without the traceback, which its attempt has."""
    if error.traceback is not None:
        error = msgspec.structs.replace(error, traceback=None)
    return _encode(error).decode()


def describe(row: "Draft", error: Error) -> None:
    """Give a draft its error and the place of it."""
    row.error = error_text(error)
    row.frame = row.place = None
    found = innermost(error.traceback) if error.traceback else None
    if found is not None:
        path, line, function = found
        file = re.split(r"[/\\]", path)[-1]
        row.frame, row.place = f"{file}:{function}", f"{file}:{line}"


def innermost(traceback: str) -> tuple[str, str, str] | None:
    """File, line and function of the innermost frame of the user's code: the deepest that is in no library."""
    frames: list[tuple[str, str, str]] = _FRAME.findall(traceback.rpartition(_LAST)[2])
    users = [frame for frame in frames if not _LIBRARY.search(frame[0])]
    found = users or frames
    return found[-1] if found else None


def group(name: str | None, error: Error, frame: str | None) -> str:
    """The cause group, such as `3f2a`.

    name: as in a draft. A function's failures are alike by error class and place; a command's by exit code or signal
    and the last line of its stderr, digits apart.
    """
    if name is not None and name.startswith("/"):
        parts = (name, error.word, str(error.exit), _DIGITS.sub("", error.message))
    elif error.class_name or frame:
        parts = (name or "", error.word, error.class_name or "", frame or "")
    else:
        parts = (name or "", error.word, _DIGITS.sub("", error.message), "")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:4]
