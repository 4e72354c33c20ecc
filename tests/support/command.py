"""The installed command, run as a person runs it: a process with its own environment, folder and state."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.eventually import eventually

_SCRIPT = Path(sysconfig.get_path("scripts")) / "jobrunner"
COMMAND = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "jobrunner"]
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 90.0


class Commands:
    """Runs `jobrunner` in one folder. env: added to a clean environment; the state folder is this object's own."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.state = folder / ".state"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBRUNNER_", "CI"))}
        self.env = kept | {"JOBRUNNER_STATE_DIR": str(self.state), "PYTHONPATH": str(ROOT)} | dict(env)
        self._started: list[subprocess.Popen[str]] = []

    def run(
        self,
        *args: str,
        stdin: str = "",
        code: int | None = 0,
        timeout_s: float = TIMEOUT_S,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, with pipes for its streams. code: the exit code it must have, None for any."""
        done = subprocess.run(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.env | dict(env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> Any:
        """Its one JSON document."""
        return json.loads(self.run("--json", *args, code=code, env=env).stdout)

    def enqueue(self, *args: str) -> str:
        """The id of a new job."""
        return self.run("enqueue", *args).stdout.strip()

    def state_of(self, job_id: str) -> str:
        """The state of a job."""
        return str(self.json("show", job_id)["state"])

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start it in a session of its own and go on; `close` ends what is still there. Streams: pipes for both."""
        process = subprocess.Popen(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.env | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End what `start` has begun, in order if it can."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def depth(cli: Commands, queue: str) -> int:
    """How many messages are ready in it; 0 as well where it has not been made yet."""
    done = cli.run("--json", "queues", "list", queue, code=None)
    rows = json.loads(done.stdout.splitlines()[0])["queues"]
    return int(rows[0]["ready"]) if rows else 0


def has_depth(cli: Commands, queue: str, count: int) -> None:
    """Until so many messages are ready in it: a quorum queue that is busy counts for a moment as an empty one."""

    def same() -> None:
        assert depth(cli, queue) == count

    eventually(same)
