"""The view: one SQLite file with what the ledger tells, folded again and again, asked by commands."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from jobrunner.broker.stream import Record
from jobrunner.errors import NotFound
from jobrunner.events import Pause
from jobrunner.view import asking, folding, lookup, schema, summary
from jobrunner.view.anchor import Anchor
from jobrunner.view.filters import Filter
from jobrunner.view.guard import guarded
from jobrunner.view.rows import AttemptRow, CauseRow, Counts, Hole, JobRow, LogChunk, UnknownEvent, WorkerRow

KEPT_UNKNOWN: Final = 10_000
"""Events of later versions that are kept; the oldest go first."""

SORTS: Final = {"created": "born", "ended": "done_at", "took": "ended_at - started_at"}
WORKERS_S: Final = 86_400.0


class Store:
    """The view in one file. Use as a context manager; of one process, on one loop.

    Methods raise ViewUnusable when the file cannot be written or stays locked, and ViewDamaged when it turns out to be
    damaged: it has been set aside then, and a new `Store` begins anew.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, on_notice: Callable[[str], None]) -> None:
        self.path = path
        self.on_notice = on_notice
        self._db = db
        self._anchor = Anchor(db)

    @classmethod
    def open(cls, path: Path, *, on_notice: Callable[[str], None] = lambda _: None) -> Self:
        """Open or make the file, mode 0600. One that is damaged or foreign is set aside; `on_notice` gets a line then.

        Raises: ViewUnusable.
        """
        return cls(path, schema.open_or_renew(path, on_notice), on_notice)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- folding ----------------------------------------------------------------------------------------------------

    @property
    def anchor(self) -> tuple[int, str | None] | None:
        """Offset and name of the last record folded (see `anchor.name_of`); None for an empty view."""
        with self._checked():
            return self._anchor.read()

    @property
    def genesis(self) -> str | None:
        """The id of the ledger that was folded; None when its beginning was never seen."""
        with self._checked():
            return self._anchor.get("genesis")

    @property
    def holes(self) -> list[Hole]:
        """What the ledger had dropped before this view saw it."""
        with self._checked():
            rows = self._db.execute("SELECT first_offset, last_offset, noticed_at FROM holes ORDER BY first_offset")
            return [Hole(first_offset=first, last_offset=last, noticed_at=at) for first, last, at in rows]

    def fold(self, records: Sequence[Record]) -> None:
        """Merge records and move the anchor, in one transaction. Those up to the anchor are skipped: another process
        may have been faster.

        Raises: ViewMoved when the view was reset meanwhile; ViewUnusable, ViewDamaged.
        """
        if not records:
            return
        with self._transaction():
            anchor = self._anchor.locked()
            fresh = records if anchor is None else [record for record in records if record.offset > anchor[0]]
            if not fresh:
                return
            genesis = folding.fold(self._db, fresh)
            if genesis is not None and self._anchor.get("genesis") is None:
                self._anchor.put("genesis", genesis)
            self._anchor.move(fresh[-1])
            self._db.execute(
                'DELETE FROM unknown WHERE "offset" <= '
                '(SELECT "offset" FROM unknown ORDER BY "offset" DESC LIMIT 1 OFFSET ?)',
                (KEPT_UNKNOWN,),
            )

    def mark_hole(self, first_offset: int, last_offset: int) -> None:
        """Note that these records were gone before they were seen."""
        with self._transaction():
            self._anchor.locked()
            self._db.execute("INSERT OR IGNORE INTO holes VALUES (?, ?, ?)", (first_offset, last_offset, time.time()))

    def reset(self) -> None:
        """Forget everything: the stream is another one. Nothing happens if another process was faster."""
        with self._transaction():
            if self._anchor.is_moved():
                return
            for table in schema.TABLES:
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
            self._anchor.begin_anew()

    def set_aside(self, reason: str) -> Path:
        """Close the file and rename it; a new one is made by the next `open`. Gives its new name."""
        self._db.close()
        return schema.set_aside(self.path, reason, self.on_notice)

    def reopen(self) -> None:
        """Open the file again, or a new one where it was set aside. Raises: ViewUnusable."""
        self._db.close()
        self._db = schema.open_or_renew(self.path, self.on_notice)
        self._anchor = Anchor(self._db)

    # --- jobs -------------------------------------------------------------------------------------------------------

    def job(self, job_id: str, *, now: float | None = None) -> JobRow | None:
        """A job by its whole id, with its result; None if it is not known."""
        with self._checked():
            one = self._stored(job_id)
            if one is None:
                return None
            (row,) = asking.rows(self._db, [one], _time(now), with_result=True)
            return row

    def resolve(self, word: str) -> str:
        """The id that a word is, or is the only one to begin so. Raises: NotFound, AmbiguousId."""
        with self._checked():
            return lookup.resolve(self._db, word, time.time())

    def jobs(
        self,
        where: Filter,
        *,
        limit: int | None,
        after: str | None = None,
        sort: str = "created",
        reverse: bool = False,
    ) -> list[JobRow]:
        """The jobs that a filter selects, without their results. Newest, last ended or slowest first, else reversed;
        what has not ended comes last.

        after: the id of the last job of the page before. sort: created, ended or took.
        Raises: NotFound, AmbiguousId for a beginning of an id that does not fit one job; NotFound for `after`.
        """
        with self._checked():
            lookup.check(self._db, where)
            sql, parameters = f"{asking.SELECT} WHERE ({where.sql})", list(where.parameters)
            if after is not None:
                begins, values = self._behind(after, sort, reverse=reverse)
                sql, parameters = f"{sql} AND ({begins})", [*parameters, *values]
            order = "ASC" if reverse else "DESC"
            sql = f"{sql} ORDER BY {_order(sort, order)}, n {order} LIMIT ?"
            found = list(asking.stored(self._db, sql, [*parameters, -1 if limit is None else limit]))
            return asking.rows(self._db, found, where.now)

    def _behind(self, after: str, sort: str, *, reverse: bool) -> tuple[str, list[Any]]:
        """The condition for what comes behind a job. Raises: NotFound."""
        key = SORTS[sort]
        found = self._db.execute(f"SELECT {key}, n FROM jobs WHERE id = ?", (after,)).fetchone()  # noqa: S608 - of SORTS
        if found is None:
            raise NotFound(message=f"No job is '{after}': the page before is not known.", hint="jobrunner list")
        value, n = found
        sign = ">" if reverse else "<"
        if value is None:
            return f"{key} IS NULL AND n {sign} ?", [n]
        return f"({key}, n) {sign} (?, ?)" + ("" if sort == "created" else f" OR {key} IS NULL"), [value, n]

    def count(self, where: Filter, cap: int = 10_000) -> int | None:
        """How many jobs a filter selects; None when there are more than `cap`. Raises: NotFound, AmbiguousId."""
        with self._checked():
            lookup.check(self._db, where)
            sql = f"SELECT count(*) FROM (SELECT 1 FROM jobs WHERE ({where.sql}) LIMIT ?)"  # noqa: S608 - of filters
            (count,) = self._db.execute(sql, [*where.parameters, cap + 1]).fetchone()
            return None if count > cap else int(count)

    def open_jobs(self) -> Iterator[JobRow]:
        """All jobs that have not ended, in the order in which they were first heard of, a thousand at a time."""
        n, now = -1, time.time()
        while True:
            with self._checked():
                sql = f"{asking.SELECT} WHERE n > ? AND state IN (?, ?, ?, ?, ?, ?) ORDER BY n LIMIT ?"
                states = ("waiting", "queued", "scheduled", "parked", "running", "retrying")
                page = list(asking.stored(self._db, sql, (n, *states, asking.PAGE)))
                rows = asking.rows(self._db, page, now)
            yield from rows
            if len(page) < asking.PAGE:
                return
            n = page[-1].n

    # --- one job ----------------------------------------------------------------------------------------------------

    def attempts(self, job_id: str) -> list[AttemptRow]:
        """The runs of a job, in order; of an unknown one none."""
        with self._checked():
            one = self._stored(job_id)
            return [] if one is None else asking.attempts(self._db, one)

    def logs(
        self, job_id: str, *, attempt: int | None = None, stream: str | None = None, since: float | None = None
    ) -> list[LogChunk]:
        """Output as it came while the job ran, the first 64 KiB of each stream of each run; `attempts` has the rest.

        stream: out or err. since: seconds since the epoch.
        """
        with self._checked():
            one = self._stored(job_id)
            return [] if one is None else asking.logs(self._db, one.n, attempt, stream, since)

    def unknown_events(self, job_id: str) -> list[UnknownEvent]:
        """What later versions told of a job."""
        with self._checked():
            return asking.unknown(self._db, job_id)

    def place_in_line(self, job: JobRow, *, now: float | None = None) -> int:
        """How many queued jobs of its queue are due before it."""
        with self._checked():
            return summary.place_in_line(self._db, job, _time(now))

    def run_total(self, run: str) -> int | None:
        """How many jobs a run has; None while not all of them are queued."""
        with self._checked():
            found = self._anchor.get(f"run:{run}")
            return None if found is None else int(found.rpartition(" ")[2])

    # --- all of them ------------------------------------------------------------------------------------------------

    def causes(self, where: Filter) -> list[CauseRow]:
        """Dead jobs that a filter selects, grouped by cause, the newest group first. Raises: NotFound, AmbiguousId."""
        with self._checked():
            lookup.check(self._db, where)
            return summary.causes(self._db, where)

    def workers(self, since_s: float = WORKERS_S) -> list[WorkerRow]:
        """Workers that told something in the last `since_s` seconds, by name, also those that are gone."""
        with self._checked():
            return asking.workers(self._db, time.time() - since_s)

    def pauses(self) -> list[Pause]:
        """The newest word on each queue that was ever paused; whether it holds now tells `Pause.holds`."""
        with self._checked():
            return asking.pauses(self._db)

    def counts(self, now: float) -> list[Counts]:
        """Jobs by queue, by name: of queues with jobs that wait, run or are dead, or that came or ended just now."""
        with self._checked():
            return summary.counts(self._db, now)

    def begins_at(self) -> float | None:
        """How far back the history goes."""
        with self._checked():
            return lookup.begins_at(self._db)

    # --- what all do ------------------------------------------------------------------------------------------------

    def _stored(self, job_id: str) -> asking.Stored | None:
        return asking.first_of(asking.stored(self._db, f"{asking.SELECT} WHERE id = ?", (job_id,)))

    def _checked(self) -> AbstractContextManager[None]:
        return guarded(self._db, self.path, self.set_aside, is_writing=False)

    def _transaction(self) -> AbstractContextManager[None]:
        return guarded(self._db, self.path, self.set_aside, is_writing=True)


def _time(now: float | None) -> float:
    return time.time() if now is None else now


def _order(sort: str, order: str) -> str:
    """The expression to sort by. What has none comes last, whatever the order."""
    return f"{SORTS[sort]} {order}" if sort == "created" else f"{SORTS[sort]} {order} NULLS LAST"
