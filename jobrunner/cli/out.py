"""What is written where: stdout is data, stderr is talk. Colour, marks and escapes by who reads."""

import os
import re
import sys
from typing import Any, Final, TextIO

import click

MARKS: Final = {
    "✓": "+",
    "✗": "x",
    "●": "*",
    "↻": "~",
    "⊘": "-",
    "⌛": "!",
    "○": "o",
    "◷": "@",
    "⇠": "<",
    "→": "->",
    "…": "...",
    "·": "-",
    "\u2013": "-",
}
"""Marks and their form where the locale is not UTF-8."""

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
_COLOR: Final = re.compile(r"(\x1b\[[0-9;]*m)")
_NOT_IN_JSON: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_COLORS = {"✓": "green", "✗": "red", "↻": "yellow", "●": "cyan", "!": "yellow", "⇠": "yellow", "⊘": "yellow"}


def is_unicode(stream: TextIO) -> bool:
    """Whether the stream can show any character."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def has_color(choice: str, stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`. choice: `auto`, `always` or `never`, as typed.

    Source: no-color.org and force-color.org: set and not empty.
    """
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def mark(symbol: str, choice: str, stream: TextIO) -> str:
    """A mark, coloured if the stream takes it; ASCII where the locale is not UTF-8."""
    shown = symbol if is_unicode(stream) else MARKS.get(symbol, symbol)
    color = _COLORS.get(symbol)
    return click.style(shown, fg=color) if color and has_color(choice, stream) else shown


def plain(text: str, stream: TextIO) -> str:
    """Our own sentences for a stream that may know ASCII only."""
    return text if is_unicode(stream) else "".join(MARKS.get(char, char) for char in text)


def printable(text: str, keep: str = "") -> str:
    """`text` from a job or a message, made harmless for a terminal: C0, C1 and bidi controls are escaped.

    keep: control characters that may pass, such as a newline.
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep else _ESCAPES.get(char) or _escape(ord(char)) or char for char in text)


def _escape(code: int) -> str:
    if code < 32 or 127 <= code < 160:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code in _BIDI else ""


def cell(text: str) -> str:
    r"""A value in a piped column: TAB, LF and `\` as `\t`, `\n` and `\\`, other control characters as `\x1b`."""
    return printable(text.replace("\\", "\\\\"))


def emit(text: str) -> None:
    """A line of data, to stdout."""
    sys.stdout.write(text + "\n")
    if sys.stdout.isatty():
        sys.stdout.flush()


def say(text: str) -> None:
    """A line of talk, to stderr. Of its control characters only our colours and line breaks count."""
    sys.stdout.flush()
    if not text.isprintable():
        text = "".join(part if _COLOR.fullmatch(part) else printable(part, keep="\n") for part in _COLOR.split(text))
    sys.stderr.write(plain(text, sys.stderr) + "\n")
    sys.stderr.flush()


def emit_json(document: dict[str, Any]) -> None:
    """A JSON document on one line, to stdout; `schema` is added.

    Values may hold `msgspec.Raw`: JSON as it was received, which may have line breaks between its values, and bytes in
    its texts that are no UTF-8.
    """
    import msgspec

    text = msgspec.json.encode({"schema": 1, **document}).decode(errors="replace")
    emit(json_text(text))


def json_text(text: str) -> str:
    """JSON on one line whose texts no terminal obeys: what JSON leaves as it is of C1, bidi and DEL is escaped.

    So are control characters in JSON as it was received, where only line breaks and TABs can stand between values.
    """
    if text.isprintable():
        return text
    return _NOT_IN_JSON.sub(lambda found: " " if found[0] in "\t\n\r" else f"\\u{ord(found[0]):04x}", text)


def iso(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds; nothing for a time that no calendar has. seconds: since the epoch."""
    from datetime import UTC, datetime

    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def settle_streams() -> None:
    """No character that a stream cannot encode may end a command: it is escaped instead, in stdin replaced. One that
    was closed by whoever started us is /dev/null: else the next file or socket would get its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def silence_stdout() -> None:
    """The reader of stdout is gone: send what is still buffered nowhere, so that the interpreter ends in silence."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
