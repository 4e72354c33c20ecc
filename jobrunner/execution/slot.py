"""One slot of the pool: one child after another."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

from jobrunner import attempts
from jobrunner.execution.handle import Handle, Surface
from jobrunner.execution.lifecycle import Died, State
from jobrunner.execution.messages import Finished, Work
from jobrunner.execution.output import HeadTail
from jobrunner.outcome import Interrupted

BACKOFF_S: Final = (0.1, 30.0)
_SHORT_LIFE_S: Final = 1.0


class Slot:
    """Keeps a child.

    number: from 0. failed: told of each child that was never ready. may_start: asked before each start.
    """

    def __init__(
        self, number: int, pool: Surface, failed: Callable[[Died], None], may_start: Callable[[], bool]
    ) -> None:
        self._number = number
        self._pool = pool
        self._failed = failed
        self._may_start = may_start
        self._child: Handle | None = None
        self._next: Handle | None = None
        self._failures = 0
        self._stopping = False
        self._wake = asyncio.Event()

    async def keep(self) -> None:
        """Start a child, see it to its end, start the next; until stopped."""
        while not self._stopping and self._may_start():
            try:
                self._child, self._next = self._next or Handle(self._number, self._pool, self._prepare), None
            except OSError as exc:
                died = Died(1, f"the system starts no process: {exc}")
            else:
                self._child.step_in()
                died = await self._child.until_gone()
                self._child = None
            self._judge(died)
            if self._failures and not self._stopping:
                await self._pause()
        if self._next is not None:
            await self._next.until_gone()

    def _prepare(self) -> None:
        """The child comes near its memory limit: have its successor ready before it retires."""
        if self._next is None and not self._stopping:
            with contextlib.suppress(OSError):  # then it leaves at its limit, and is replaced after that
                self._next = Handle(self._number, self._pool, self._prepare, self._relieve)

    def _relieve(self) -> None:
        """The successor is ready: it takes over once the child has no job and is gone."""
        if self._child is not None and self._child.state is State.FREE:
            self._child.retire()
        elif self._child is not None:
            self._child.is_stale = True

    def _judge(self, died: Died) -> None:
        if died.ready_s is None:
            self._failures += 1
            if not self._stopping:
                self._failed(died)
        elif died.ready_s < _SHORT_LIFE_S and died.code and not died.has_run:
            # it did start; but there is no reason to hurry. One that a job took along is another matter: the job has a
            # budget for that, and the next job must not wait for it
            self._failures += 1
        else:
            self._failures = 0

    async def _pause(self) -> None:
        first_s, most_s = BACKOFF_S
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(most_s, first_s * 2.0 ** min(self._failures - 1, 30))):
                await self._wake.wait()

    def run(self, work: Work) -> None:
        """Hand a job to the child. If that was just lost, the job ends as interrupted: nothing of it ran."""
        if self._child is not None and self._child.state is State.FREE:
            self._child.run(work)
            return
        ran = self._nowhere(time.time())
        self._pool.post(Finished(slot=self._number, key=work.key, outcome=Interrupted(), ran=ran, ready=False))

    def interrupt(self, term_s: float, number: signal.Signals) -> None:
        """Kill the run, if there is one."""
        if self._child is not None and self._child.state is State.BUSY:
            self._child.interrupt(term_s, number)

    def output(self) -> tuple[HeadTail | None, HeadTail | None]:
        """What the current run has written so far."""
        return (None, None) if self._child is None else self._child.output()

    def ran(self) -> attempts.Run:
        """Where and when the current child's run started, or its last one ran; of process 0 without a child."""
        return self._nowhere(None) if self._child is None else self._child.ran

    def _nowhere(self, ended_at: float | None) -> attempts.Run:
        worker = self._pool.settings.worker
        return attempts.Run(
            worker=worker, host=socket.gethostname(), pid=0, started_at=ended_at or time.time(), ended_at=ended_at
        )

    def renew(self) -> None:
        """Replace the child: at once if it is free, else after its job. One that is awaited is started at once."""
        self._failures = 0
        self._wake.set()
        if self._next is not None:
            self._next.is_stale = True
        if self._child is None:
            return
        if self._child.state is State.FREE:
            self._child.retire()
        else:
            self._child.is_stale = True

    def ping(self) -> None:
        """Ask a free child whether it is there."""
        if self._child is not None:
            self._child.ping()

    def stacks(self, on_text: Callable[[str], None]) -> None:
        """Let the child write its stacks."""
        if self._child is not None:
            self._child.stacks(on_text)

    def stop(self, term_s: float) -> None:
        """Start no further child and end this one; `keep` returns when it is gone."""
        self._stopping = True
        self._wake.set()
        for child in filter(None, (self._child, self._next)):
            self._end(child, term_s)

    @staticmethod
    def _end(child: Handle, term_s: float) -> None:
        match child.state:
            case State.FREE:
                child.retire()
            case State.BUSY:
                child.is_stale = True  # if its result is there, it retires
                child.interrupt(term_s)
            case State.STARTING:
                child.kill()
            case State.ENDING:
                pass
