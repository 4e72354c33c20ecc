"""Getting jobs to the broker whatever happens to the connection: in pieces, and again where no answer came."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from jobrunner import events
from jobrunner.client import Client
from jobrunner.envelope import Envelope
from jobrunner.errors import BrokerError, JobrunnerError, PermissionRefused, Unconfirmed, Unroutable

PATIENCE_S: Final = 300.0
"""So long a broker that is away, blocked or full is waited for."""

AGAIN_S: Final = 1.0


def pieces(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Pieces of what one `queued` event may hold: 500 jobs, 256 KiB."""
    piece: list[Envelope] = []
    size_bytes = 0
    for envelope in envelopes:
        size_bytes += len(envelope.body)
        if piece and (len(piece) >= events.QUEUED_BATCH_JOBS or size_bytes > events.QUEUED_BATCH_BYTES):
            yield piece
            piece, size_bytes = [], len(envelope.body)
        piece.append(envelope)
    if piece:
        yield piece


async def queue(client: Client, envelopes: Sequence[Envelope], on_trouble: Callable[[JobrunnerError], None]) -> None:
    """Queue one piece. What was not confirmed is published again with the same ids: the jobs run at least once.

    on_trouble: told why it takes longer. Raises: what waiting cannot mend, or what it did not within `PATIENCE_S`.
    """
    left = list(envelopes)
    deadline = time.monotonic() + PATIENCE_S
    while left:
        try:
            answers = await client.enqueue_batch(left)
        except JobrunnerError as exc:
            answers = [exc] * len(left)
        again = [(one, error) for one, error in zip(left, answers, strict=True) if error is not None]
        if not again:
            return
        if len(again) < len(left):
            deadline = time.monotonic() + PATIENCE_S
        error = again[0][1]
        if not _passes(error) or time.monotonic() > deadline:
            raise error
        on_trouble(error)
        left = [one for one, _ in again]
        with contextlib.suppress(JobrunnerError):
            await client.wait_open()
        await asyncio.sleep(AGAIN_S)


def _passes(error: JobrunnerError) -> bool:
    """Whether it may be otherwise in a while."""
    return isinstance(error, Unconfirmed | BrokerError) and not isinstance(error, PermissionRefused | Unroutable)
