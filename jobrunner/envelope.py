"""A job as it travels: the body that never changes, and the few header fields that do.

The body never changes on retry, park or dead letter, so that a signature over its bytes stays good.
"""

import time
from typing import Annotated, Any, Final, Literal

import msgspec

from jobrunner.durations import format_size
from jobrunner.errors import JobrunnerError, MessageTooLarge
from jobrunner.ids import ID_PATTERN, new_id

VERSION: Final = 1
BATCH_VERSION: Final = 2
"""Of a job with `batch`: a worker that would not see that field parks it."""

LATEST: Final = BATCH_VERSION
JOB_TYPE: Final = "jobrunner.job"
DEFAULT_PRIORITY: Final = 4
MAX_JOB_BYTES: Final = 1024 * 1024
"""Largest body that we publish; the worker takes foreign bodies up to 8 MiB."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class MalformedMessage(JobrunnerError):
    """reason: what is wrong with the message."""

    code = "malformed"
    text = "{reason}"


class After(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job waits for: the ends of `jobs` (id -> chain, at least that one) and of all jobs of `run`.

    when: it runs if all `success`, if there was a `failure`, or at the `end` whatever it was.
    since: no end that counts came before, in seconds since the epoch.
    """

    jobs: dict[Annotated[str, msgspec.Meta(pattern=ID_PATTERN)], int] = {}
    run: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    when: Literal["success", "failure", "end"] = "success"
    since: float


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a job message. Unknown fields are ignored, so an older worker reads a newer producer.

    Either `task` (with args and kwargs as raw JSON, or `raw`, one bytes argument) or `argv`.
    batch: instead of args and kwargs the arguments of many calls, `[[args, kwargs], ...]`; the result is a list of
    `outcome.Part`. items: of each of those calls the id that it would have alone.
    input, template: of a job of `map`: what it was made of, and how.
    after: what it waits for before it is queued.
    Times are seconds since the epoch as float; `None` in a limit means: the function's own default, else ours.
    """

    v: int
    id: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
    queue: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    iat: float
    task: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")
    batch: msgspec.Raw = msgspec.Raw(b"null")
    raw: bytes | None = None
    argv: Annotated[list[str], msgspec.Meta(min_length=1, max_length=4096)] | None = None
    stdin: bytes | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    backoff_s: NotNegative | None = None
    backoff_max_s: NotNegative | None = None
    timeout_s: Positive | None = None
    expires_at: float | None = None
    run: str | None = None
    seq: int | None = None
    input: str | None = None
    template: str | None = None
    items: list[str] = []
    after: After | None = None
    tags: list[str] = []
    label: str | None = None
    user: str | None = None

    @property
    def name(self) -> str:
        """The function's name, or the program with its arguments: without values for a function."""
        return self.task or " ".join(self.argv or ())

    def __repr__(self) -> str:
        # Arguments and environment may be secrets; they never reach a log line by accident.
        return f"<Job {self.id} {self.task or (self.argv or ['?'])[0]}>"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What changes on the way; travels in the headers `jr-*`, zero values left out.

    attempt: attempts used (0 before the first run). copy: +1 on every republish by us. chain: +1 on manual retry.
    crashes: runs whose process died. not_before_ms, parked_since_ms: milliseconds since the epoch. lease: of a copy
    that waits while another worker has that run: how often it has asked.
    """

    attempt: int = 0
    copy: int = 0
    chain: int = 0
    crashes: int = 0
    not_before_ms: int = 0
    parked_since_ms: int = 0
    submitted_by: str = ""
    lease: int = 0

    def headers(self) -> dict[str, int | str]:
        """The headers of a publish, from scratch: nothing that was received is ever copied (hazards D6)."""
        if self is _FRESH:
            return {}
        return {header: value for header, field in _STATE_HEADERS.items() if (value := getattr(self, field))}


_FRESH: Final = State()

_STATE_HEADERS: Final = {
    "jr-attempt": "attempt",
    "jr-copy": "copy",
    "jr-chain": "chain",
    "jr-crashes": "crashes",
    "jr-not-before": "not_before_ms",
    "jr-parked-since": "parked_since_ms",
    "jr-submitted-by": "submitted_by",
    "jr-lease": "lease",
}
_MAX_STATE = 2**53
_LONGEST_STATE: Final = 255
"""Of a text: it travels on in every copy and in the dead letter, whose headers have to fit into 8 KiB."""


def state_of(headers: dict[str, Any] | None) -> State:
    """The state in received headers. Raises: MalformedMessage for a value of another type or out of bounds."""
    if not headers:
        return _FRESH
    found: dict[str, Any] = {}
    for header, field in _STATE_HEADERS.items():
        value = headers.get(header)
        if value is None:
            continue
        wanted: type = str if field == "submitted_by" else int
        # bool is an int, but no counter; pika gives ints of any width as int (pika/pika#1566)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise MalformedMessage(reason=f"header {header} is a {type(value).__name__}, not {wanted.__name__}")
        if isinstance(value, int) and not 0 <= value <= _MAX_STATE:
            raise MalformedMessage(reason=f"header {header} is out of bounds")
        if isinstance(value, str) and len(value) > _LONGEST_STATE:
            raise MalformedMessage(reason=f"header {header} has {len(value)} characters, over {_LONGEST_STATE}")
        found[field] = value
    return State(**found) if found else _FRESH


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its state and the exact bytes of its body.

    priority: 0 to 9. signature: the headers with which the job came, where keys are set: they travel on with the body.
    """

    job: Job
    state: State = _FRESH
    priority: int = DEFAULT_PRIORITY
    body: bytes
    signature: dict[str, int | str] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """The key of a run: (id, copy). The id alone would swallow a manual retry or a parked job."""
        return (self.job.id, self.state.copy)

    @property
    def attempt(self) -> int:
        """The number of the attempt that a run of this envelope would be, from 1."""
        return self.state.attempt + 1

    @property
    def waits(self) -> bool:
        """Whether it waits for others before it is queued. A retry by hand no longer does."""
        return self.job.after is not None and not self.state.chain

    def with_state(self, **changes: Any) -> "Envelope":
        """The same job, its next copy, with these fields of the state changed."""
        state = msgspec.structs.replace(self.state, copy=self.state.copy + 1, lease=0, **changes)
        return msgspec.structs.replace(self, state=state)

    def as_lease(self) -> "Envelope":
        """A copy of the same key, which waits in case the worker that has this run dies."""
        return msgspec.structs.replace(self, state=msgspec.structs.replace(self.state, lease=self.state.lease + 1))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Job)


