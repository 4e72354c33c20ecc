"""Where in which stream the view stands: told from another stream of the same name by more than a number."""

import hashlib
import sqlite3

from jobrunner.broker.stream import Record


class ViewMoved(Exception):
    """Another process has reset the view: what was read from where it stood before no longer fits."""


def name_of(record: Record) -> str:
    """What a record is known by besides its offset: its message id, else a hash of its body."""
    return record.message_id or f"sha256:{hashlib.sha256(record.body).hexdigest()[:16]}"


class Anchor:
    """The place of one process in a view file, and how often the view has been begun anew, of which it knows."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._life: int | None = None

    def get(self, key: str) -> str | None:
        """A fact about the ledger."""
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def put(self, key: str, value: object) -> None:
        """Store a fact about the ledger."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def read(self) -> tuple[int, str | None] | None:
        """Offset and name of the last record folded, by whichever process; from here on this one goes on from there."""
        self._life = self._current_life()
        return self._place()

    def locked(self) -> tuple[int, str | None] | None:
        """The same within a transaction. Raises: ViewMoved when the view was reset since `read`."""
        if self.is_moved():
            raise ViewMoved
        return self._place()

    def is_moved(self) -> bool:
        """Whether the view was reset since `read`."""
        life = self._current_life()
        if self._life is None:
            self._life = life
        return life != self._life

    def move(self, record: Record) -> None:
        """Note the last record folded."""
        self.put("offset", record.offset)
        self.put("name", name_of(record))

    def begin_anew(self) -> None:
        """Nothing has been folded."""
        self._db.execute("DELETE FROM meta")
        self._life = (self._life or 0) + 1
        self.put("life", self._life)

    def _place(self) -> tuple[int, str | None] | None:
        offset = self.get("offset")
        return None if offset is None else (int(offset), self.get("name"))

    def _current_life(self) -> int:
        return int(self.get("life") or 0)
