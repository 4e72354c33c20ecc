"""Every fact about a job or a worker, as it stands in the ledger: `KINDS` is the table that code, tests and docs share.

The body is JSON tagged by `kind`; how an event is published, with its key and its id, is in `broker/message.py`.
"""

import msgspec

from jobrunner.attempts import Run
from jobrunner.outcome import Error

VERSION = 1
EVENT_TYPE = "jobrunner.event"
GROUP_TYPE = "jobrunner.events"
QUEUED_BATCH_JOBS = 500
QUEUED_BATCH_BYTES = 256 * 1024
"""Bounds of one bulk `queued` event."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag=str.lower):
    v: int = VERSION
    at: float


class _JobEvent(_Event, frozen=True, kw_only=True, omit_defaults=True, tag=str.lower):
    id: str
    run: str | None = None
    attempt: int = 0
    copy: int = 0
    chain: int = 0


class QueuedJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job of a `queued` event: the whole envelope, so that it can be shown and queued again from the ledger.

    waits: it is not in its queue yet, but waits for other jobs.
    """

    job: msgspec.Raw
    priority: int = 4
    not_before: float | None = None
    chain: int = 0
    copy: int = 0
    waits: bool = False


class _RunEvent(_JobEvent, frozen=True, kw_only=True, omit_defaults=True, tag=str.lower):
    max_attempts: int | None = None


class Queued(_Event, frozen=True, kw_only=True, omit_defaults=True):
    """Accepted by the broker: one job, or up to 500 of a bulk enqueue. `by`: user@host."""

    jobs: list[QueuedJob]
    by: str | None = None
    run: str | None = None


class Released(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What it waited for has happened: it goes to its queue."""


class Started(_RunEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Running for 250 ms. attempt: from 1, here and in all events of a run.

    max_attempts: as they hold for this run, the function's own where the job has no wish; also in its later events.
    """

    ran: Run


class Succeeded(_RunEvent, frozen=True, kw_only=True, omit_defaults=True):
    """result: JSON; for a command its stdout as a JSON string. truncated: cut at the limit.

    failed: of a batch, how many of its calls did not succeed.
    """

    result: msgspec.Raw = msgspec.Raw(b"null")
    truncated: bool = False
    failed: int = 0
    ran: Run


class Retrying(_RunEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Runs again at `due_at`. counted: whether an attempt was used."""

    error: Error
    due_at: float
    counted: bool = True
    ran: Run | None = None


class Dead(_RunEvent, frozen=True, kw_only=True, omit_defaults=True):
    """In the dead-letter queue."""

    error: Error
    queue: str
    worker: str | None = None
    ran: Run | None = None


class Parked(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """No function of that name here; waits for a worker that knows it."""

    error: Error
    due_at: float


class Interrupted(_RunEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Killed because its worker stopped; goes back to its queue, no attempt used."""

    ran: Run


class Expired(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Not started in time."""

    expires_at: float


class Cancelled(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Will not run, or was stopped. by: user@host. reason: `purged`, or what was given.

    ran: of one that was running: killed with `signal` (such as SIGTERM), gone after `took_s` seconds.
    """

    reason: str
    by: str | None = None
    signal: str | None = None
    took_s: float | None = None
    ran: Run | None = None


class Suppressed(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Delivered again after its run had ended on this worker; not run again."""

    worker: str


class Log(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Output of a run while it goes on: the first 64 KiB of each stream, a tenth of a second late at most.

    stream: out or err. offset_bytes: where `text` begins in that stream. started_at: which run.
    """

    stream: str
    text: str
    offset_bytes: int
    started_at: float
    worker: str | None = None


class Progress(_JobEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What a job says of itself, once a second at most. fraction: 0 to 1; None: unknown."""

    fraction: float | None = None
    text: str | None = None


class Cancel(_Event, frozen=True, kw_only=True, omit_defaults=True):
    """A request, kept for workers that are not there yet (stream `jobrunner.v1.cancels`).

    jobs: id -> chain: attempts of that chain and of earlier ones will not start. run: every job of that run.
    signal: for those that run now, a name such as INT; None: TERM.
    """

    jobs: dict[str, int] = {}
    run: str | None = None
    reason: str = ""
    signal: str | None = None
    by: str | None = None


class Sealed(_Event, frozen=True, kw_only=True, omit_defaults=True):
    """All jobs of a run are queued: there are `total` of them, and it has ended when they have.

    failed: inputs that failed without a job of their own. parts: calls that failed within batches count besides.
    """

    run: str
    total: int
    failed: int = 0
    parts: bool = False
    by: str | None = None


class Pause(_Event, frozen=True, kw_only=True, omit_defaults=True):
    """A queue is not to be consumed, or with `paused` false is again. The newest word counts (`jobrunner.v1.cancels`).

    until: seconds since the epoch; None: until it is resumed.
    """

    queue: str
    paused: bool = True
    until: float | None = None
    reason: str = ""
    by: str | None = None

    def holds(self, now: float) -> bool:
        """Whether the queue is paused at that time, in seconds since the epoch."""
        return self.paused and (self.until is None or now < self.until)


class Worker(_Event, frozen=True, kw_only=True, omit_defaults=True):
    """A worker's life. phase: online (again with other functions), heartbeat (every 20 s) or offline (orderly stop)."""

    phase: str
    name: str
    host: str
    pid: int
    version: str
    python: str
    slots: int
    busy: int
    queues: list[str]
    started_at: float
    done: int = 0
    functions: list[str] = []
    allow_commands: bool = False
    allow_programs: list[str] = []
    allow_import: list[str] = []


class Genesis(_Event, frozen=True, kw_only=True, omit_defaults=True):
    """First record of a ledger: tells one stream of that name from its successor."""

    id: str


JobEvent = (
    Released
    | Started
    | Succeeded
    | Retrying
    | Dead
    | Parked
    | Interrupted
    | Expired
    | Cancelled
    | Suppressed
    | Log
    | Progress
)
Event = JobEvent | Queued | Sealed | Cancel | Pause | Worker | Genesis

KINDS: dict[str, str | None] = {
    "queued": "queued",
    "released": "queued",
    "started": "running",
    "succeeded": "succeeded",
    "retrying": "retrying",
    "dead": "dead",
    "parked": "queued",
    "interrupted": "queued",
    "expired": "expired",
    "cancelled": "cancelled",
    "suppressed": None,
    "log": None,
    "progress": None,
    "sealed": None,
    "cancel": None,
    "pause": None,
    "worker": None,
    "genesis": None,
}
"""Kind -> the state that the job is in afterwards; None: says nothing of a job."""

TERMINAL = ("succeeded", "dead", "cancelled", "expired")
"""Kinds after which nothing follows but a manual retry."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The body of an event."""
    return _encoder.encode(event)


def decode(body: bytes) -> Event:
    """The event in a body. Raises: msgspec.DecodeError, also for a kind of a later version."""
    try:
        return _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError, MemoryError) as exc:  # msgspec lets these through
        raise msgspec.DecodeError(f"no event: {exc}") from exc


def kind_of(event: Event) -> str:
    """The event's kind, such as `succeeded`."""
    return type(event).__name__.lower()
