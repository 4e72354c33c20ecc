"""Waiting for jobs: the view is kept current, and each job is given once it is where it was waited for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import following

if TYPE_CHECKING:
    from jobrunner.broker.stream import Record
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store


async def until(
    shared: Shared, store: "Store", ids: Sequence[str], is_reached: Callable[["JobRow"], bool]
) -> "AsyncIterator[JobRow]":
    """Each of these jobs once it is there, in the order in which they come; ends with the last.

    Goes on across lost connections. Raises: what ends the reading of the ledger for good.
    """
    open_ids = dict.fromkeys(ids)
    changed = asyncio.Event()
    touched: dict[str, None] = dict(open_ids)

    def folded(records: "Sequence[Record]") -> None:
        found = {job_id for record in records if (job_id := record.key.rpartition(".")[2]) in open_ids}
        if found:
            touched.update(dict.fromkeys(found))
            changed.set()

    async with following(shared, store, folded) as reading:
        while open_ids:
            rows = _reached(store, touched, is_reached)
            touched.clear()
            changed.clear()
            for row in rows:
                del open_ids[row.id]
                yield row
            if open_ids and not touched:
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait([waiting, reading], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if reading.done():
                    reading.result()


def _reached(store: "Store", ids: Iterable[str], is_reached: Callable[["JobRow"], bool]) -> "list[JobRow]":
    rows = [row for job_id in ids if (row := store.job(job_id)) is not None and is_reached(row)]
    return sorted(rows, key=lambda row: row.state_at)
