"""What a worker says of itself: in the ledger when it comes, every 20 s and when it goes; at once to whoever asks."""

import platform
import socket
import time
from typing import TYPE_CHECKING

from jobrunner import __version__, attempts, events
from jobrunner.broker.control import Reply, RunningJob
from jobrunner.worker.delivered import Run
from jobrunner.worker.pauses import Pauses
from jobrunner.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEARTBEAT_S = 20.0
"""Readers take a worker for gone after three of them."""


class Presence:
    """The facts about this worker."""

    def __init__(self, settings: WorkerSettings, pid: int, pauses: Pauses) -> None:
        self._settings = settings
        self._pauses = pauses
        self._pid = pid
        self._host = socket.gethostname()
        self._started_at = time.time()
        self.functions: list[str] = []
        self.waiting: Callable[[], int] = lambda: 0

    @property
    def host(self) -> str:
        """The name of this machine."""
        return self._host

    def event(self, phase: str, *, busy: int, done: int) -> events.Worker:
        """A record of the worker's life. phase: online, heartbeat or offline."""
        settings = self._settings
        return events.Worker(
            at=time.time(),
            phase=phase,
            name=settings.name,
            host=self._host,
            pid=self._pid,
            version=__version__,
            python=platform.python_version(),
            slots=settings.procs,
            busy=busy,
            queues=list(settings.queues),
            started_at=self._started_at,
            done=done,
            functions=self.functions if phase == "online" else [],
            allow_commands=settings.allow_commands,
            allow_programs=list(settings.allow_programs),
            allow_import=list(settings.allow_import),
        )

    def reply(
        self,
        running: dict[int, tuple[Run, attempts.Run]],
        jobs: dict[str, str],
        stack: str | None,
        held: "Sequence[str]" = (),
    ) -> Reply:
        """The answer to a question. running: slot -> what runs there. held: what else is here."""
        settings = self._settings
        return Reply(
            worker=settings.name,
            host=self._host,
            pid=self._pid,
            version=__version__,
            slots=settings.procs,
            busy=len(running),
            queues=list(settings.queues),
            started_at=self._started_at,
            functions=self.functions,
            allow_commands=settings.allow_commands,
            allow_programs=list(settings.allow_programs),
            allow_import=list(settings.allow_import),
            running=[
                RunningJob(
                    id=run.envelope.job.id,
                    attempt=run.envelope.attempt,
                    started_at=ran.started_at,
                    pid=ran.pid,
                    slot=slot + 1,
                )
                for slot, (run, ran) in sorted(running.items())
            ],
            jobs=jobs,
            stack=stack,
            at=time.time(),
            waiting=self.waiting(),
            paused=self._pauses.in_force(time.time()),
            held=list(held),
        )
