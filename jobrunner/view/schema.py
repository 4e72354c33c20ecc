"""The tables of a view file, and the file itself: made, recognized, set aside.

A job's row is the merged knowledge of all its events; `draft.py` says what its columns mean. `n` is its rowid, and what
belongs to a job is stored by it: then rows that are written together lie together, although ids are random.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobrunner.errors import ViewUnusable
from jobrunner.view.draft import Draft
from jobrunner.view.guard import UNUSABLE, code_of

APPLICATION_ID: Final = 0x6A72_7677
"""`jrvw`: marks a file as ours."""

VERSION: Final = 1
BUSY_S: Final = 20.0
"""Another process writes for a fraction of a second at a time."""

BUSY_AGAIN_S: Final = 0.01

CACHE_KIB: Final = 32 * 1024

_PAUSES: Final = "CREATE TABLE pauses (queue TEXT PRIMARY KEY, at REAL NOT NULL, last TEXT NOT NULL)"

_TABLES: Final = """
CREATE TABLE jobs (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
  chain INTEGER NOT NULL, rank INTEGER NOT NULL, s_copy INTEGER NOT NULL, final INTEGER NOT NULL, run_at REAL NOT NULL,
  phase INTEGER NOT NULL, tie REAL NOT NULL,
  state TEXT NOT NULL, state_at REAL NOT NULL, d_copy INTEGER NOT NULL, due_at REAL,
  error TEXT, frame TEXT, place TEXT, cause TEXT, result_bytes INTEGER, truncated INTEGER NOT NULL,
  first_at REAL NOT NULL, born REAL NOT NULL, done_at REAL, attempt INTEGER NOT NULL,
  r_copy INTEGER NOT NULL, started_at REAL, ended_at REAL, worker TEXT, host TEXT, pid INTEGER, max_attempts INTEGER,
  q_chain INTEGER NOT NULL, q_copy INTEGER NOT NULL, q_at REAL NOT NULL,
  name TEXT, queue TEXT NOT NULL, priority INTEGER NOT NULL, run TEXT, user TEXT, tags TEXT, created_at REAL,
  body BLOB, result BLOB);
CREATE INDEX jobs_state ON jobs (state, born, queue, due_at);
CREATE INDEX jobs_born ON jobs (born);
CREATE INDEX jobs_done ON jobs (done_at);
CREATE INDEX jobs_run ON jobs (run) WHERE run IS NOT NULL;
CREATE INDEX jobs_cause ON jobs (cause) WHERE cause IS NOT NULL;
CREATE TABLE attempts (
  n INTEGER NOT NULL, chain INTEGER NOT NULL, copy INTEGER NOT NULL, started_at REAL NOT NULL,
  number INTEGER NOT NULL, worker TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, ended_at REAL NOT NULL,
  outcome INTEGER NOT NULL, error TEXT NOT NULL, stdout TEXT NOT NULL, stderr TEXT NOT NULL,
  PRIMARY KEY (n, chain, copy, started_at)) WITHOUT ROWID;
CREATE TABLE logs (
  n INTEGER NOT NULL, started_at REAL NOT NULL, stream TEXT NOT NULL, offset_bytes INTEGER NOT NULL,
  at REAL NOT NULL, attempt INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (n, started_at, stream, offset_bytes)) WITHOUT ROWID;
CREATE TABLE progress (
  n INTEGER PRIMARY KEY, chain INTEGER NOT NULL, copy INTEGER NOT NULL, at REAL NOT NULL, fraction REAL, text TEXT);
CREATE TABLE cancels (
  target TEXT NOT NULL, chain INTEGER NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL, by TEXT,
  PRIMARY KEY (target, chain)) WITHOUT ROWID;
{PAUSES};
CREATE TABLE workers (name TEXT PRIMARY KEY, started_at REAL NOT NULL, at REAL NOT NULL, last TEXT NOT NULL,
  online_at REAL NOT NULL, online TEXT);
