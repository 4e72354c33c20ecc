"""Output of jobs while they run, up to the last one's end."""

from collections.abc import Mapping
from typing import Final

from jobrunner import events
from jobrunner.attempts import Run
from jobrunner.cli.live import Events
from jobrunner.cli.output_print import Printer
from jobrunner.cli.pieces import Unfold
from jobrunner.events import JobEvent
from jobrunner.watch import End, end_of

_ENDS: Final = events.Succeeded | events.Dead | events.Cancelled | events.Expired


class Following:
    """Prints what comes of some jobs. unfolds: id -> what was given of its output. ends: of those that have ended."""

    def __init__(self, printer: Printer, unfolds: Mapping[str, Unfold]) -> None:
        self._printer = printer
        self.unfolds = unfolds
        self.ends: dict[str, End] = {}

    @property
    def left(self) -> list[str]:
        """The jobs that go on."""
        return [job_id for job_id in self.unfolds if job_id not in self.ends]

    def end(self, end: End) -> None:
        """A job has ended, and all its output is known."""
        self._printer.finish(end.id)
        self.ends[end.id] = end

    async def to_the_end(self, live: Events) -> None:
        """Print until all have ended."""
        while self.left:
            self.take(await live.next())

    def take(self, event: JobEvent) -> None:
        """An event of one of the jobs."""
        if event.id in self.ends:
            return
        unfold = self.unfolds[event.id]
        if isinstance(event, events.Log):
            for piece in unfold.chunk(event):
                self._printer.write(piece)
        elif (ran := _run_of(event)) is not None and ran.ended_at is not None:
            kept = (ran.stdout, ran.stderr)
            for piece in unfold.ended(event.attempt, ran.started_at, ran.ended_at, kept):
                self._printer.write(piece)
        if isinstance(event, _ENDS):
            self.end(end_of(event))

    def left_words(self) -> str:
        """`k7f2m9xq goes on.`, `3 jobs go on.`"""
        left = self.left
        return f"{left[0][:8]} goes on." if len(left) == 1 else f"{len(left):,} jobs go on."


def _run_of(event: JobEvent) -> Run | None:
    """The run that an event ended."""
    if isinstance(event, events.Succeeded | events.Retrying | events.Dead | events.Interrupted | events.Cancelled):
        return event.ran
    return None
