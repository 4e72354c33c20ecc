"""What the demo stands on: a private broker, a worker, and the `jobrunner` command as a person would type it."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WAIT = ("--wait", "--wait-timeout", "60s", "--json")
DRAIN_S = 30.0
"""How long the worker may take to stop: its grace and the time to hand back."""


class DemoFailed(Exception):
    """The demo cannot go on; its text says why."""


@dataclass(frozen=True)
class Answer:
    """What a command gave. lines: the JSON documents on its stdout. took_s: with the start of the command."""

    exit_code: int
    stdout: str
    lines: list[dict[str, Any]]
    stderr: str
    took_s: float


class Stage:
    """Runs `jobrunner` against the demo's own broker. folder: for the broker's data, the worker's log and markers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "worker.log"
        self._environ = {key: value for key, value in os.environ.items() if not key.startswith("JOBRUNNER_")}
        # the state folder is where the command looks for a local broker: the person's own one is neither seen nor used
        self._environ["JOBRUNNER_STATE_DIR"] = str(folder / "state")

    def run(self, *args: str, stdin: str | None = None, shown: str | None = None) -> Answer:
        """Type a command and wait for its end. shown: what to print of it, where it was too long."""
        show(shown or shlex.join(["jobrunner", *args]))
        started = time.perf_counter()
        done = subprocess.run(
            [*command(), *args], input=stdin, env=self._environ, cwd=HERE, capture_output=True, text=True, check=False
        )
        took_s = time.perf_counter() - started
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return Answer(done.returncode, done.stdout, lines, done.stderr.strip(), took_s)

    def must(self, *args: str, stdin: str | None = None, shown: str | None = None) -> Answer:
        """The same, where only success makes sense. Raises: DemoFailed."""
        answer = self.run(*args, stdin=stdin, shown=shown)
        if answer.exit_code:
            raise DemoFailed(f"jobrunner {args[0]} ended with exit code {answer.exit_code}:\n{answer.stderr}")
        return answer

    def start_worker(self, *args: str) -> "subprocess.Popen[bytes]":
        """A worker that writes to `log`. It has a session of its own, so that Ctrl-C reaches the demo alone."""
        show(shlex.join(["jobrunner", *args]) + "  &")
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [*command(), *args],
                env=self._environ,
                cwd=HERE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def command() -> list[str]:
    """The `jobrunner` command that belongs to this Python, or its module where it is not installed."""
    beside = Path(sys.executable).parent / "jobrunner"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "jobrunner"]


def show(line: str) -> None:
    """A command line, as it is typed."""
    print(f"$ {line}", flush=True)


@contextmanager
def stage(procs: int) -> Iterator[Stage]:
    """A broker and a worker of `procs` processes, gone again afterwards, however the block is left."""
    folder = Path(tempfile.mkdtemp(prefix="jobrunner-demo-"))
    on_stage = Stage(folder)
    worker = None
    try:
        tell(on_stage.must("broker", "start").stdout.strip())
        worker = on_stage.start_worker("worker", "--procs", str(procs), "--app", "demo_tasks", "--allow-commands")
        yield on_stage
    except DemoFailed:
        print(tail(on_stage.log), file=sys.stderr)
        raise
    finally:
        _leave(on_stage, worker)


def _leave(on_stage: Stage, worker: "subprocess.Popen[bytes] | None") -> None:
    """Stop the worker, then the broker with its data. A second Ctrl-C does not keep it from that."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if worker is not None:
            show(f"kill -TERM {worker.pid}")
            worker.terminate()
            try:
                worker.wait(DRAIN_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        on_stage.run("broker", "stop", "--wipe", "--yes")
    finally:
        shutil.rmtree(on_stage.folder, ignore_errors=True)
        signal.signal(signal.SIGINT, previous)


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of the worker's log, with a heading."""
    if not path.exists():
        return ""
    return "\n".join(["The worker's log ends:", *path.read_text(errors="replace").splitlines()[-lines:]])


def tell(text: str) -> None:
    """A line of the story."""
    print(text, flush=True)


def as_lines(jobs: Sequence[dict[str, Any]]) -> str:
    """Jobs as `enqueue --from` reads them: one JSON object a line."""
    return "".join(json.dumps(job) + "\n" for job in jobs)
