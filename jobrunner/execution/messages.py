"""What goes into the pool (`Work`) and what comes out of it (`PoolMessage`)."""

from collections.abc import Callable

import msgspec

from jobrunner import attempts
from jobrunner.errors import JobrunnerError
from jobrunner.outcome import Outcome
from jobrunner.registry import FunctionSpec


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the children of a worker are for.

    procs: slots, numbered from 0. worker: its name. apps: modules that every child imports; `.` is on their path.
    allow_import: module prefixes whose functions may run without `@job`, imported on demand; `*` is every module.
    allow_commands: as the worker was told; it admits or refuses command jobs itself, before they come here.
    raw_handler: `module:function` for foreign bodies, imported with the apps; it needs no `@job`.
    max_jobs, max_memory_bytes: a child that reached one of them is replaced after its job.
    share_broker: children keep the variables with the broker's URL and key. broker: gives those that the worker found
    elsewhere; a function, so that no `repr` shows them.
    """

    procs: int
    worker: str
    apps: tuple[str, ...] = ()
    allow_import: tuple[str, ...] = ()
    allow_commands: bool = False
    raw_handler: str | None = None
    max_jobs: int | None = None
    max_memory_bytes: int | None = None
    share_broker: bool = False
    broker: Callable[[], dict[str, str]] = dict


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a job: a function (`task` with args and kwargs as JSON, or `raw`, its one bytes argument) or `argv`.

    batch: the arguments of many calls of the function, `[[args, kwargs], ...]`.
    key: comes back in `Finished`. timeout_s: from the moment it is handed to its child; None: no limit.
    after, after_run: the jobs, and the run, that it waited for.
    """

    key: tuple[str, int]
    id: str
    attempt: int
    max_attempts: int
    queue: str
    task: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")
    batch: msgspec.Raw = msgspec.Raw(b"null")
    raw: bytes | None = None
    argv: list[str] | None = None
    stdin: bytes | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    timeout_s: float | None = None
    run: str | None = None
    seq: int | None = None
    input: str | None = None
    after: list[str] = []
    after_run: str | None = None


class SlotReady(msgspec.Struct, frozen=True, kw_only=True):
    """A new child of the slot has imported its apps: it may take work. functions: what it found with `@job`."""

    slot: int
    functions: list[FunctionSpec]


class SlotDown(msgspec.Struct, frozen=True, kw_only=True):
    """The slot's idle child died or is being replaced. `SlotReady` follows, unless the pool stops or breaks."""

    slot: int


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A run ended. ready: the same child takes the next job at once; otherwise `SlotReady` follows."""

    slot: int
    key: tuple[str, int]
    outcome: Outcome
    ran: attempts.Run
    ready: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A run has not begun: its function was imported only now, and has wishes of its own. Hand it over again."""

    slot: int
    function: FunctionSpec


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What the slot's job says of itself. fraction: 0 to 1."""

    slot: int
    fraction: float | None
    text: str | None


class PoolBroken(msgspec.Struct, frozen=True, kw_only=True):
    """No child is started any more; running jobs go on.

    error: AppImport when the first children cannot import an app, ChildrenKeepDying after 5 failed starts in 60 s,
    Bug when the guardian keeps dying.
    """

    error: JobrunnerError


PoolMessage = SlotReady | SlotDown | Finished | Found | Progress | PoolBroken
