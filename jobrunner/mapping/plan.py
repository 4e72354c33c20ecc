"""What is asked of a map, and who is told of it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from jobrunner.errors import JobrunnerError
from jobrunner.mapping.halt import Halt
from jobrunner.mapping.inputs import Input
from jobrunner.mapping.items import Ended
from jobrunner.mapping.known import Past

Chunks = AsyncGenerator[Sequence[Input], None]
Seal = Callable[[int, int, bool], Awaitable[None]]
"""Told how many jobs the run has, how many inputs failed without one, and whether failed calls of batches count too."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """limit: inputs on their way at most. halt: when to end early. waits: whether ends are waited for.

    tells_running: whether jobs are counted that run.
    seal: called once when no more jobs will come of it.
    past: what is known of the run, None for a new one. only_dead: of that, only what is dead runs again.
    """

    limit: int
    ordered: bool = True
    halt: Halt | None = None
    past: Past | None = None
    only_dead: bool = False
    waits: bool = True
    tells_running: bool = False
    seal: Seal | None = None


class Listener:
    """What is told of a map while it goes on; each method may be overridden."""

    def ended(self, ended: Ended) -> None:
        """An input has ended, told at once."""

    def result(self, ended: Ended) -> None:
        """The same, in the order that was asked for."""

    def trouble(self, error: JobrunnerError) -> None:
        """Queueing takes longer, and why."""
