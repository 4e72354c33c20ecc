"""From what was typed to an id, with a sentence for what fits no job or several."""

import sqlite3
from datetime import UTC, datetime
from typing import Final

from jobrunner.errors import AmbiguousId, NotFound
from jobrunner.view import asking
from jobrunner.view.filters import Filter
from jobrunner.view.terms import begins

SHOWN: Final = 3
_HINT: Final = "jobrunner list"
_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60))


def resolve(db: sqlite3.Connection, word: str, now: float) -> str:
    """The id that `word` is, or is the only one to begin so. Raises: NotFound, AmbiguousId."""
    word = word.lower()
    if not word:
        raise NotFound(message=_unknown(db, word, now), hint=_HINT)
    if db.execute("SELECT 1 FROM jobs WHERE id = ?", (word,)).fetchone():
        return word
    term = begins(word)
    sql = f"{asking.SELECT} WHERE {term.sql} ORDER BY born DESC LIMIT ?"
    found = list(asking.stored(db, sql, (*term.parameters, SHOWN)))
    if len(found) == 1:
        return found[0].id
    if not found:
        raise NotFound(message=_unknown(db, word, now), hint=_HINT)
    (count,) = db.execute(f"SELECT count(*) FROM jobs WHERE {term.sql}", term.parameters).fetchone()  # noqa: S608
    more = ", …" if count > len(found) else ""
    jobs = ", ".join(_shown(db, one, now) for one in found) + more
    raise AmbiguousId(word=word, count=f"{count:,}", jobs=jobs)


def check(db: sqlite3.Connection, where: Filter) -> None:
    """Each beginning of an id in a filter fits one job. Raises: NotFound, AmbiguousId."""
    for prefix in where.prefixes:
        resolve(db, prefix, where.now)


def begins_at(db: sqlite3.Connection) -> float | None:
    """How far back the history goes."""
    (at,) = db.execute("SELECT min(born) FROM jobs").fetchone()
    return None if at is None else float(at)


def _shown(db: sqlite3.Connection, one: asking.Stored, now: float) -> str:
    (row,) = asking.rows(db, [one], now)
    name = row.argv[0] if row.argv else (row.task or "").rpartition(":")[2]
    return f"{row.short_id} {name}".rstrip() + f" ({ago(now - (one.created_at or one.state_at))})"


def _unknown(db: sqlite3.Connection, word: str, now: float) -> str:
    """No such job, and what there is."""
    newest = asking.first_of(asking.stored(db, f"{asking.SELECT} ORDER BY born DESC LIMIT 1", ()))
    start = begins_at(db)
    if newest is None or start is None:
        return f"No job starts with '{word}': the ledger knows no job at all."
    since = datetime.fromtimestamp(start, UTC).astimezone()
    age = ago(now - (newest.created_at or newest.state_at))
    return f"No job starts with '{word}'. Newest: {newest.id[:8]} ({age}). The ledger goes back to {since:%Y-%m-%d}."


def ago(seconds: float) -> str:
    """`2m ago`, in the largest unit."""
    for unit, unit_s in _UNITS:
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)}{unit} ago"
    return f"{max(0, int(seconds))}s ago"