def seal(job: Job, *, priority: int = DEFAULT_PRIORITY, not_before_s: float | None = None) -> Envelope:
    """The envelope of a new job. not_before_s: seconds since the epoch."""
    state = _FRESH if not_before_s is None else State(not_before_ms=round(not_before_s * 1000))
    return Envelope(job=job, state=state, priority=priority, body=_encoder.encode(job))


def new_job(*, queue: str, job_id: str | None = None, **fields: Any) -> Job:
    """A job made now. fields: those of `Job`."""
    version = BATCH_VERSION if "batch" in fields else VERSION
    return Job(v=version, id=job_id or new_id(), queue=queue, iat=time.time(), **fields)


def decode(body: bytes, message_id: str | None) -> Job:
    """The job in a body. Raises: MalformedMessage.

    The arguments stay raw JSON: they are decoded in the child, where a bomb can hurt nobody else.
    """
    try:
        job = _decoder.decode(body)
    except (ValueError, RecursionError, MemoryError) as exc:
        raise MalformedMessage(reason=f"not a job: {exc}") from exc
    if job.v < VERSION:
        raise MalformedMessage(reason=f"there is no version {job.v}")
    if message_id is not None and message_id != job.id:
        raise MalformedMessage(reason="the id in the body is not the message_id")
    if (job.task is None) == (job.argv is None):
        raise MalformedMessage(reason="a job names either a task or an argv")
    if bytes(job.args)[:1] != b"[" or bytes(job.kwargs)[:1] != b"{":
        raise MalformedMessage(reason="args is not a list or kwargs is not an object")
    if bytes(job.batch) != b"null" and (job.task is None or bytes(job.batch)[:1] != b"["):
        raise MalformedMessage(reason="batch is not a list, or there is no task for it")
    if job.argv is not None and any("\0" in word for word in job.argv):
        raise MalformedMessage(reason="argv holds a NUL character")
    return job


def check_size(envelope: Envelope) -> None:
    """Raises: MessageTooLarge, naming the largest part."""
    size = len(envelope.body)
    if size <= MAX_JOB_BYTES:
        return
    job = envelope.job
    parts = {
        "args": len(bytes(job.args)),
        "kwargs": len(bytes(job.kwargs)),
        "batch": len(bytes(job.batch)),
        "argv": sum(map(len, job.argv or ())),
        "stdin": len(job.stdin or b""),
        "env": sum(len(key) + len(value) for key, value in job.env.items()),
    }
    name = max(parts, key=lambda part: parts[part])
    largest = f"{name}: {format_size(parts[name])}"
    raise MessageTooLarge(size=format_size(size), limit=format_size(MAX_JOB_BYTES), largest=largest)
