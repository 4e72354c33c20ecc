"""A job that may run twice and counts once: the key and the effect are one transaction.

`jobrunner worker --app once_in_sqlite`, then `jobrunner enqueue once_in_sqlite:deposit accounts.db ada 5`.
"""

import sqlite3
from contextlib import closing

from jobrunner import context, job

SCHEMA = """
CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, cents INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY, result INTEGER NOT NULL);
"""


@job
def deposit(database: str, name: str, cents: int) -> int:
    """Adds money to an account and gives what is in it then, however often this job runs."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as db:
        db.executescript(SCHEMA)
        db.execute("BEGIN IMMEDIATE")  # a second run of this job waits here until the first has committed
        row = db.execute("SELECT result FROM done WHERE key = ?", (context.idempotency_key,)).fetchone()
        if row is not None:
            db.execute("ROLLBACK")
            return int(row[0])
        db.execute("INSERT OR IGNORE INTO account (name) VALUES (?)", (name,))
        db.execute("UPDATE account SET cents = cents + ? WHERE name = ?", (cents, name))
        total = int(db.execute("SELECT cents FROM account WHERE name = ?", (name,)).fetchone()[0])
        db.execute("INSERT INTO done VALUES (?, ?)", (context.idempotency_key, total))
        db.execute("COMMIT")  # the effect and the note of it, or neither
        return total
