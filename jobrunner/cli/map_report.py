"""What `map` prints: results on stdout, what failed and how it went on stderr."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobrunner.cli import out, phrases
from jobrunner.cli.enqueue_warnings import LABELS, Warnings
from jobrunner.cli.map_files import output_of
from jobrunner.cli.shared import Shared
from jobrunner.errors import JobrunnerError
from jobrunner.mapping.items import Ended
from jobrunner.mapping.line import Counts
from jobrunner.mapping.plan import Listener

if TYPE_CHECKING:
    from jobrunner.cli.map_bar import Bar
    from jobrunner.cli.map_files import JobLog, Results

FAILURES_SHOWN: Final = 10
FLUSH_S: Final = 0.05
TROUBLE_S: Final = 30.0


class Report(Listener):
    """Prints each result, and at the end the rest. Failures are kept, the first ten of them."""

    def __init__(self, shared: Shared, *, is_command: bool) -> None:
        self._shared = shared
        self._is_command = is_command
        self._is_terminal = sys.stdout.isatty()
        self._failures: list[Ended] = []
        self._never_queued = 0
        self._flushing: asyncio.TimerHandle | None = None
        self._began = time.monotonic()
        self._troubled = float("-inf")
        self.bar: Bar | None = None
        self.joblog: JobLog | None = None
        self.results: Results | None = None

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def ended(self, ended: Ended) -> None:
        """Write its line and its files. Raises: BadValue."""
        if self.joblog is not None:
            self.joblog.write(ended)
        if self.results is not None:
            self.results.write(ended)
        self._never_queued += not ended.was_queued
        if ended.state != "succeeded" and len(self._failures) < FAILURES_SHOWN:
            self._failures.append(ended)
        self._flush_soon()

    def result(self, ended: Ended) -> None:
        """Print it."""
        if self._is_terminal and self.bar is not None:
            self.bar.clear()
        if self._shared.json:
            out.emit_json(document(ended))
        elif ended.state == "succeeded":
            self._print(ended)

    def trouble(self, error: JobrunnerError) -> None:
        """Say that it takes longer, not too often."""
        if time.monotonic() - self._troubled > TROUBLE_S:
            self._troubled = time.monotonic()
            self.talk(f"{out.mark('!', self._shared.color, sys.stderr)} {out.printable(error.message)} Trying again.")

    def warn(self, warnings: Warnings) -> None:
        """Say why nothing happens."""
        for one in warnings:
            if self.bar is not None:
                self.bar.clear()
            self._shared.warn(one["text"])
            self._shared.talk(f"  {LABELS[one['code']]}:  {one['fix']}")

    def talk(self, text: str) -> None:
        """A line for people."""
        if self.bar is not None:
            self.bar.clear()
        self._shared.talk(text)

    def _print(self, ended: Ended) -> None:
        if not self._is_command:
            text = bytes(ended.result or b"null").decode()
            sys.stdout.write((out.printable(text) if self._is_terminal else text) + "\n")
            return
        text = output_of(ended)
        if self._is_terminal:
            text = out.printable(text, keep="\n\t")
            text += "" if not text or text.endswith("\n") else "\n"
        sys.stdout.write(text)

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            return  # the next result finds it too, where it ends the map
        if self.joblog is not None:
            self.joblog.flush()

    def close(self) -> None:
        """No timer is left."""
        if self._flushing is not None:
            self._flushing.cancel()

    # --- the end ----------------------------------------------------------------------------------------------------

    def conclude(self, run: str, counts: Counts) -> None:
        """The last line of `--json`, or the summary."""
        sys.stdout.flush()
        took_s = self.took_s
        if self._shared.json:
            out.emit_json(totals(run, counts, took_s))
            return
        is_well = not counts.failed and not counts.skipped and not counts.cut
        if is_well and not (self.bar is not None and self.bar.was_drawn):
            return
        self.talk(self._summary(counts, took_s))
        for ended in self._failures:
            self.talk(self._failure(ended))
        if counts.failed > len(self._failures):
            self.talk(f"  and {counts.failed - len(self._failures):,} more: jobrunner list run:{run} state:failed")
        if (
            counts.dead > self._never_queued
        ):  # what has no job is not in the ledger, where those that are dead are looked up
            self.talk(f"  Again, only these:  add  --run {run} --retry-failed")

    def _summary(self, counts: Counts, took_s: float) -> str:
        color = self._shared.color
        parts = [f"{out.mark('✓', color, sys.stderr)} {counts.succeeded:,} ok"]
        names = {"dead": "failed", "cancelled": "cancelled", "expired": "expired"}
        for state, word in names.items():
            if count := getattr(counts, state):
                parts.append(f"{phrases.mark_of(state, color, sys.stderr)} {count:,} {word}")
        if counts.cut:
            parts.append(f"{counts.cut:,} cut at 1 MiB")
        if counts.skipped:
            parts.append(f"{counts.skipped:,} skipped")
        rate = f" ({_per_second(counts.ended / took_s)}/s)" if counts.ended and took_s else ""
        return f"{'  '.join(parts)}  in {_took(took_s)}{rate}"

    def _failure(self, ended: Ended) -> str:
        error = ended.error
        why = ended.state if error is None else error.headline
        if error is not None and error.exit is not None:
            said = "" if error.message == f"exit code {error.exit}" else f"  {error.message}"
            why = f"exit {error.exit}{said}"
        where = f"   jobrunner logs {phrases.prefix(ended.id)}" if ended.was_queued else ""
        return f"  {out.printable(_short(ended.text))}  {out.printable(why)}{where}"


def _took(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return phrases.took(seconds)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def document(ended: Ended) -> dict[str, Any]:
    """The line of `--json` of one input."""
    error = None if ended.error is None else msgspec.structs.replace(ended.error, traceback=None)
    return {
        "seq": ended.seq,
        "input": ended.text,
        "id": ended.id,
        "state": ended.state,
        "took_s": ended.took_s,
        "result": ended.result,
        "error": error,
    }


def totals(run: str, counts: Counts, took_s: float) -> dict[str, Any]:
    """The last line of `--json`."""
    return {
        "run": run,
        "total": counts.added + counts.skipped,
        "succeeded": counts.succeeded,
        "dead": counts.dead,
        "cancelled": counts.cancelled,
        "expired": counts.expired,
        "skipped": counts.skipped,
        "took_s": round(took_s, 3),
    }


def _per_second(rate: float) -> str:
    """`21,400`, `210`, `21.4`, `2.1`."""
    return f"{rate:,.0f}" if rate >= 99.5 else f"{rate:.1f}"
