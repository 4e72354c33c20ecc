"""What a child runs: one job after the other, each with its deadline, its times and what it writes."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobrunner import attempts
from jobrunner.execution import endings
from jobrunner.execution.messages import Work
from jobrunner.execution.output import KEPT_BYTES, RESULT_BYTES, Capture
from jobrunner.execution.process import Process
from jobrunner.outcome import Outcome


@dataclass(slots=True)
class Run:
    """One of them. number: from 1. deadline: seconds since the epoch; None: it may take as long as it likes."""

    work: Work
    number: int
    started_at: float
    deadline: float | None = None
    timer: asyncio.TimerHandle | None = None


class Runs:
    """The runs of one child. worker: its worker's name. current: None while it has no job. count: of those so far."""

    def __init__(self, process: Process, worker: str, loop: asyncio.AbstractEventLoop) -> None:
        self.current: Run | None = None
        self.count = 0
        self.ran = attempts.Run(worker=worker, host=socket.gethostname(), pid=process.pid, started_at=time.time())
        """Where and when the current run started, or the last one ran."""
        self.stdout = Capture(process.stdout_fd, loop)
        self.stderr = Capture(process.stderr_fd, loop)
        self._loop = loop

    def begin(self, work: Work, on_deadline: Callable[[Run, float], None]) -> Run:
        """The next run, from now on. on_deadline: called with the run and its timeout in seconds if that passes."""
        now = time.time()
        self.count += 1
        self.current = run = Run(work, self.count, now)
        self.ran = attempts.Run(worker=self.ran.worker, host=self.ran.host, pid=self.ran.pid, started_at=now)
        self.stdout.begin(KEPT_BYTES if work.argv is None else RESULT_BYTES)
        self.stderr.begin()
        if work.timeout_s is not None:
            run.deadline = now + work.timeout_s
            run.timer = self._loop.call_later(work.timeout_s, on_deadline, run, work.timeout_s)
        return run

    def end(self, outcome: Outcome) -> tuple[Run, Outcome]:
        """The current run is over: it, and its outcome with what the parent has to add. `ran` tells the rest."""
        run = self.current
        assert run is not None  # noqa: S101 - each caller has looked
        self.current = None
        if run.timer is not None:
            run.timer.cancel()
        stdout, stderr = self.stdout.take(), self.stderr.take()
        if run.work.argv is not None:
            outcome = endings.complete(outcome, stdout, stderr)
        self.ran = attempts.Run(
            worker=self.ran.worker,
            host=self.ran.host,
            pid=self.ran.pid,
            started_at=run.started_at,
            ended_at=time.time(),
            stdout=None if stdout is None else stdout.stream(),
            stderr=None if stderr is None else stderr.stream(),
        )
        return run, outcome

    def drop(self) -> None:
        """The current run has not begun: it is handed over again."""
        if self.current is not None and self.current.timer is not None:
            self.current.timer.cancel()
        self.current = None

    def close(self) -> None:
        """Read no more of what it writes."""
        self.stdout.close()
        self.stderr.close()
