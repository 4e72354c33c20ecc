"""The inputs of a map, one by one: a line, a JSON value, a row of a table, a number."""

import csv
import itertools
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from jobrunner.errors import BadValue, JobrunnerError

MAX_ROW_CHARS: Final = 1024 * 1024
"""Of a row of CSV. A quotation mark that is never closed must not swallow the rest of the file."""


class BadInput(JobrunnerError):
    """reason: why no job can be made of an input, without a full stop."""

    code = "bad_input"
    text = "{reason}."


class Input(msgspec.Struct, frozen=True, gc=False):
    """One input. text: as it was given. value: what it stands for as JSON, None for plain text.

    keys: what `{key}` may name. problem: why it is none. parts: of a combination what it is made of; its text is that
    of its parts as a shell would read them, so that no two combinations have the same.
    """

    text: str
    value: bytes | None = None
    keys: dict[str, Any] | None = None
    problem: str | None = None
    parts: "tuple[Input, ...]" = ()


def plain(lines: Sequence[bytes]) -> Iterator[Input]:
    """Lines, or words that ended with NUL, as they are; an empty one is none."""
    for line in lines:
        if line:
            try:
                yield Input(line.decode())
            except UnicodeDecodeError as exc:
                yield Input(line.decode(errors="replace"), problem=f"it is not UTF-8 at byte {exc.start + 1}")


def texts(words: Sequence[str]) -> Iterator[Input]:
    """Words of a command line."""
    for word in words:
        problem = None if word.isascii() or _is_utf8(word) else "it is not UTF-8"
        yield Input(word if problem is None else word.encode(errors="replace").decode(), problem=problem)


def combinations(groups: Sequence[Sequence[str]]) -> Iterator[Input]:
    """Each word of the first group with each of the second, and so on; the last group changes fastest."""
    for parts in itertools.product(*(list(texts(words)) for words in groups)):
        problem = next((part.problem for part in parts if part.problem is not None), None)
        yield Input(shlex.join(part.text for part in parts), problem=problem, parts=parts)


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_lines(lines: Sequence[bytes]) -> Iterator[Input]:
    """A JSON value a line."""
    for line in lines:
        text = line.strip()
        if not text:
            continue
        try:
            value = msgspec.json.decode(text)
        except (ValueError, RecursionError) as exc:
            reason = str(exc).removeprefix("JSON is malformed: ")
            yield Input(text.decode(errors="replace"), problem=f"it is not JSON: {reason}")
            continue
        yield Input(text.decode(), text, value if isinstance(value, dict) else None)


class Table:
    """The rows of CSV text that comes in pieces. The first row names the columns."""

    def __init__(self) -> None:
        self._names: list[str] | None = None
        self._begin()

    def _begin(self) -> None:
        """The next row. Its lines are put together only once it is complete: each is looked at once."""
        self._lines: list[str] = []
        self._chars = self._quotes = 0

    def rows(self, lines: Sequence[bytes]) -> Iterator[Input]:
        """The rows that are complete with these lines. Raises: BadValue for a first row that names nothing."""
        for line in lines:
            text = line.decode(errors="surrogateescape").removesuffix("\r")
            self._lines.append(text)
            self._chars += len(text) + 1
            self._quotes += text.count('"')
            if self._quotes % 2 and self._chars <= MAX_ROW_CHARS:
                continue  # within quotes a row goes on in the next line
            yield from self.rest()

    def rest(self) -> Iterator[Input]:
        """What is left at the end of the file."""
        row = "\n".join(self._lines)
        self._begin()
        if row.strip():
            yield from self._take(row)

    def _take(self, row: str) -> Iterator[Input]:
        try:
            values = next(csv.reader([row], strict=True))
        except (csv.Error, StopIteration) as exc:
            yield Input(_utf8(row), problem=f"it is no row of CSV: {exc}")
            return
        if self._names is None:
            names = [name.strip().removeprefix("\ufeff") for name in values]
            if not all(names) or len(set(names)) < len(names):
                raise BadValue(problem="The first row of the CSV must name each column, each once.", hint="--jsonl")
            self._names = names
            return
        if not _is_utf8(row):
            yield Input(_utf8(row), problem="it is not UTF-8")
        elif len(values) != len(self._names):
            yield Input(row, problem=f"it has {_columns(len(values))}, not {len(self._names)}")
        else:
            keys = dict(zip(self._names, values, strict=True))
            yield Input(row, msgspec.json.encode(keys), keys)


def _columns(count: int) -> str:
    return f"{count} column" if count == 1 else f"{count} columns"


def _utf8(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def parse_range(text: str) -> range:
    """`1-100`, `1-100:2`, `10-1:-3`, both ends included. Raises: BadValue."""
    head, colon, step_text = text.partition(":")
    try:
        dash = head.index("-", 1)
        first, last = int(head[:dash]), int(head[dash + 1 :])
        step = int(step_text) if colon else 1
        found = range(first, last + (1 if step > 0 else -1), step)  # refuses a step of 0
        len(found)  # refuses what no machine counts to
    except (ValueError, OverflowError) as exc:
        raise BadValue(problem=f"'{text}' is not a range.", hint="--range 1-100 · --range 0-100:5") from exc
    return found
