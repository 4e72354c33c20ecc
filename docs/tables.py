"""Writes the tables of the documentation that are data in the code: `python docs/tables.py`.

Each stands between `<!-- table: NAME ... -->` and `<!-- end of table -->` in its page.
"""

import inspect
import re
import sys
from pathlib import Path

from jobrunner import events
from jobrunner.broker import users as broker_users
from jobrunner.envelope import State
from jobrunner.errors import catalogue
from jobrunner.worker.journal import ACTIONS

HERE = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- table: (\w+)[^\n]*-->\n).*?(<!-- end of table -->)", re.DOTALL)

HEADERS = {
    "attempt": "attempts used; 0 before the first run",
    "copy": "goes up with every republish: retry, hand-back by copy, dead letter; by 1000 from the ledger",
    "chain": "+1 when an ended job is begun anew: `retry`, `audit --repair`",
    "crashes": "runs whose process died",
    "not_before_ms": "due then, in milliseconds since 1970",
    "parked_since_ms": "waits since then for a worker that knows its function",
    "submitted_by": "for producers that may not publish to queues; not set in this version",
    "lease": "of a copy that waits while another worker has the run: how often it has asked",
}

COMMON = ("v", "at", "id", "run", "attempt", "copy", "chain")
"""Fields of all events of jobs."""


def row(*cells: str) -> str:
    """A line of a table. A bar within a cell would end it."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def actions() -> list[str]:
    """The log's actions."""
    return ["| Action | Means |", "|---|---|", *(row(f"`{name}`", text) for name, text in ACTIONS.items())]


def kinds() -> list[str]:
    """Kinds of events. What they mean is the first line of their class."""
    lines = ["| Kind | State afterwards | Fields of its own | Means |", "|---|---|---|---|"]
    for kind, state in events.KINDS.items():
        event = getattr(events, kind.capitalize())
        common = COMMON if "copy" in event.__struct_fields__ else ("v", "at")
        own = ", ".join(f"`{name}`" for name in event.__struct_fields__ if name not in common)
        text = inspect.getdoc(event) or ""
        lines.append(row(f"`{kind}`", state or "-", own or "-", text.splitlines()[0]))
    return lines


def headers() -> list[str]:
    """The state of a job in its headers."""
    state = State(**{field: "x" if field == "submitted_by" else 1 for field in HEADERS})  # type: ignore[arg-type]
    names = zip(state.headers(), HEADERS.values(), strict=True)
    return ["| Header | Content |", "|---|---|", *(row(f"`{name}`", text) for name, text in names)]


def errors() -> list[str]:
    """The catalogue of errors."""
    rows = sorted(catalogue(), key=lambda error: (error.exit_code, error.code))
    lines = [row(f"`{error.code}`", str(error.exit_code), error.text, error.hint_text) for error in rows]
    return ["| Code | Exit | Text | Hint |", "|---|---|---|---|", *lines]


def users() -> list[str]:
    """The commands that make the broker's users."""
    return ["", "```sh", *broker_users.commands(["task_queue"], vhost="jobrunner"), "```", ""]


def roles() -> list[str]:
    """The broker's users and what they are for."""
    found = broker_users.roles(["task_queue"])
    return ["| User | May |", "|---|---|", *(row(f"`{role.user}`", role.purpose) for role in found)]


TABLES = {"actions": actions, "kinds": kinds, "headers": headers, "errors": errors, "users": users, "roles": roles}


def current(page: str) -> str:
    """The page with its tables as they must be."""
    return _BLOCK.sub(lambda found: f"{found[1]}{chr(10).join(TABLES[found[2]]())}\n{found[3]}", page)


def main() -> None:
    """Write each page that differs, and say so."""
    for path in sorted(HERE.rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (wanted := current(page)) != page:
            path.write_text(wanted, encoding="utf-8")
            sys.stdout.write(f"written: {path.relative_to(HERE)}\n")


if __name__ == "__main__":
    main()
