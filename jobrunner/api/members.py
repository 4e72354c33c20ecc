"""What both faces of a group have in common: its members, and whether more may come."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

from jobrunner.api.ends import Ticket
from jobrunner.api.options import Options, When, after_run
from jobrunner.api.runs import new_run
from jobrunner.errors import RunExists
from jobrunner.watch import end_in

if TYPE_CHECKING:
    from jobrunner.api.core import Core
    from jobrunner.view.rows import JobRow

H = TypeVar("H")


class Members(Generic[H]):
    """The jobs of a group. name: None makes one up. resume: there may be jobs of that run already.

    failed: how many could not be queued. is_new: whether it was not looked up yet what there is of that run.
    """

    def __init__(self, name: str | None, *, resume: bool) -> None:
        self.run = name or new_run()
        self.handles: list[H] = []
        self.failed = 0
        self.is_sealed = False
        self.is_new = name is not None
        self.asked = None if resume else 1  # how many jobs of it are wanted from the ledger; None: all
        self._began_s = time.time()
        self._numbers = count()
        self._beginning = asyncio.Lock()

    def __str__(self) -> str:
        return f"{self.run}: {len(self.handles)} jobs{', sealed' if self.is_sealed else ''}"

    async def begin(self, core: "Core", handle_of: Callable[[Ticket], H]) -> None:
        """Look up what there is, once: of several who begin at the same moment the second would count it twice, or meet
        what the first has queued. On the client's loop. Raises: RunExists, the broker's errors.
        """
        async with self._beginning:
            if self.is_new:
                self.take(await core.members(self.run, self.asked), handle_of)

    def take(self, rows: Sequence["JobRow"], handle_of: Callable[[Ticket], H]) -> None:
        """What there is of that run. A name is used once: else what waits for the run would count other jobs too.

        Raises: RunExists.
        """
        if rows and self.asked is not None:
            raise RunExists(run=self.run, hint=f"client.group({self.run!r}, resume=True) · another name")
        self.is_new = False
        self._numbers = count(1 + max((row.seq for row in rows if row.seq is not None), default=-1))
        for row in rows:
            ticket = Ticket(row.id, self.run)
            ticket.at_s, ticket.chain = row.created_at or self._began_s, row.chain
            self._began_s = min(self._began_s, ticket.at_s)
            if row.is_ended:
                ticket.settle(end_in(row))
            self.handles.append(handle_of(ticket))

    def check_open(self) -> None:
        """Raises: RuntimeError."""
        if self.is_sealed:
            raise RuntimeError(f"the group {self.run} is sealed: no job is added to it any more")

    def options(self, base: Options) -> Options:
        """Those of the next members. Each has its own number, also from several threads at once."""
        return replace(base, run=self.run, numbers=self._numbers)

    def after(self, when: When) -> Options:
        """Those of a job that runs when the group has ended."""
        return after_run(self.run, self._began_s, when)
