"""What SQLite says, in our words, with a write transaction around it where one is wanted."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jobrunner.errors import ViewDamaged, ViewUnusable

UNUSABLE: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
}
"""The place is at fault: a lock, a full disk, a missing right."""

DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
"""The file itself is at fault. Anything else is a bug."""


def code_of(exc: sqlite3.Error) -> int:
    """SQLite's primary result code; -1 where the error is not SQLite's own."""
    code: int = getattr(exc, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else code


@contextmanager
def guarded(
    db: sqlite3.Connection, path: Path, set_aside: Callable[[str], Path], *, is_writing: bool
) -> Iterator[None]:
    """Translate errors: ViewUnusable, or `set_aside` and ViewDamaged. is_writing: all of it happens or nothing."""
    try:
        if is_writing:
            db.execute("BEGIN IMMEDIATE")
        yield
        if is_writing:
            db.execute("COMMIT")
    except BaseException as exc:
        with contextlib.suppress(sqlite3.Error):
            if db.in_transaction:
                db.execute("ROLLBACK")
        if isinstance(exc, sqlite3.Error) and code_of(exc) in DAMAGED:
            raise ViewDamaged(path=set_aside(str(exc))) from exc
        if isinstance(exc, sqlite3.Error) and code_of(exc) in UNUSABLE:
            raise ViewUnusable(path=path, reason=exc) from exc
        raise
