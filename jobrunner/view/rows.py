"""What the view tells: jobs, attempts, output, workers, causes, counts. Plain values, made when they are asked for.

Times are seconds since the epoch as float.
"""

import msgspec

from jobrunner.attempts import Stream
from jobrunner.envelope import After
from jobrunner.outcome import Error

SHORT_ID_CHARS = 8
ENDED = ("succeeded", "dead", "cancelled", "expired")
STATES = ("waiting", "scheduled", "queued", "running", "retrying", *ENDED)
GONE_AFTER_S = 65.0
"""Three heartbeats of 20 s missed, and some grace."""


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """One job as far as its events tell.

    state: one of `STATES`, at the time of asking: a job that was scheduled or retrying is `queued` once it is due,
        because then it lies in its queue. parked: it is queued, and waits for a worker that knows its function.
    task with args and kwargs, or argv; all None for a job of which only later events are known; body is None then too.
    not_before: when it is due, of one that is scheduled, retrying or parked.
    started_at, ended_at, worker, host, pid: of the last attempt of this chain. wait_s: from due to started.
    attempt: attempts begun in this chain. max_attempts: as the job wishes, else as its last run had them, which may be
        its function's; None of a call without a wish that never ran. interruptions: runs that were handed back, in all
        chains.
    error: why it is retrying or dead, cancelled or expired; without its traceback, which the attempts have.
    cause: four hex digits, the same for the same cause; of those that are retrying or dead.
    result: JSON, of one that succeeded. result_bytes: its size. truncated: it was cut at its limit.
    copy: the highest known. chain: manual retries. after: what it waits for, or waited for.
    calls: of a batch of `map` how many; it has no args.
    """

    id: str
    state: str
    state_at: float
    task: str | None = None
    args: msgspec.Raw | None = None
    kwargs: msgspec.Raw | None = None
    argv: list[str] | None = None
    queue: str = ""
    priority: int = 4
    created_at: float | None = None
    not_before: float | None = None
    expires_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    due_at: float | None = None
    attempt: int = 0
    max_attempts: int | None = None
    interruptions: int = 0
    timeout_s: float | None = None
    worker: str | None = None
    host: str | None = None
    pid: int | None = None
    user: str | None = None
    run: str | None = None
    seq: int | None = None
    tags: list[str] = []
    label: str | None = None
    chain: int = 0
    copy: int = 0
    parked: bool = False
    error: Error | None = None
    cause: str | None = None
    result: msgspec.Raw | None = None
    result_bytes: int | None = None
    truncated: bool = False
    progress: float | None = None
    progress_text: str | None = None
    cancel_requested_at: float | None = None
    after: After | None = None
    calls: int = 1
    body: bytes | None = None

    @property
    def short_id(self) -> str:
        """The first 8 characters of the id, as tables show it."""
        return self.id[:SHORT_ID_CHARS]

    @property
    def name(self) -> str:
        """The call or the command on one line; empty when it is not known."""
        if self.argv is not None:
            return " ".join(self.argv)
        if self.task is None:
            return ""
        function = self.task.replace(":", ".")
        return f"{function} ({self.calls:,} calls)" if self.calls > 1 else f"{function}({self._arguments()})"

    def _arguments(self) -> str:
        try:
            args = msgspec.json.decode(self.args) if self.args else []
            kwargs = msgspec.json.decode(self.kwargs) if self.kwargs else {}
        except (ValueError, RecursionError):  # nested too deep, or no UTF-8
            return "…"
        try:
            return ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
        except RecursionError:
            return "…"

    @property
    def wait_s(self) -> float | None:
        """Seconds from when it was due to the start of its last attempt."""
        if self.started_at is None or self.due_at is None:
            return None
        return max(0.0, self.started_at - self.due_at)

    @property
    def took_s(self) -> float | None:
        """Seconds of its last attempt; None before its end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, self.ended_at - self.started_at)

    @property
    def is_ended(self) -> bool:
        """Whether nothing follows but a manual retry."""
        return self.state in ENDED


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a job.

    number: of the attempt, from 1; a run that was handed back and the one after it have the same. outcome: succeeded,
    failed, dead, interrupted, cancelled or running. One that never told its end, and after which another began or the
    job ended, is interrupted with no end: its worker died. host, pid: empty and 0 while only its output is known.
    """

    number: int
    chain: int
    copy: int
    worker: str
    host: str
    pid: int
    started_at: float
    ended_at: float | None = None
    outcome: str = "running"
    error: Error | None = None
    stdout: Stream | None = None
    stderr: Stream | None = None


class LogChunk(msgspec.Struct, frozen=True, kw_only=True):
    """Output as it came while a run went on: the first 64 KiB of each stream. stream: out or err.

    offset_bytes: where `text` begins in its stream. started_at: which run.
    """

    at: float
    attempt: int
    started_at: float
    stream: str
    offset_bytes: int
    text: str


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it last told. phase: online, heartbeat or offline. done: jobs since its start."""

    name: str
    host: str
    pid: int
    version: str
    python: str
    slots: int
    busy: int
    queues: list[str]
    functions: list[str]
    allow_commands: bool
    allow_programs: list[str] = []
    allow_import: list[str]
    started_at: float
    seen_at: float
    phase: str
    done: int = 0

    def gone(self, now: float) -> bool:
        """Whether it has stopped, or was silent for three heartbeats."""
        return self.phase == "offline" or now - self.seen_at > GONE_AFTER_S


class CauseRow(msgspec.Struct, frozen=True, kw_only=True):
    """Dead jobs with one cause. newest, oldest: when they died. task: a function or a program. error: of the newest.

    place: `file:line` of the innermost frame of the user's code, of the newest.
    """

    cause: str
    count: int
    newest: float
    oldest: float
    task: str
    error: str
    place: str | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one queue. later: waiting for others, scheduled, retrying and parked.

    oldest_at: since when the oldest is due.
    in_per_s, out_per_s: created and ended in the last 60 seconds, a second.
    """

    queue: str
    queued: int = 0
    running: int = 0
    later: int = 0
    dead: int = 0
    oldest_at: float | None = None
    in_per_s: float = 0.0
    out_per_s: float = 0.0


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a later version: its kind, and its body as it came."""

    offset: int
    at: float | None
    kind: str
    id: str | None
    body: bytes


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """Records that this view never saw, because the ledger had dropped them: offsets, and when that was noticed."""

    first_offset: int
    last_offset: int
    noticed_at: float
