"""The states of a child, and its times: how long each step may take."""

import enum
from dataclasses import dataclass
from signal import SIGTERM, Signals
from typing import Final

from jobrunner.outcome import Outcome

HELLO_S: Final = 10.0
READY_S: Final = 60.0
TERM_S: Final = 5.0
"""From SIGTERM to SIGKILL, where the caller says nothing else."""

KILL_S: Final = 5.0
LEAVE_S: Final = 5.0
"""For a child that was told to exit, or has said that it does: its exit handlers."""

EXIT_S: Final = 0.2
"""From the end of the control socket to the exit of a process that is dying by itself."""

STACKS_S: Final = 0.1
"""For a child to write its stacks: it does so within its signal handler."""


class State(enum.Enum):
    """Of a child. Only a FREE one takes work."""

    STARTING = enum.auto()
    FREE = enum.auto()
    BUSY = enum.auto()
    ENDING = enum.auto()


@dataclass(frozen=True, slots=True)
class Ending:
    """That a child ends, and how.

    outcome: of its run; None: to be found from its exit. leave_s: how long it may take to exit by itself.
    term_s: from SIGTERM, or `signal`, to SIGKILL; 0: SIGKILL at once. fault: what it did wrong.
    """

    outcome: Outcome | None = None
    leave_s: float = 0.0
    term_s: float = TERM_S
    signal: Signals = SIGTERM
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Died:
    """How a child ended.

    code: as from `Popen.wait`. reason: in words. ready_s: how long it was ready; None: it never was.
    app: the module that it could not import, if that was it. has_run: whether it was ever given a job.
    """

    code: int
    reason: str
    ready_s: float | None = None
    app: str | None = None
    has_run: bool = False
