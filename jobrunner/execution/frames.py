"""What parent and child say to each other: 4-byte big-endian length, 1-byte type, JSON payload.

Both ends use this module. The length counts the payload only. A job's bytes (the body of a foreign message, a command's
stdin) travel as they are in a `BODY` frame right before their `JOB`: as JSON they would be a third longer.
"""

from typing import Annotated, Any, Final

import msgspec

from jobrunner.outcome import Outcome
from jobrunner.registry import FunctionSpec

PROTOCOL: Final = 1
HEADER_BYTES: Final = 5
DOWN_CAP_BYTES: Final = 9 * 1024 * 1024
"""Largest payload from parent to child: a foreign body of 8 MiB, or a job that holds one, and its header."""

UP_CAP_BYTES: Final = 2 * 1024 * 1024
"""Largest payload from child to parent: a result of 1 MiB, an error with its traceback."""


class FrameError(ValueError):
    """The other end broke the protocol: over the cap, unknown type, or not decodable. There is no way on after it."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    pass


class Setup(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Parent, first frame: what this child is for. slot: from 1. Sizes in bytes."""

    worker: str
    slot: int
    apps: list[str] = []
    allow_import: list[str] = []
    raw_handler: str | None = None
    max_jobs: int | None = None
    max_memory_bytes: int | None = None


class Hello(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Child: booted, nothing of the user's imported yet."""

    protocol: int = PROTOCOL
    pid: int


class Ready(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Child: the apps are imported; it may take jobs."""

    functions: list[FunctionSpec]


class Fatal(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Child, instead of READY: `app` cannot be imported, and why."""

    app: str
    reason: str


class Job(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Parent: run this. number: counts up on one socket and comes back in RESULT. The other fields: as in `Work`.

    deadline: seconds since the epoch, for the job to know; the parent alone enforces it.
    has_body: the BODY frame before this one is the function's one argument, or the command's stdin.
    """

    number: int
    id: str
    attempt: int
    max_attempts: int
    queue: str
    task: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")
    batch: msgspec.Raw = msgspec.Raw(b"null")
    argv: list[str] | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    deadline: float | None = None
    run: str | None = None
    seq: int | None = None
    input: str | None = None
    after: list[str] = []
    after_run: str | None = None
    has_body: bool = False


class Result(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Child: job `number` ended so. leaves: why the child exits now instead of taking another job.

    nearly: it will leave soon, for its memory: a successor is to be ready by then.
    """

    number: int
    outcome: Outcome
    leaves: str | None = None
    nearly: bool = False


class Found(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Child, instead of RESULT: the function of job `number` was imported only now, and has wishes of its own, such as
    a timeout. Nothing has run: the job is to be sent again, so that they hold for it.
    """

    number: int
    function: FunctionSpec


class Progress(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Child: what job `number` says of itself. fraction: 0 to 1."""

    number: int
    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    text: Annotated[str, msgspec.Meta(max_length=512)] | None = None


class Ping(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Parent, to an idle child: still there?"""

    number: int


class Pong(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Child: still there."""

    number: int


class Stop(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Parent, to an idle child: exit."""


class Body(_Frame, frozen=True, kw_only=True, omit_defaults=True):
    """Parent: the bytes that belong to the JOB that follows. The one frame whose payload is not JSON."""

    data: bytes


Down = Setup | Job | Body | Ping | Stop
Up = Hello | Ready | Fatal | Result | Pong | Progress | Found

_DOWN: Final[dict[int, type[Down]]] = {1: Setup, 2: Job, 3: Body, 4: Ping, 5: Stop}
_UP: Final[dict[int, type[Up]]] = {65: Hello, 66: Ready, 67: Fatal, 68: Result, 69: Pong, 70: Progress, 71: Found}
_TYPES: Final = {frame: number for table in (_DOWN, _UP) for number, frame in table.items()}

_encoder = msgspec.json.Encoder()


def encode(frame: Down | Up) -> bytes:
    """The bytes of a frame."""
    payload = frame.data if isinstance(frame, Body) else _encoder.encode(frame)
    return len(payload).to_bytes(4, "big") + bytes((_TYPES[type(frame)],)) + payload


class _Parser:
    """Frames out of bytes that arrive in pieces of any size."""

    def __init__(self, table: dict[int, type[Any]], cap_bytes: int) -> None:
        self._decoders = {number: msgspec.json.Decoder(frame) for number, frame in table.items() if frame is not Body}
        self._known = frozenset(table)
        self._cap_bytes = cap_bytes
        self._buffer = bytearray()

    def _feed(self, data: bytes) -> list[Any]:
        buffer = self._buffer
        buffer += data
        frames: list[Any] = []
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            size_bytes = int.from_bytes(buffer[start : start + 4], "big")
            number = buffer[start + 4]
            if number not in self._known:
                raise FrameError(f"a frame of the unknown type {number}")
            if size_bytes > self._cap_bytes:
                raise FrameError(f"a frame of {size_bytes} bytes; the limit is {self._cap_bytes}")
            end = start + HEADER_BYTES + size_bytes
            if len(buffer) < end:
                break
            frames.append(self._decode(number, bytes(buffer[start + HEADER_BYTES : end])))
            start = end
        del buffer[:start]
        return frames

    def _decode(self, number: int, payload: bytes) -> Any:
        decoder = self._decoders.get(number)
        if decoder is None:
            return Body(data=payload)
        try:
            return decoder.decode(payload)
        except (ValueError, RecursionError, MemoryError) as exc:
            raise FrameError(f"a frame of type {number} that cannot be decoded: {exc}") from exc


class DownParser(_Parser):
    """The child's end."""

    def __init__(self) -> None:
        super().__init__(_DOWN, DOWN_CAP_BYTES)

    def feed(self, data: bytes) -> list[Down]:
        """The frames that are complete with `data`, in order. Raises: FrameError."""
        return self._feed(data)


class UpParser(_Parser):
    """The parent's end."""

    def __init__(self) -> None:
        super().__init__(_UP, UP_CAP_BYTES)

    def feed(self, data: bytes) -> list[Up]:
        """The frames that are complete with `data`, in order. Raises: FrameError."""
        return self._feed(data)
