"""One input on its way through a map, and how it ended."""

import msgspec

from jobrunner import attempts
from jobrunner.mapping.inputs import Input
from jobrunner.outcome import Error, Part
from jobrunner.watch import End


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an input ended.

    id: of the job that ended it: its own, or that of the batch it was in. state: succeeded, dead, cancelled or expired.
    result: JSON of one that succeeded. took_s: of its last attempt, None in a batch. started_at, host: the same, or of
    the batch that it was in. was_queued: False where no job could be made of it.
    """

    seq: int
    given: Input
    id: str
    state: str
    result: msgspec.Raw | None = None
    truncated: bool = False
    error: Error | None = None
    started_at: float | None = None
    took_s: float | None = None
    host: str | None = None
    stdout: attempts.Stream | None = None
    stderr: attempts.Stream | None = None
    was_queued: bool = True

    @property
    def text(self) -> str:
        """The input as it was given."""
        return self.given.text


class Item:
    """An input that was read. id: of the job that it would be alone. chain, copy: of that job's next attempts.

    ended: how it ended, once it has.
    """

    __slots__ = ("chain", "copy", "ended", "given", "id", "seq")

    def __init__(self, given: Input, seq: int, item_id: str) -> None:
        self.given = given
        self.seq = seq
        self.id = item_id
        self.chain = 0
        self.copy = 0
        self.ended: Ended | None = None


class Job:
    """A job that was queued or goes on, and the items that it decides. indexes: their places in a batch, else None.

    at: seconds since the epoch from when on its end can come. is_adopted: a batch of before, of which inputs are still
    to be read; then `end` is kept.
    """

    __slots__ = ("at", "chain", "end", "indexes", "is_adopted", "items")

    def __init__(self, items: list[Item], chain: int, at: float, indexes: list[int] | None = None) -> None:
        self.items = items
        self.chain = chain
        self.at = at
        self.indexes = indexes
        self.is_adopted = False
        self.end: End | None = None


_parts = msgspec.json.Decoder(list[Part | None])

FINAL = frozenset({"permanent", "bad_arguments", "bad_result", "not_allowed", "malformed", "cannot_start"})
"""Reasons for which a call is not tried again alone."""


def parts_of(end: End) -> list[Part | None] | None:
    """The ends of the calls of a batch; None when the batch did not end as one."""
    if end.state != "succeeded" or end.truncated or end.result is None:
        return None
    try:
        return _parts.decode(end.result)
    except (ValueError, RecursionError):
        return None


def ended_alone(item: Item, end: End) -> Ended:
    """How an item ended whose job it was."""
    return Ended(
        seq=item.seq,
        given=item.given,
        id=end.id,
        state=end.state,
        result=end.result,
        truncated=end.truncated,
        error=end.error,
        started_at=end.started_at,
        took_s=end.took_s,
        host=end.host,
        stdout=end.stdout,
        stderr=end.stderr,
    )


def ended_within(item: Item, part: Part, end: End) -> Ended:
    """How an item ended that was one of a batch."""
    return Ended(
        seq=item.seq,
        given=item.given,
        id=end.id,
        state="succeeded" if part.error is None else "dead",
        result=part.result if part.error is None else None,
        error=part.error,
        started_at=end.started_at,
        host=end.host,
    )


def never_queued(item: Item, reason: str, message: str) -> Ended:
    """An input of which no job can be made."""
    error = Error(reason=reason, message=message)
    return Ended(seq=item.seq, given=item.given, id=item.id, state="dead", error=error, was_queued=False)
