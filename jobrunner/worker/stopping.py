"""How a worker stops: first take nothing more and let the running jobs finish, then hand back what is left."""

import asyncio
import logging
from collections.abc import Callable

from jobrunner.execution.pool import Pool
from jobrunner.failpoint import failpoint
from jobrunner.worker import inbox, journal
from jobrunner.worker.slots import Slots

KILL_S = 1.0
"""SIGTERM to SIGKILL for what outlives the grace."""

CONFIRM_S = 4.0
"""After the grace: the kill order and the confirms of what follows, so that a grace of 25 s ends before 30 s. What is
not confirmed by then stays unacked: the broker still has it."""


class Stopping:
    """The state of the stop: running, draining, handing back, over."""

    def __init__(self, grace_s: float, slots: Slots, pool: Pool, post: Callable[[inbox.Local], None]) -> None:
        self.signals: list[int] = []
        self._grace_s = grace_s
        self._slots = slots
        self._pool = pool
        self._post = post
        self._paused = False
        self._killing = False
        self._gave_up = False

    def is_over(self, runs: bool) -> bool:
        """Whether nothing can happen any more: no consumer, and no run that is not settled."""
        return self._gave_up or (self._paused and not runs)

    @property
    def is_begun(self) -> bool:
        """Whether nothing more is taken."""
        return bool(self.signals)

    @property
    def is_killing(self) -> bool:
        """Whether what runs is ended by now."""
        return self._killing

    @property
    def exit_code(self) -> int:
        """0, or 128 + the second signal's number."""
        return 128 + self.signals[1] if len(self.signals) > 1 else 0

    def advance(self, message: inbox.StopRequested | inbox.GraceOver | inbox.ConsumersPaused | inbox.GiveUp) -> None:
        """The next step."""
        match message:
            case inbox.StopRequested(signal=number):
                self.signals.append(number)
                if len(self.signals) == 1:
                    self._drain()
                else:
                    self._hand_back()
            case inbox.GraceOver():
                self._hand_back()
            case inbox.ConsumersPaused():
                failpoint("shutdown.after_cancel")
                self._paused = True
            case inbox.GiveUp():
                self._gave_up = True

    def _drain(self) -> None:
        """First signal. The connections stay: closing them early would requeue the running jobs."""
        running = len(self._slots.busy)
        plural = "job" if running == 1 else "jobs"
        wait = f" {running} {plural} running, waiting up to {self._grace_s:g} s." if running else ""
        journal.say(logging.INFO, "worker.stopping", f"Stopping.{wait}", running=running, grace_s=self._grace_s)
        self._slots.stop()
        asyncio.get_running_loop().call_later(self._grace_s, self._post, inbox.GraceOver())

    def _hand_back(self) -> None:
        """Grace over, or second signal. Killed first, handed back when the whole group is gone: no overlap."""
        if self._killing:
            return
        self._killing = True
        for child in self._slots.busy:
            self._pool.interrupt(child, KILL_S)
        asyncio.get_running_loop().call_later(CONFIRM_S, self._post, inbox.GiveUp())
