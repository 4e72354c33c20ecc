"""Dead, cancelled and expired jobs go back to their queue: confirmed there and recorded, only then no dead letter."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from jobrunner.broker.batch import batched
from jobrunner.client import Client
from jobrunner.envelope import Envelope, MalformedMessage
from jobrunner.errors import JobrunnerError
from jobrunner.failpoint import failpoint
from jobrunner.fixing.changes import COPY_STEP, Changes, again, from_ledger
from jobrunner.fixing.letters import Letter, Letters
from jobrunner.view.recorder import sync
from jobrunner.view.rows import JobRow
from jobrunner.view.store import Store

STATES: Final = ("dead", "cancelled", "expired")
"""What can be retried."""

PURGED: Final = "purged"
HOLD_S: Final = 30.0
"""With a rate: so long the dead letters are held at most, then others may have them for a moment."""


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """One job. chain: of its new attempts. error: why it was not queued. note: what else is to be said of it."""

    id: str
    chain: int | None = None
    error: str | None = None
    note: str | None = None


class _Todo(msgspec.Struct, frozen=True):
    """What is to be queued, and the letter that goes away afterwards."""

    envelope: Envelope
    letter: Letter | None
    note: str | None = None


def refusal(row: JobRow) -> str | None:
    """Why a job cannot be retried; None: it can."""
    if row.state in STATES:
        return None
    return "has succeeded" if row.state == "succeeded" else f"is {row.state}"


def is_purged(row: JobRow) -> bool:
    """Whether somebody threw it away: a filter does not bring it back, its id does."""
    return row.state == "cancelled" and row.error is not None and row.error.message.split(" ")[0] == PURGED


class Retrier:
    """Retries jobs of a view.

    on_done: told of each job, in no certain order. rate: jobs a second at most. delay_s: not before that.
    """

    def __init__(
        self,
        store: Store,
        client: Client,
        on_done: Callable[[Retried], None],
        *,
        changes: Changes | None = None,
        delay_s: float = 0.0,
        rate: float | None = None,
    ) -> None:
        self._store = store
        self._client = client
        self._on_done = on_done
        self._changes = changes or Changes()
        self._delay_s = delay_s
        self._rate = rate
        self._due = 0.0

    async def run(self, rows: Sequence[JobRow]) -> None:
        """Retry these jobs, as they were when they were chosen: one that has changed since is left alone.

        Raises: LettersInUse, the broker's errors. What was told of until then holds.
        """
        size = len(rows) if self._rate is None else max(1, int(self._rate * HOLD_S))
        for start in range(0, len(rows), max(1, size)):
            await self._some(rows[start : start + size])

    async def _some(self, chosen: Sequence[JobRow]) -> None:
        client = self._client
        dead = sum(row.state == "dead" for row in chosen)
        async with Letters(client.connection, wanted=dead, timeout_s=client.timeout_s) as letters:
            # now nobody else can retry: what others did before is in the ledger
            await sync(self._store, client.url, timeout_s=client.timeout_s)
            open_rows = self._unchanged(chosen)
            missing = {row.id: row for row in open_rows if row.state == "dead"}
            if missing:
                await self._from_letters(letters, missing)
            await self._from_ledger([row for row in open_rows if row.state != "dead"], letters, None)
            await self._without_letter(list(missing.values()), letters)

    def _unchanged(self, chosen: Iterable[JobRow]) -> list[JobRow]:
        rows = []
        for was in chosen:
            row = self._store.job(was.id)
            if row is None:
                self._on_done(Retried(id=was.id, error="is not known any more"))
            elif row.chain > was.chain:
                self._on_done(Retried(id=was.id, error=f"was retried by somebody else, and {_now(row)}"))
            elif (reason := refusal(row)) is not None:
                self._on_done(Retried(id=was.id, error=reason))
            else:
                rows.append(row)
        return rows

    async def _from_letters(self, letters: Letters, missing: dict[str, JobRow]) -> None:
        """Retry what lies there; afterwards `missing` has what was not found."""
        wanted = frozenset(missing)
        async with aclosing(letters.batches(lambda letter: letter.id in wanted)) as batches:
            async for batch in batches:
                todo = []
                for letter in batch:
                    row = missing.get(letter.id)
                    if row is None or letter.state.chain < row.chain:
                        # a second letter of a job that has gone on: its worker died between confirm and ack
                        letters.ack(letter)
                        continue
                    del missing[letter.id]
                    todo += self._planned(letter.envelope or from_ledger(row), letter, row.id)
                await self._queue(todo, letters)
                if not missing:
                    return

    async def _from_ledger(self, rows: Sequence[JobRow], letters: Letters, note: str | None) -> None:
        todo = []
        for row in rows:
            todo += self._planned(from_ledger(row), None, row.id, note)
        await self._queue(todo, letters)

    async def _without_letter(self, rows: Sequence[JobRow], letters: Letters) -> None:
        """Dead jobs that have none: somebody has purged it. Where others might have it just now, they stay."""
        if letters.is_alone:
            await self._from_ledger(rows, letters, "its dead letter was gone; queued from the ledger")
            return
        for row in rows:
            self._on_done(Retried(id=row.id, error="its dead letter was not found; another command may have it"))

    def _planned(
        self, was: Envelope | JobrunnerError, letter: Letter | None, job_id: str, note: str | None = None
    ) -> list[_Todo]:
        try:
            if isinstance(was, JobrunnerError):
                raise was
            step = COPY_STEP if letter is None else 1
            envelope = again(was, self._changes, delay_s=self._delay_s, copy_step=step)
        except MalformedMessage as exc:
            self._on_done(Retried(id=job_id, error=f"cannot be queued again: {exc.message}"))
            return []
        return [_Todo(envelope, letter, note)]

    async def _queue(self, todo: Sequence[_Todo], letters: Letters) -> None:
        by_key = {one.envelope.key: one for one in todo}
        async for batch in batched([one.envelope for one in todo]):
            pieces = [batch] if self._rate is None else [[envelope] for envelope in batch]
            for piece in pieces:
                await self._pace()
                answers = await self._client.enqueue_batch(piece)
                failpoint("retry.after_confirm")
                for envelope, error in zip(piece, answers, strict=True):
                    self._answered(by_key[envelope.key], error, letters)

    async def _pace(self) -> None:
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        if self._due > now:
            await asyncio.sleep(self._due - now)
        self._due = max(self._due, now) + 1 / self._rate

    def _answered(self, one: _Todo, error: JobrunnerError | None, letters: Letters) -> None:
        job_id, chain = one.envelope.job.id, one.envelope.state.chain
        if error is not None:
            self._on_done(Retried(id=job_id, error=error.message))
            return
        if one.letter is not None:
            letters.ack(one.letter)
        self._on_done(Retried(id=job_id, chain=chain, note=one.note))


def _now(row: JobRow) -> str:
    return "has succeeded" if row.state == "succeeded" else f"is {row.state}"
