"""Output of runs from two sources, put together without gap and without repetition.

While a job runs its output comes as `log` events, in the order in which it was read; after the end of the run the head
and the tail of each stream are known. Both may tell of the same bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jobrunner.attempts import Stream

if TYPE_CHECKING:
    from jobrunner.events import Log
    from jobrunner.view.rows import AttemptRow, LogChunk

STREAMS: Final = ("out", "err")


@dataclass(frozen=True)
class Piece:
    """What a run wrote. at: when it was read, or when the run ended; stream: out or err."""

    job_id: str
    attempt: int
    stream: str
    at: float
    text: str


@dataclass
class _Shown:
    """How much of a stream was given: the place of the last chunk, where it ended, and how many characters in all."""

    offset_bytes: int = -1
    end_bytes: int = 0
    chars: int = 0
    is_complete: bool = False

    def take(self, offset_bytes: int, text: str) -> str:
        """The text, a line before it if what lies between was not kept."""
        missing = offset_bytes - self.end_bytes
        self.offset_bytes = offset_bytes
        self.end_bytes = offset_bytes + len(text.encode())
        self.chars += len(text)
        return gap(missing) + text

    def rest(self, stream: Stream) -> str:
        """What follows what was given, at the end of the run."""
        if not self.chars:
            return stream.head + rest_of(stream)
        head = stream.head[self.chars :]
        begun = max(self.end_bytes, len(stream.head.encode()))
        tail = stream.tail.encode()
        missing = stream.total_bytes - len(tail) - begun
        if not tail or missing >= 0:
            return head + (gap(missing) if tail else "") + stream.tail
        return head + tail[-missing:].decode(errors="ignore")


@dataclass
class Unfold:
    """Gives each part of a job's output once, whatever order the sources tell it in."""

    job_id: str
    attempt: int | None = None
    streams: tuple[str, ...] = STREAMS
    _shown: dict[tuple[float, str], _Shown] = field(default_factory=dict)

    def _of(self, started_at: float, stream: str) -> _Shown:
        return self._shown.setdefault((started_at, stream), _Shown())

    def _wants(self, attempt: int, stream: str) -> bool:
        return stream in self.streams and self.attempt in (None, attempt)

    def chunk(self, chunk: "LogChunk | Log") -> Iterator[Piece]:
        """What came while it ran."""
        shown = self._of(chunk.started_at, chunk.stream)
        if shown.is_complete or chunk.offset_bytes <= shown.offset_bytes:
            return
        text = shown.take(chunk.offset_bytes, chunk.text)
        if self._wants(chunk.attempt, chunk.stream):
            yield Piece(self.job_id, chunk.attempt, chunk.stream, chunk.at, text)

    def ended(self, attempt: int, started_at: float, at: float, kept: tuple[Stream | None, ...]) -> Iterator[Piece]:
        """What is known at the end of a run and was not given yet. kept: of stdout and stderr."""
        for name, stream in zip(STREAMS, kept, strict=True):
            shown = self._of(started_at, name)
            if shown.is_complete or stream is None:
                continue
            shown.is_complete = True
            text = shown.rest(stream)
            if text and self._wants(attempt, name):
                yield Piece(self.job_id, attempt, name, at, text)

    def past(self, attempts: Iterable["AttemptRow"], chunks: Iterable["LogChunk"]) -> Iterator[Piece]:
        """All that the view knows, run by run."""
        of_run: dict[float, list[LogChunk]] = {}
        for chunk in chunks:
            of_run.setdefault(chunk.started_at, []).append(chunk)
        for row in sorted(attempts, key=lambda row: row.started_at):
            for chunk in of_run.pop(row.started_at, ()):
                yield from self.chunk(chunk)
            if row.ended_at is not None:
                yield from self.ended(row.number, row.started_at, row.ended_at, (row.stdout, row.stderr))
        for started_at in sorted(of_run):
            for chunk in of_run[started_at]:
                yield from self.chunk(chunk)


def rest_of(stream: Stream) -> str:
    """What follows the head: the tail, with a line before it if something between them was not kept."""
    if not stream.tail:
        return ""
    return gap(stream.total_bytes - len(stream.head.encode()) - len(stream.tail.encode())) + stream.tail


def gap(missing_bytes: int) -> str:
    """The line that stands for what was not kept; nothing for nothing."""
    return f"\n… {amount(missing_bytes)} not kept …\n" if missing_bytes > 0 else ""


def amount(size_bytes: int) -> str:
    """`812 bytes`, `64.0 kB`, `3.1 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    for unit, unit_bytes in (("kB", 1e3), ("MB", 1e6)):
        if size_bytes < unit_bytes * 999.95:
            return f"{size_bytes / unit_bytes:.1f} {unit}"
    return f"{size_bytes / 1e9:.1f} GB"


@dataclass
class Lines:
    """Cuts pieces into lines, each with its end; the rest of a stream waits for its next piece."""

    _open: dict[tuple[str, int, str], Piece] = field(default_factory=dict)

    def add(self, piece: Piece) -> Iterator[Piece]:
        """The lines that are complete with this piece."""
        key = (piece.job_id, piece.attempt, piece.stream)
        before = self._open.pop(key, None)
        text = before.text + piece.text if before else piece.text
        *whole, rest = text.split("\n")
        for line in whole:
            yield Piece(*key, piece.at, f"{line}\n")
        if rest:
            self._open[key] = Piece(*key, piece.at, rest)

    def rest(self, job_id: str | None = None) -> Iterator[Piece]:
        """Lines without an end, of one job or of all."""
        for key in [key for key in self._open if job_id in (None, key[0])]:
            yield self._open.pop(key)


def last_lines(pieces: Iterable[Piece], count: int) -> list[Piece]:
    """The last lines, the one without an end included."""
    lines: list[Piece] = []
    cut = Lines()
    for piece in pieces:
        lines.extend(cut.add(piece))
    lines.extend(cut.rest())
    return lines[len(lines) - count :] if count < len(lines) else lines
