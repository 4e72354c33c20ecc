"""Files of JSON lines that survive the death of their writer."""

import json
import os
import time
from pathlib import Path
from typing import Any


class Notes:
    """Appends lines; each is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_DSYNC, 0o600)

    def write(self, **fields: Any) -> None:
        line = json.dumps({"t": round(time.monotonic(), 6)} | fields)
        os.write(self._fd, line.encode() + b"\n")

    def write_all(self, lines: list[dict[str, Any]]) -> None:
        """Several lines with one write."""
        now = round(time.monotonic(), 6)
        os.write(self._fd, "".join(json.dumps({"t": now} | line) + "\n" for line in lines).encode())


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, without a last one that was cut short; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1] if line]
