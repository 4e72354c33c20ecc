"""The private broker that everything is measured on, and commands against it."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import measure
from subjects import COMMAND, HERE


class Bench:
    """A private broker, and the commands against it. pid: of the broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("JOBRUNNER_")}
        self.environ["JOBRUNNER_STATE_DIR"] = str(folder)
        self.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.url = ""
        self.version = ""
        self.pid = 0

    def type(self, *args: str) -> measure.Cost:
        """Run a `jobrunner` command to its end. Raises: SystemExit when it fails."""
        cost = measure.cost([*COMMAND, *args], self.environ)
        if cost.exit_code:
            sys.exit(f"jobrunner {' '.join(args)} ended with exit code {cost.exit_code}")
        return cost


@contextmanager
def private_broker() -> Iterator[Bench]:
    """A broker in a folder of its own, gone again afterwards."""
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as folder:
        bench = Bench(Path(folder))
        bench.type("broker", "start")
        try:
            status = json.loads(bench.type("broker", "status", "--secrets", "--json").stdout)
            bench.url, bench.version, bench.pid = status["url"], status["version"], status["pid"] or 0
            yield bench
        finally:
            bench.type("broker", "stop", "--wipe", "--yes")
