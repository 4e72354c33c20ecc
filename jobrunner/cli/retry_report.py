"""What `jobrunner retry` tells: ids for programs, a line for each job for people, how the canaries ended."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from jobrunner.cli import out
from jobrunner.cli.phrases import mark_of, plural
from jobrunner.cli.shared import Shared
from jobrunner.errors import PartlyDone
from jobrunner.instants import show_instant

if TYPE_CHECKING:
    from jobrunner.fixing.retrying import Retried
    from jobrunner.view.rows import JobRow
    from jobrunner.watch import End

SHOWN: Final = 20
"""More jobs than this get no lines of their own on a terminal, but for those that were left alone."""


class Report:
    """Told of each job; `end` gives the exit code."""

    def __init__(self, shared: Shared, delay_s: float = 0.0) -> None:
        """delay_s: they are due so much later."""
        self._shared = shared
        self._delay_s = delay_s
        self._is_shown = sys.stdout.isatty() and not shared.json and not shared.quiet
        self._names: dict[str, str] = {}
        self._documents: list[dict[str, Any]] = []
        self._canaries: list[dict[str, Any]] = []
        self._marks: list[str] = []
        self._canary_error: str | None = None
        self.queued = 0
        self.failed_ids: set[str] = set()

    def dry_run(self, good: Sequence["JobRow"], rows: Sequence["JobRow"], what: str) -> int:
        """Only what would be done."""
        from jobrunner.fixing.retrying import refusal

        alone = {row.id: reason for row in rows if (reason := refusal(row)) is not None}
        if self._shared.json:
            documents: list[dict[str, Any]] = [{"id": row.id, "chain": row.chain + 1, "error": None} for row in good]
            documents += [{"id": job_id, "chain": None, "error": reason} for job_id, reason in alone.items()]
            out.emit_json({"dry_run": True, "jobs": documents})
        elif self._is_shown:
            out.emit(f"would {out.printable(what)}".rstrip(","))
        else:
            for row in good:
                out.emit(row.id)
        for job_id, reason in alone.items():
            self._shared.talk(f"{job_id[:8]}  {reason}; it would be left alone.")
        return 0

    def begin(self, good: Sequence["JobRow"], refused: Sequence["JobRow"]) -> None:
        """What is going to be done, and what is not."""
        from jobrunner.fixing.retrying import Retried, refusal

        if len(good) <= SHOWN:
            self._names = {row.id: row.queue for row in good}
        for row in refused:
            self.done(Retried(id=row.id, error=refusal(row)))
        if not good and not refused:
            self._shared.talk("Nothing to retry.")

    def done(self, one: "Retried") -> None:
        """A job is queued again, or was left alone."""
        self._documents.append({"id": one.id, "chain": one.chain, "error": one.error, "note": one.note})
        if one.error is not None:
            self.failed_ids.add(one.id)
            self._tell(one.id, self._shared.mark("✗"), f"{one.error}; left alone")
            return
        self.queued += 1
        if not self._is_shown and not self._shared.json:
            out.emit(one.id)
        if one.note or (self._is_shown and one.id in self._names):
            state, text = "queued", "queued again"
            if self._delay_s:
                now = time.time()
                state, text = "scheduled", f"queued again, {show_instant(now + self._delay_s, now)}"
            self._tell(one.id, mark_of(state, self._shared.color, sys.stdout), one.note or text)

    def _tell(self, job_id: str, mark: str, text: str) -> None:
        """A line for people: on stdout if that is a terminal, else on stderr, where it is not taken for an id."""
        line = f"{job_id[:8]}  {mark} {out.printable(text)}"
        if self._is_shown:
            out.emit(line)
        elif not self._shared.json:
            out.say(line)

    def canary(self, end: "End | None") -> bool:
        """A canary has ended; None: not all of them could be queued. Gives whether the others may follow."""
        if end is None:
            self._canary_error = "not all could be queued."
            return False
        succeeded = end.state == "succeeded"
        error = end.error.headline if end.error else None
        self._canaries.append({"id": end.id, "state": end.state, "error": end.error})
        self._marks.append("✓" if succeeded else "✗")
        if not succeeded:
            self._canary_error = (error or end.state).removesuffix(".") + "."
        return succeeded

    def end(self, untouched: int = 0) -> int:
        """The last words, and the exit code. untouched: jobs that a failed canary has kept back."""
        if self._shared.json:
            extra: dict[str, Any] = {"canary": self._canaries, "untouched": untouched} if self._canaries else {}
            out.emit_json({"jobs": self._documents, **extra})
        if self._canary_error is not None:
            marks = "".join(f"{out.mark(each, self._shared.color, sys.stderr)} " for each in self._marks)
            self._shared.talk(
                f"canary {marks}{out.printable(self._canary_error)} Stopped: {untouched:,} left untouched."
            )
            return 1
        if self._marks:
            self._shared.talk(f"canary {' '.join(self._marks)}  The others follow.")
        if self.queued > SHOWN:
            self._shared.talk(f"{plural(self.queued, 'job')} queued again.")
        return PartlyDone.exit_code if self.failed_ids else 0
