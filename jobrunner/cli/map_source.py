"""Where the inputs of `map` come from: the command line, a file, a pipe, a range."""

import math
import os
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from jobrunner.cli.lines import CHUNK_BYTES, chunks_of_lines, opened
from jobrunner.errors import NoInputs, OptionsClash
from jobrunner.mapping.inputs import Input, Table, combinations, json_lines, parse_range, plain, texts

Chunks = AsyncGenerator[Sequence[Input], None]
CHUNK: Final = 500


class Source:
    """The inputs of one map. total: how many there are, None where only their end will tell."""

    def __init__(self, options: Mapping[str, Any], words: Sequence[str] | None) -> None:
        """words: what stood after the first `:::`. Raises: OptionsClash, NoInputs, BadValue."""
        self._words = words
        self._groups = _groups(words or ())
        self._file = options["arg_file"]
        self._range = None if options["range"] is None else parse_range(options["range"])
        self._form = next((form for form in ("null", "jsonl", "csv") if options[form]), "lines")
        self._check(options)
        if words is None and self._file is None and self._range is None:
            if not _is_piped():
                raise NoInputs
            self._file = "-"

    @property
    def has_keys(self) -> bool:
        """Whether `{key}` names a field of an input."""
        return self._form in ("jsonl", "csv")

    @property
    def parts(self) -> int:
        """Of how many inputs each is a combination; 0: of none, as with one `:::`."""
        return len(self._groups) if len(self._groups) > 1 else 0

    @property
    def is_csv(self) -> bool:
        """Whether inputs are rows of text."""
        return self._form == "csv"

    def _check(self, options: Mapping[str, Any]) -> None:
        given = [
            "':::'" if self._words is not None else "",
            "--arg-file" if self._file is not None else "",
            "--range" if self._range is not None else "",
        ]
        forms = [f"--{form}" for form in ("null", "jsonl", "csv") if options[form]]
        for words, what in (([word for word in given if word], "say what the inputs are"), (forms, "say what one is")):
            if len(words) > 1:
                raise OptionsClash(problem=f"{words[0]} and {words[1]} both {what}.", hint="jobrunner map --help")
        if (
            forms
            and self._file is None
            and (self._words is not None or self._range is not None)
            and forms != ["--jsonl"]
        ):
            raise OptionsClash(problem=f"{forms[0]} is for inputs from a file or a pipe.", hint="-a FILE")
        if forms and self.parts:
            raise OptionsClash(problem=f"{forms[0]} is for one ':::'.", hint="jobrunner map --help")

    @contextmanager
    def opened(self, *, counts: bool) -> Iterator[tuple[Chunks, int | None]]:
        """The inputs, and their number if it is known. counts: whether a file is read once more to know it."""
        if self._words is not None:
            yield self._given(self._words), math.prod(map(len, self._groups))
        elif self._range is not None:
            yield self._numbers(self._range), len(self._range)
        else:
            with opened(self._file, hint="-a FILE · -a -") as handle:
                total = _count(handle, self._end) if counts and self._form != "csv" else None
                yield self._lines(handle), total

    @property
    def _end(self) -> bytes:
        return b"\0" if self._form == "null" else b"\n"

    async def _given(self, words: Sequence[str]) -> Chunks:
        if self.parts:
            combined = combinations(self._groups)
            while some := list(islice(combined, CHUNK)):
                yield some
            return
        yield list(
            json_lines([word.encode(errors="replace") for word in words]) if self._form == "jsonl" else texts(words)
        )

    async def _numbers(self, numbers: range) -> Chunks:
        left = iter(numbers)
        while some := [Input(str(number)) for number in islice(left, CHUNK)]:
            yield some

    async def _lines(self, handle: int) -> Chunks:
        if self._form == "csv":
            table = Table()
            async for lines in chunks_of_lines(handle):
                yield list(table.rows(lines))
            yield list(table.rest())
            return
        read: Callable[[Sequence[bytes]], Iterator[Input]] = json_lines if self._form == "jsonl" else plain
        chunks: AsyncIterator[list[bytes]] = chunks_of_lines(handle, end=self._end)
        async for lines in chunks:
            for start in range(0, len(lines), CHUNK):
                yield list(read(lines[start : start + CHUNK]))


def _groups(words: Sequence[str]) -> list[list[str]]:
    """What stands behind each `:::`."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word == ":::":
            groups.append([])
        else:
            groups[-1].append(word)
    return groups


def _is_piped() -> bool:
    """Whether something is there to be read: /dev/null and a terminal are nothing."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed
        return False
    return not stat.S_ISCHR(mode)


def _count(handle: int, end: bytes) -> int | None:
    """How many lines a regular file has from here on, the empty ones too; None for anything else."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        return None
    at = start = os.lseek(handle, 0, os.SEEK_CUR)
    count, last = 0, end
    while chunk := os.pread(handle, CHUNK_BYTES, at):
        count += chunk.count(end)
        at += len(chunk)
        last = chunk[-1:]
    return max(0, count + (last != end)) if at > start else 0
