"""A worker as a process of its own, with its log, and jobs that leave a witness at their start and their end."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.support.command import COMMAND, Commands
from tests.support.eventually import eventually

TASKS = '''
"""Jobs that write down, outside of jobrunner, that they started and ended."""

import os
import signal
import time
from pathlib import Path

from jobrunner import Permanent, Retry, context, job


def note(witness, word):
    fd = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word} {context.id} {os.getpid()}\\n".encode())
    os.close(fd)


@job
def slow(witness, seconds, _number=0):
    note(witness, "start")
    time.sleep(seconds)
    note(witness, "end")
    return os.getpid()


@job
def until(witness, gate):
    """Runs until the file `gate` exists."""
    note(witness, "start")
    while not Path(gate).exists():
        time.sleep(0.01)
    note(witness, "end")
    return "opened"


@job
def add(a, b):
    return a + b


@job
def waited(witness):
    """For what it waited."""
    note(witness, "start")
    return {"after": list(context.after), "run": context.after_run}


@job
def shout(count):
    return "x" * count


@job(retries=2, backoff=0.1)
def fails(witness):
    note(witness, "start")
    print("about to fail")
    raise ValueError("no such luck")


@job(backoff=0.1)
def fails_until(witness, attempt):
    note(witness, "start")
    if context.attempt < attempt:
        raise ConnectionError("not yet")
    return context.attempt


@job
def hopeless(witness):
    note(witness, "start")
    raise Permanent("no such user")


@job
def later(witness):
    note(witness, "start")
    if context.attempt == 1:
        raise Retry("busy", after=0.3)
    return "done"


@job
def kills_worker(witness):
    note(witness, "start")
    os.kill(int(open(f"/proc/{os.getpid()}/stat").read().split()[3]), signal.SIGKILL)
    time.sleep(60)


def handle(body):
    note(os.environ["WITNESS"], f"body-{len(body)}")
    return len(body)
'''


def action_of(record: dict[str, Any]) -> str:
    """The machine word of a record."""
    return str(record.get("event", {}).get("action") or record.get("event.action", ""))


class WorkerProcess:
    """`jobrunner worker` in the folder of `commands`, which holds the tasks above as tasks.py.

    A worker counts as dead after a second of silence: a connection lost for longer needs a `--lost-after` of its own.
    before: called in its process before it begins.
    """

    def __init__(self, commands: Commands, *args: str, before: Callable[[], None] | None = None, **env: str) -> None:
        (commands.folder / "tasks.py").write_text(TASKS)
        self.log = commands.folder / f"worker-{len(list(commands.folder.glob('worker-*')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "worker", "--log-format", "json", "--lost-after", "1s", *args],
                cwd=commands.folder,
                env=commands.env | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=before,  # noqa: PLW1509 - nothing here runs in threads
            )

    def __enter__(self) -> Self:
        self.wait_for("worker.started", timeout_s=60)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def records(self) -> list[dict[str, Any]]:
        """What it has logged."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def actions(self) -> list[str]:
        """The machine word of each record."""
        return [action_of(record) for record in self.records()]

    def told(self, action: str) -> list[dict[str, Any]]:
        """The records of that action."""
        return [record for record in self.records() if action_of(record) == action]

    def wait_for(self, action: str, count: int = 1, timeout_s: float = 60) -> None:
        """Until that action was logged so often."""

        def logged() -> None:
            assert self.process.poll() is None or action == "worker.stopped", self.log.read_text()
            assert self.actions().count(action) >= count, self.log.read_text()

        eventually(logged, timeout_s)

    def kill(self) -> None:
        """SIGKILL, as a power cut or the kernel's OOM killer would."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 40) -> int:
        """One signal; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=timeout_s)


def starts(witness: Path, word: str = "start") -> int:
    """How many lines of the witness begin with that word."""
    return sum(line.startswith(f"{word} ") for line in witness.read_text().splitlines()) if witness.exists() else 0


def wait_for_start(witness: Path, count: int = 1, timeout_s: float = 60) -> None:
    """Until so many runs have started."""

    def started() -> None:
        assert starts(witness) >= count

    eventually(started, timeout_s)


class GatedJob:
    """A job that has started and runs until it is let go, and a command that waits for its end."""

    def __init__(self, cli: Commands, queue: str, witness: Path) -> None:
        self._gate = witness.with_name("gate")
        self._waiting = cli.start("enqueue", "-q", queue, "tasks:until", str(witness), str(self._gate), "--wait")
        wait_for_start(witness)

    def open_gate(self) -> None:
        """Nothing keeps it from ending."""
        self._gate.touch()

    def let_go(self) -> None:
        """It ends well, and the command knows it."""
        self.open_gate()
        assert self._waiting.wait(60) == 0


def alive(pid: int) -> bool:
    """Whether a process of that number runs, zombies not counted."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def pids_in(witness: Path) -> list[int]:
    """The processes that started runs."""
    return [int(line.split()[2]) for line in witness.read_text().splitlines() if line.startswith("start ")]
