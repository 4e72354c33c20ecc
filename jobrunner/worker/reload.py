"""What a running worker reads again: the state of the Python sources in a folder, and its keys."""

import logging
import os
from pathlib import Path

from jobrunner.errors import JobrunnerError
from jobrunner.keyring import KeyRing
from jobrunner.worker import journal

MAX_FILES = 5_000
"""Files looked at: about 10 ms. A folder with more is a virtual environment that lost its name."""

_SKIPPED = {"__pycache__", "node_modules", "venv", "site-packages"}


def fingerprint(folder: Path) -> int:
    """A number that changes when a `*.py` below `folder` is written, added or removed. Hidden folders are left out."""
    seen: list[tuple[str, int, int]] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
        for name in files:
            if not name.endswith(".py"):
                continue
            try:
                status = os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118 - a Path for each file triples the time
            except FileNotFoundError:
                continue
            seen.append((root + name, status.st_mtime_ns, status.st_size))
        if len(seen) >= MAX_FILES:
            break
    return hash(tuple(sorted(seen)))


def reload_keys(ring: KeyRing | None) -> None:
    """Read the key file again. One that is wrong changes nothing: jobs go on with the keys that were there."""
    if ring is None:
        return
    try:
        if ring.reload():
            kids = [key.kid for key in ring.keys]
            journal.say(logging.INFO, "keys.reloaded", f"keys in force: {', '.join(kids)}", keys=kids)
    except JobrunnerError as exc:
        text = f"{exc.message} The keys stay as they were."
        journal.say(logging.ERROR, "keys.kept", text, error=exc.message)
