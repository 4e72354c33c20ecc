"""Where and when an attempt ran, and what it wrote: made by who keeps its process, told in the events of its job."""

import msgspec


class Stream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run wrote to stdout or stderr: the first and last 64 KiB, as text with replacement characters.

    total_bytes: all that was written, kept or not.
    """

    head: str = ""
    tail: str = ""
    total_bytes: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where and when an attempt ran. Times are seconds since the epoch as float."""

    worker: str
    host: str
    pid: int
    started_at: float
    ended_at: float | None = None
    stdout: Stream | None = None
    stderr: Stream | None = None