CREATE TABLE unknown ("offset" INTEGER PRIMARY KEY, at REAL, kind TEXT NOT NULL, id TEXT, body BLOB NOT NULL);
CREATE INDEX unknown_id ON unknown (id) WHERE id IS NOT NULL;
CREATE TABLE holes (first_offset INTEGER PRIMARY KEY, last_offset INTEGER NOT NULL, noticed_at REAL NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
""".replace("{PAUSES}", _PAUSES)

TABLES: Final = ("jobs", "attempts", "logs", "progress", "cancels", "pauses", "workers", "unknown", "holes")
"""All that a rebuild empties."""

_ADDED: Final = {"max_attempts": "INTEGER"}
"""Columns of `jobs` that files made earlier lack. A program of that time can go on with a file that has them."""

DRAFT_COLUMNS: Final = Draft.__struct_fields__[:-2]
"""Columns that a fold reads; the last two, body and result, it only writes."""

_NAMES = ", ".join(Draft.__struct_fields__)
_PLACES = ", ".join("?" * len(Draft.__struct_fields__))
_READ = ", ".join(DRAFT_COLUMNS)
_SET = ", ".join(f"{name} = ?{place}" for place, name in enumerate(DRAFT_COLUMNS, 1) if name != "n")
_COUNT = len(DRAFT_COLUMNS)
SELECT_DRAFTS: Final = f"SELECT {_READ} FROM jobs WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608 - constants
INSERT_DRAFT: Final = f"INSERT INTO jobs ({_NAMES}) VALUES ({_PLACES})"  # noqa: S608 - constants
UPDATE_DRAFT: Final = (
    f"UPDATE jobs SET {_SET}, body = COALESCE(?{_COUNT + 1}, body), "  # noqa: S608 - constants
    f"result = COALESCE(?{_COUNT + 2}, result) WHERE n = ?1"
)


def connect(path: Path) -> sqlite3.Connection:
    """Open or make a view file, mode 0600.

    Raises: sqlite3.DatabaseError for one that is damaged, Foreign, ViewUnusable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    except OSError as exc:
        raise ViewUnusable(path=path, reason=exc.strerror or exc) from exc
    except sqlite3.OperationalError as exc:
        raise ViewUnusable(path=path, reason=exc) from exc
    try:
        prepare(db)
    except BaseException as exc:
        db.close()
        if isinstance(exc, sqlite3.Error) and code_of(exc) in UNUSABLE:
            raise ViewUnusable(path=path, reason=exc) from exc
        raise
    return db


class Foreign(Exception):
    """The file is an SQLite database, but of another program or of another version of this one."""


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables unless they are there. Raises: Foreign, sqlite3.Error."""
    _write_ahead(db)
    # a power cut may lose the last transactions, offset and rows together: they are read again from the ledger
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute("BEGIN")  # of one moment: another process may be making it
    try:
        is_whole = _is_ours(db) and not _missing(db)
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    if is_whole:
        return
    db.execute("BEGIN IMMEDIATE")  # another process may be making it at this moment
    try:
        if not _is_ours(db):
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
        for statement in _missing(db):
            db.execute(statement)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _write_ahead(db: sqlite3.Connection) -> None:
    """Set the mode of the file. Where others do so at the same moment, SQLite does not wait by itself."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if code_of(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_AGAIN_S)  # noqa: TID251 - as SQLite itself waits, in whatever calls it
        else:
            return


def _is_ours(db: sqlite3.Connection) -> bool:
    """Whether the tables are there; False for an empty file. Raises: Foreign."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if (application, version) == (APPLICATION_ID, VERSION):
        return True
    if application or version or db.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise Foreign("made by another program or version")
    return False


def _missing(db: sqlite3.Connection) -> list[str]:
    """What makes the columns and tables that came after this file was made."""
    there = {name for (name,) in db.execute("SELECT name FROM pragma_table_info('jobs')")}
    made = [f"ALTER TABLE jobs ADD COLUMN {name} {kind}" for name, kind in _ADDED.items() if name not in there]
    has_pauses = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'pauses'").fetchone()
    return made if has_pauses else [*made, _PAUSES]


def open_or_renew(path: Path, on_notice: Callable[[str], None]) -> sqlite3.Connection:
    """`connect`; a file that is damaged or not ours is set aside first, with one line that says so."""
    try:
        return connect(path)
    except (sqlite3.DatabaseError, Foreign) as exc:
        set_aside(path, str(exc), on_notice)
        return connect(path)


def set_aside(path: Path, reason: str, on_notice: Callable[[str], None]) -> Path:
    """Rename a view file, so that a new one is made from the ledger. Gives its new name."""
    kept = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):  # another process may have been faster
            part.replace(kept.with_name(kept.name + suffix))
    on_notice(f"The view was damaged ({reason}) and is built anew from the ledger. The old file: {kept}")
    return kept
