"""What `enqueue --from` tells of its lines: ids, refusals and ends, all in the order of the input."""

import sys
from collections import deque
from collections.abc import Callable

from jobrunner.cli import out
from jobrunner.cli.enqueue_result import facts, failure_of
from jobrunner.cli.shared import Shared
from jobrunner.envelope import Envelope
from jobrunner.errors import InputCutShort, JobrunnerError, PartlyDone, Unconfirmed
from jobrunner.watch import End


class Report:
    """Counts and prints. is_waiting: ends are printed in place of ids. is_strict: the first bad line stops it all.

    has_unsure: of some job nobody knows whether it is queued.
    """

    def __init__(self, shared: Shared, *, is_waiting: bool, is_strict: bool) -> None:
        self._shared = shared
        self._is_waiting = is_waiting
        self._is_strict = is_strict
        self._expected: deque[tuple[int, JobrunnerError | None]] = deque()
        self._order: deque[tuple[int, str]] = deque()
        self._ends: dict[str, End] = {}
        self._has_reader = True
        self._last_error: JobrunnerError | None = None
        self._done = "queued"
        self.queued = 0
        self.refused = 0
        self.has_unsure = False
        self.bad_lines = 0
        self.failed = 0
        self.is_stopped = False

    @property
    def waiting(self) -> int:
        """Jobs that were queued and whose end has not been shown."""
        return len(self._order)

    def planned(self) -> None:
        """A line of a dry run is fine."""
        self.queued += 1
        self._done = "would be queued"

    def expect(self, number: int) -> None:
        """The job of this line is on its way; its answer comes later."""
        self._expected.append((number, None))

    def skipped(self, number: int, error: JobrunnerError) -> None:
        """A line that is no job. It is told in its turn."""
        self.bad_lines += 1
        self.is_stopped = self._is_strict
        self._expected.append((number, error))
        if len(self._expected) == 1:
            self._tell_skipped()

    def answered(self, envelope: Envelope, error: JobrunnerError | None) -> None:
        """The broker's answer to the next job in the order of the input."""
        self._tell_skipped()
        number, _ = self._expected.popleft()
        if error is None:
            self.queued += 1
            if self._is_waiting:
                self._order.append((number, envelope.job.id))
                self._tell_ends()
            else:
                self._tell_id(number, envelope.job.id)
        else:
            self.refused += 1
            self.has_unsure = self.has_unsure or isinstance(error, PartlyDone)
            self._tell_error(number, error, "not queued" if not isinstance(error, PartlyDone) else "")
        self._tell_skipped()

    def ended(self, end: End) -> None:
        """A job has ended; it is shown once all before it have."""
        self._ends[end.id] = end
        self._tell_ends()

    def cut_short(self, error: JobrunnerError) -> JobrunnerError:
        """What to say when the input was not read to its end. The error itself where nothing came of any line."""
        if not self._expected or not (self.queued or self.has_unsure):
            return error
        reason = error.message.partition(" Nothing was queued")[0]
        return InputCutShort(reason=reason, line=self._expected[0][0])

    def flush(self) -> None:
        """Pass on what was printed."""
        self._guarded(sys.stdout.flush)

    def summary(self) -> str:
        """`2 queued, 1 line skipped (--strict stops at the first)`."""
        parts = [f"{self.queued:,} {self._done}"]
        if self.refused:
            parts.append(f"{self.refused:,} not queued")
        if self.bad_lines:
            lines = f"{self.bad_lines:,} line{'' if self.bad_lines == 1 else 's'}"
            parts.append(
                "stopped at a bad line" if self.is_stopped else f"{lines} skipped (--strict stops at the first)"
            )
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)

    def conclude(self) -> int:
        """The last line, and the exit code."""
        self.flush()
        self._shared.talk(self.summary())
        if self.bad_lines or self.refused:
            if self.queued or self.has_unsure or self._last_error is None:
                return PartlyDone.exit_code
            return self._last_error.exit_code
        return 1 if self.failed else 0

    def _tell_skipped(self) -> None:
        while self._expected and (error := self._expected[0][1]) is not None:
            number, _ = self._expected.popleft()
            self._tell_error(number, error, "stopped" if self.is_stopped else "skipped")

    def _tell_id(self, number: int, job_id: str) -> None:
        if self._shared.json:
            self._guarded(lambda: out.emit_json({"line": number, "id": job_id}))
        else:
            self._guarded(lambda: out.emit(job_id))

    def _tell_error(self, number: int, error: JobrunnerError, consequence: str) -> None:
        self._last_error = error
        if self._shared.json:
            shown = {"code": error.code, "message": error.message, "hint": error.hint or None, "exit": error.exit_code}
            self._guarded(lambda: out.emit_json({"line": number, "error": shown}))
            return
        if isinstance(error, Unconfirmed):  # there is no hint here, which has the whole id
            told = error.fields
            error = Unconfirmed(until=told["until"], job_id=told["full_id"], full_id=told["full_id"])
        sentence = out.printable(error.message.removesuffix(" Nothing was queued.").removesuffix("."))
        out.say(f"line {number}: {sentence}{'; ' if consequence else ''}{consequence}")

    def _tell_ends(self) -> None:
        while self._order and (end := self._ends.pop(self._order[0][1], None)) is not None:
            number, _ = self._order.popleft()
            self.failed += failure_of(end) is not None
            self._guarded(lambda number=number, end=end: self._tell_end(number, end))  # type: ignore[misc]

    def _tell_end(self, number: int, end: End) -> None:
        if self._shared.json:
            out.emit_json({"line": number, "id": end.id} | facts(end))
            return
        error = failure_of(end)
        if error is None:
            shown = bytes(end.result or b"null").decode()
        else:
            shown = end.error.headline if end.error else error.message
        if sys.stdout.isatty():
            shown = out.printable(shown)
        out.emit("\t".join((end.id, end.state, out.cell(shown) if error else shown)))

    def _guarded(self, write: Callable[[], object]) -> None:
        """Write, unless nobody reads any more: `| head -1` must not keep the other jobs from being queued."""
        if not self._has_reader:
            return
        try:
            write()
        except BrokenPipeError:
            self._has_reader = False
            out.silence_stdout()
