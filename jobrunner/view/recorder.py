"""Keeps a view up to date with the ledger: once for a command that looks, on and on for one that follows."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobrunner.broker.backoff import jittered
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing
from jobrunner.broker.stream import Record
from jobrunner.brokerurl import BrokerUrl
from jobrunner.config import Settings
from jobrunner.errors import BrokerError, ViewDamaged
from jobrunner.folders import state_dir
from jobrunner.view.anchor import ViewMoved, name_of
from jobrunner.view.store import Store
from jobrunner.view.tail import Tail, end_of

SETTLE_S: Final = 0.02
"""On a cluster the replica that is read may be a little behind the one that has confirmed."""

FOLD_EVERY_S: Final = 0.02
"""While following, records that come so close together are folded together."""

ASK_END_S: Final = 0.3
"""Reading that takes longer asks how far there is to go."""

MISSING_S: Final = 1.0
"""Between two looks for a ledger that does not exist yet."""

OnProgress = Callable[[int, float | None], None]
Place = tuple[int, str | None]


def view_path(url: BrokerUrl, state: Path) -> Path:
    """The view file of a virtual host. Whoever looks with keys has another one than without: what was not signed must
    not be left in it from a look without keys. Keys that come and go share it: what they have signed is history.
    """
    told = f"{url.address}/{url.vhost}" + ("" if url.ring is None else "\nsigned")
    name = hashlib.sha256(told.encode()).hexdigest()[:8]
    return state / f"view-{name}.sqlite"


def open_view(settings: Settings, *, on_notice: Callable[[str], None] = lambda _: None) -> Store:
    """The view of the broker in force, in the state folder. on_notice: gets a line when it has to be built anew.

    Raises: ViewUnusable.
    """
    return Store.open(view_path(settings.url, state_dir()), on_notice=on_notice)


async def sync(store: Store, url: BrokerUrl, *, timeout_s: float, on_progress: OnProgress | None = None) -> None:
    """Fold everything that the ledger holds at this moment. A broker without a ledger has told nothing: no error.

    timeout_s: for connecting, and of the longest silence. on_progress: called after each batch with the records read so
    far and, once that is known, the part of the way, 0 to 1.
    Raises: the broker's errors (exit code 3), ViewUnusable.
    """
    connection = Connection(url, role="view", notify=lambda _: None, connect_timeout_s=timeout_s)
    await connection.connect_once()
    try:
        with contextlib.suppress(Missing):
            await _Recorder(store, connection, timeout_s, on_progress=on_progress).catch_up()
    finally:
        await connection.close()


async def follow(
    store: Store,
    url: BrokerUrl,
    on_fold: Callable[[list[Record]], None],
    *,
    timeout_s: float = 10.0,
    on_progress: OnProgress | None = None,
    seen: Place | None = None,
) -> None:
    """Fold what the ledger holds, then what comes, until cancelled; also across lost connections and a ledger that does
    not exist yet.

    on_fold: called with the records of each batch once they are in the view, each record once and in order, also when
    another process was faster to fold it. It must not raise.
    seen: the record after which on_fold begins (`Store.anchor`); None: where the view is now.
    Raises: the broker's errors when the first try fails; ViewUnusable.
    """
    seen = store.anchor if seen is None else seen
    tries: int | None = None  # None: never connected
    while True:
        connection = Connection(url, role="view", notify=lambda _: None, connect_timeout_s=timeout_s)
        pause_s = MISSING_S
        recorder = _Recorder(store, connection, timeout_s, on_progress=on_progress, on_fold=on_fold, seen=seen)
        try:
            await connection.connect_once()
            tries = 0
            await recorder.go_on()
        except Missing:
            pass
        except BrokerError:
            if tries is None:
                raise
            pause_s = jittered(tries)
            tries += 1
        finally:
            seen = recorder.seen
            await connection.close()
        await asyncio.sleep(pause_s)


class _Recorder:
    """One connection's reading. seen: the place of the last record given to on_fold; None: begin where the view is."""

    def __init__(
        self,
        store: Store,
        connection: Connection,
        timeout_s: float,
        *,
        on_progress: OnProgress | None = None,
        on_fold: Callable[[list[Record]], None] | None = None,
        seen: Place | None = None,
    ) -> None:
        self.seen = seen
        self._store = store
        self._connection = connection
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._on_fold = on_fold
        self._read = 0

    async def catch_up(self) -> None:
        """Fold up to the end, as it is now. Raises: Missing, the broker's errors, ViewUnusable."""
        await self._insist(is_following=False)

    async def go_on(self) -> None:
        """Fold up to the end and then what comes; never returns. Raises: Missing, the broker's errors, ViewUnusable."""
        await self._insist(is_following=True)

    async def _insist(self, *, is_following: bool) -> None:
        """Begin again as often as the view turns out to be reset by another process, damaged, or of another stream."""
        while True:
            try:
                place = self._place()
                with Tail(self._connection, "first" if place is None else place[0], self._timeout_s) as tail:
                    if not await self._fits(tail, place):
                        self._store.reset()
                        self.seen = None
                        continue
                    await self._read_to_end(tail)
                    if not is_following:
                        return
                    while True:
                        await self._take_more(tail)
            except ViewMoved:  # a view is reset where the stream is another one: what was seen was of the old one
                self.seen = None
            except ViewDamaged:
                self._store.reopen()

    def _place(self) -> Place | None:
        """Where to read on: where the view stands, or before that, when another process has folded more than was seen
        here.
        """
        anchor = self._store.anchor
        if anchor is None or self.seen is None:
            return anchor
        return min(anchor, self.seen, key=lambda place: place[0])

    async def _fits(self, tail: Tail, place: Place | None) -> bool:
        """Whether the stream is the one of which the view knows a part; waits for its first record."""
        first = await tail.first()
        while first is None and place is not None:
            # an offset behind the end waits for new records, silently: so a shorter stream looks like a slow one
            end = await end_of(self._connection, self._timeout_s)
            if end is None or end < place[0]:
                return False
            first = await tail.first()
        if first is None or place is None or first.offset == place[0]:
            return first is None or place is None or name_of(first) == place[1]
        if first.offset > place[0] + 2:  # one offset may be missing where a segment ended
            self._store.mark_hole(place[0] + 1, first.offset - 1)
        return True

    async def _read_to_end(self, tail: Tail) -> None:
        """Fold until all is read that there was when this began, or when it had read for a while."""
        began = time.monotonic()
        end: int | None = None
        start: int | None = None
        while tail.received:
            at_end = await tail.reach_end()
            if at_end:
                await asyncio.sleep(SETTLE_S)
            records = tail.take()
            if records:
                start = records[0].offset if start is None else start
                self._fold(records)
                self._tell(start, records[-1].offset, end)
            if at_end or (end is not None and records and records[-1].offset >= end):
                return
            if end is None and time.monotonic() - began > ASK_END_S:
                # where records come faster than they are read, the end is that of now
                end = await end_of(self._connection, self._timeout_s)

    def _tell(self, start: int, offset: int, end: int | None) -> None:
        if self._on_progress is not None:
            fraction = None if end is None else min(1.0, (offset - start) / max(1, end - start))
            self._on_progress(self._read, fraction)

    async def _take_more(self, tail: Tail) -> None:
        """Fold what comes next, together with what comes right behind it."""
        await tail.more()
        await asyncio.sleep(FOLD_EVERY_S)
        self._fold(tail.take())

    def _fold(self, records: list[Record]) -> None:
        self._store.fold(records)
        self._read += len(records)
        fresh = records if self.seen is None else [record for record in records if record.offset > self.seen[0]]
        if fresh:
            self.seen = (fresh[-1].offset, name_of(fresh[-1]))
            if self._on_fold is not None:
                self._on_fold(fresh)
