"""Output of jobs on stdout: as it was, by lines with prefixes, or as JSON Lines."""

import sys
from dataclasses import dataclass, field
from typing import Final, TextIO

import click

from jobrunner.cli import out
from jobrunner.cli.phrases import clock
from jobrunner.cli.pieces import Lines, Piece
from jobrunner.cli.shared import Shared

_COLORS: Final = ("cyan", "magenta", "green", "yellow", "blue")


@dataclass
class Printer:
    """Writes pieces. has_ids: each line begins with its job; has_times: with its time.

    splits: stderr of the jobs goes to our stderr, otherwise both go to stdout. has_written: anything at all.
    """

    shared: Shared
    has_ids: bool = False
    has_times: bool = False
    splits: bool = False
    has_written: bool = False
    _lines: Lines = field(default_factory=Lines)
    _ends_open: dict[str, bool] = field(default_factory=dict)
    _colors: dict[str, str] = field(default_factory=dict)
    _attempt: int | None = None

    @property
    def is_raw(self) -> bool:
        """Whether pieces are written as they come, also without the end of a line."""
        return not (self.has_ids or self.has_times or self.shared.json)

    def write(self, piece: Piece) -> None:
        """A piece of output."""
        self.has_written = True
        if self.is_raw:
            self._head(piece.attempt)
            self._put(piece.stream, "", piece.text)
            return
        for line in self._lines.add(piece):
            self.line(line)

    def _head(self, attempt: int) -> None:
        """On a terminal each attempt after the first has a line above it."""
        before, self._attempt = self._attempt, attempt
        if before not in (None, attempt) and sys.stdout.isatty():
            self._end_lines()
            self.shared.talk(f"… try {attempt}")

    def _end_lines(self) -> None:
        for stream, is_open in self._ends_open.items():
            if is_open and self._target(stream).isatty():
                self._target(stream).write("\n")
        self._ends_open.clear()

    def finish(self, job_id: str | None = None) -> None:
        """No more comes of this job, or of any: what waits for the end of its line is written."""
        for line in self._lines.rest(job_id):
            self.line(line)
        sys.stdout.flush()

    def close(self) -> None:
        """The last line on a terminal has an end, so that what follows begins a line."""
        self.finish()
        self._end_lines()
        sys.stdout.flush()

    def line(self, line: Piece) -> None:
        """A whole line, with what was asked for before it."""
        text = line.text.removesuffix("\n")
        if self.shared.json:
            facts = {"at": out.iso(line.at), "id": line.job_id, "attempt": line.attempt, "stream": line.stream}
            out.emit_json({**facts, "text": text})
            return
        target = self._target(line.stream)
        start = ""
        if self.has_times:
            start += f"{clock(line.at) if target.isatty() else out.iso(line.at)} "
        if self.has_ids:
            start += f"{self._id(line.job_id) if target.isatty() else line.job_id} "
        self._put(line.stream, start, f"{text}\n")

    def _id(self, job_id: str) -> str:
        if not out.has_color(self.shared.color, sys.stdout):
            return job_id[:8]
        color = self._colors.setdefault(job_id, _COLORS[len(self._colors) % len(_COLORS)])
        return click.style(job_id[:8], fg=color)

    def _target(self, stream: str) -> TextIO:
        return sys.stderr if self.splits and stream == "err" else sys.stdout

    def _put(self, stream: str, start: str, text: str) -> None:
        """Write it; on a terminal without control characters that could act on it. start: ours."""
        target = self._target(stream)
        target.write(start + (out.printable(text, keep="\n\t") if target.isatty() else text))
        target.flush()
        self._ends_open[stream] = not text.endswith("\n")
