"""What is known of one job, merged event by event: the same in whatever order they come, and however often.

Each group of fields keeps the greatest of what was told, by a key of its own. A new chain (a manual retry) begins
all of them anew but the last, and events of an earlier chain no longer change them:
- the state: an end goes before everything else (`rank`: succeeded, dead, cancelled, expired), then the higher copy,
  then what ended a copy (`final`: retrying, parked), then the later run (`run_at`), then how far it was (`phase`);
- when it is due: the copy that will be due, then the time;
- the last run: the higher copy, then the later start;
- what it is, from the `queued` event: the higher chain, the higher copy, then the earlier record.
Clocks of two machines are compared only where one copy ran on both.
"""

from typing import Final

import msgspec

RANK: Final = {"expired": 1, "cancelled": 2, "dead": 3, "succeeded": 4}
"""State after an end -> its weight among the ends of one chain. 0: has not ended."""

PHASE_WAITING: Final = -1
PHASE_QUEUED: Final = 0
PHASE_PROGRESS: Final = 1
PHASE_LOG: Final = 2
PHASE_STARTED: Final = 3
PHASE_INTERRUPTED: Final = 4


class Draft(msgspec.Struct, gc=False):
    """The row of a job in the table `jobs`, columns in this order.

    state: as the events left it; `rows` of `store` make of it what holds at the time of asking: scheduled, queued,
    parked, running, retrying or an end. frame: `file:function` in the user's code, for the cause. name: the function
    with dots, or a slash and the program. born: when it was made, else the first that was heard of it.
    """

    n: int
    id: str
    chain: int = -1
    rank: int = 0
    s_copy: int = -1
    final: int = 0
    run_at: float = 0.0
    phase: int = -1
    tie: float = 0.0
    state: str = "queued"
    state_at: float = 0.0
    d_copy: int = -1
    due_at: float | None = None
    error: str | None = None
    frame: str | None = None
    place: str | None = None
    cause: str | None = None
    result_bytes: int | None = None
    truncated: int = 0
    first_at: float = float("inf")
    born: float = 0.0
    done_at: float | None = None
    attempt: int = 0
    r_copy: int = -1
    started_at: float | None = None
    ended_at: float | None = None
    worker: str | None = None
    host: str | None = None
    pid: int | None = None
    max_attempts: int | None = None
    q_chain: int = -1
    q_copy: int = -1
    q_at: float = 0.0
    name: str | None = None
    queue: str = ""
    priority: int = 4
    run: str | None = None
    user: str | None = None
    tags: str | None = None
    created_at: float | None = None
    body: bytes | None = None
    result: bytes | None = None

    def reaches(self, chain: int, at: float) -> bool:
        """Whether an event of that chain changes the job; a later chain begins it anew."""
        self.first_at = min(self.first_at, at)
        if chain < self.chain:
            return False
        if chain > self.chain:
            self.chain = chain
            self.rank, self.s_copy, self.final, self.run_at, self.phase, self.tie = 0, -1, 0, 0.0, -1, 0.0
            self.d_copy, self.due_at, self.attempt = -1, None, 0
            self.r_copy, self.started_at, self.ended_at = -1, None, None
            self.worker, self.host, self.pid, self.max_attempts = None, None, None, None
        return True

    def moves(self, place: "Place", state: str, at: float) -> bool:
        """Whether the state is now `state`, since `at`; then what belonged to the one before is gone."""
        if place <= (self.rank, self.s_copy, self.final, self.run_at, self.phase, self.tie):
            return False
        self.rank, self.s_copy, self.final, self.run_at, self.phase, self.tie = place
        self.state = state
        self.state_at = at
        self.done_at = at if self.rank else None
        self.error = self.frame = self.place = self.result_bytes = None
        self.truncated = 0
        return True

    def due(self, copy: int, at: float) -> None:
        """That copy is due then."""
        if self.due_at is None or (copy, at) > (self.d_copy, self.due_at):
            self.d_copy, self.due_at = copy, at

    def ran(self, copy: int, started_at: float, rest: "Rest") -> None:
        """A run that was heard of. rest: its end, host, pid, worker and limit as far as they are known."""
        known = (self.r_copy, self.started_at or 0.0)
        if (copy, started_at) == known:
            mine = (self.ended_at or 0.0, self.host or "", self.pid or 0, self.worker or "", self.max_attempts or 0)
            rest = max(rest, mine)
        elif (copy, started_at) < known:
            return
        self.r_copy, self.started_at = copy, started_at
        ended_at, host, pid, worker, max_attempts = rest
        self.ended_at, self.host, self.pid, self.worker = ended_at or None, host or None, pid or None, worker or None
        self.max_attempts = max_attempts or None


Place = tuple[int, int, int, float, int, float]
"""rank, copy, final, run_at, phase, tie: how states of one chain compare."""

Rest = tuple[float, str, int, str, int]
"""End (0: not known), host, pid, worker, attempts at most (0: not known) of a run."""
