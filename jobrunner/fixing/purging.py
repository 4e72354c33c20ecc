"""Dead letters are thrown away on the record: each job is recorded as cancelled, and only then its letter goes.

A dead job that is cancelled would still read as dead, since of two ends of one chain the heavier counts. So the record
opens the next chain: the job reads as cancelled, and its history stays.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from jobrunner import events
from jobrunner.broker.batch import all_answers
from jobrunner.broker.message import could_sign
from jobrunner.broker.publisher import Publisher, Stored, event_message
from jobrunner.client import Client
from jobrunner.errors import BrokerLost
from jobrunner.failpoint import failpoint
from jobrunner.fixing.letters import BATCH, Letter, Letters
from jobrunner.fixing.retrying import PURGED
from jobrunner.view.recorder import sync
from jobrunner.view.rows import JobRow
from jobrunner.view.store import Store


class LetterPurge:
    """Purges dead jobs of a view. on_done: called with each id, and whether it was purged."""

    def __init__(self, store: Store, client: Client, on_done: Callable[[str, bool], None]) -> None:
        self._store = store
        self._client = client
        self._on_done = on_done
        self._publisher = Publisher(client.connection, confirm_timeout_s=client.timeout_s)

    async def run(self, rows: Sequence[JobRow], *, with_unknown: bool = False) -> None:
        """Purge these jobs, unless they have gone on meanwhile. with_unknown: letters of which the ledger knows nothing
        go too.

        Raises: LettersInUse, the broker's errors. What was not recorded stays.
        """
        try:
            wanted = len(rows) + with_unknown
            async with Letters(self._client.connection, wanted=wanted, timeout_s=self._client.timeout_s) as letters:
                await sync(self._store, self._client.url, timeout_s=self._client.timeout_s)
                await self._all(letters, rows, with_unknown=with_unknown)
        finally:
            self._publisher.close()

    async def _all(self, letters: Letters, rows: Sequence[JobRow], *, with_unknown: bool) -> None:
        left: dict[str, JobRow] = {}
        for was in rows:
            row = self._store.job(was.id)
            if row is None or row.state != "dead" or row.chain != was.chain:
                self._on_done(was.id, False)
            else:
                left[row.id] = row
        chosen = frozenset(left)

        def is_wanted(letter: Letter) -> bool:
            return letter.id in chosen or (with_unknown and self._store.job(letter.id) is None)

        async with aclosing(letters.batches(is_wanted)) as batches:
            async for found in batches:
                batch = [letter for letter in found if not self._is_second(letter, left, letters)]
                await self._record([_of_letter(letter, left.pop(letter.id, None)) for letter in batch])
                failpoint("purge.after_confirm")
                for letter in batch:
                    letters.ack(letter)
                    self._on_done(letter.id, True)
                if not left and not with_unknown:
                    return
        # dead, but without a letter: somebody was faster, and without a record
        gone = list(left.values())
        for start in range(0, len(gone), BATCH):
            piece = gone[start : start + BATCH]
            await self._record([(row.id, row.run, row.chain + 1, row.copy + 1) for row in piece])
            for row in piece:
                self._on_done(row.id, True)

    @staticmethod
    def _is_second(letter: Letter, left: Mapping[str, JobRow], letters: Letters) -> bool:
        """Whether it is of an earlier chain of a job whose own letter is still to come: then it just goes."""
        row = left.get(letter.id)
        return row is not None and letter.state.chain < row.chain and letters.ack(letter)

    async def _record(self, jobs: Sequence[tuple[str, str | None, int, int]]) -> None:
        messages = [
            event_message(
                events.Cancelled(
                    at=time.time(), id=job_id, run=run, chain=chain, copy=copy, reason=PURGED, by=self._client.by
                )
            )
            for job_id, run, chain, copy in jobs
        ]
        for answer in await all_answers(self._publisher, messages):
            if not isinstance(could_sign(answer), Stored):
                raise BrokerLost(address=self._client.url.address, reason=f"a record was not stored: {answer}")


def _of_letter(letter: Letter, row: JobRow | None) -> tuple[str, str | None, int, int]:
    run = row.run if row is not None else letter.envelope.job.run if letter.envelope is not None else None
    chain = max(letter.state.chain, 0 if row is None else row.chain)
    copy = max(letter.state.copy, 0 if row is None else row.copy)
    return letter.id, run, chain + 1, copy + 1
