"""What is known of the earlier jobs of a run, for a map that takes it up again. Filled from the view by the command."""

from typing import Protocol

import msgspec

from jobrunner.watch import End


class Known(msgspec.Struct, frozen=True, gc=False):
    """An input that was queued before. state: succeeded, dead, cancelled, expired or active.

    chain, copy: of its own job, None if it was in batches only. job_id, index: the batch that it goes on in, and where.
    """

    state: str
    chain: int | None = None
    copy: int = 0
    job_id: str | None = None
    index: int = 0


class Past(Protocol):
    """The run as the ledger tells it."""

    async def refresh(self) -> None:
        """Read what has happened since."""
        ...

    def find(self, item_id: str) -> Known | None:
        """What is known of an input, by the id that its job would have alone."""
        ...

    def end_of(self, job_id: str) -> End | None:
        """How a job ended; None while it goes on."""
        ...

    def count(self) -> int:
        """Jobs of the run."""
        ...

    def batches(self) -> dict[str, int]:
        """Batches that go on: id -> chain."""
        ...
