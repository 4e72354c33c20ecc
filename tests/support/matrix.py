"""Runs cells of the failpoint matrix: many at a time, each with a queue, a folder and a worker of its own."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika

from tests.support.broker import TestBroker
from tests.support.cells import CHILD, ENQUEUE, SHUTDOWN, STATES, Cell, least_runs, most_runs
from tests.support.command import COMMAND, Commands
from tests.support.eventually import eventually
from tests.support.foreign import publish
from tests.support.hold import await_hold, release
from tests.support.worker import WorkerProcess, wait_for_start

STOPPED_S = 70.0
TAKEN_S = 3.0
EMPTY_S = 8.0
"""How long all queues must look empty: RabbitMQ counts what quorum queues hold once in five seconds."""

PATIENCE_S = 120.0
SETTLED = ("job.succeeded", "job.dead", "job.cancelled")
ENDS = ("succeeded", "dead", "cancelled", "expired")


@dataclass
class Trial:
    """One cell under way. exits: of its worker, or of the command that enqueues. trouble: what went wrong meanwhile."""

    cell: Cell
    queue: str
    folder: Path
    commands: Commands
    worker: WorkerProcess | None = None
    command: "subprocess.Popen[bytes] | None" = None
    job_id: str | None = None
    body: bytes = b""
    exit: int | None = None
    trouble: list[str] = field(default_factory=list)

    @property
    def witness(self) -> Path:
        return self.folder / "witness"

    @property
    def fifo(self) -> Path:
        return self.folder / "fifo"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        process = self.command if self.worker is None else self.worker.process
        assert process is not None
        return process

    def runs(self) -> list[str]:
        """The id of each run that has started."""
        lines = self.witness.read_text().splitlines() if self.witness.exists() else []
        return [line.split()[1] for line in lines if line.startswith("start ")]


class Matrix:
    """A run of many cells on one broker. Call `run`, then `problems` for each cell."""

    def __init__(self, broker: TestBroker, folder: Path, cells: Iterable[Cell], *, at_a_time: int) -> None:
        self.broker = broker
        self.folder = folder
        self.mark = uuid4().hex[:8]
        self.at_a_time = at_a_time
        self.trials = {cell: self._trial(number, cell) for number, cell in enumerate(cells)}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.letters: list[tuple[str, str | None]] = []
        self.left: dict[str, int] = {}
        self.sweeper = Commands(self._make("sweeper"), {"JOBRUNNER_URL": broker.url, "MATRIX": self.mark})

    def _make(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def _trial(self, number: int, cell: Cell) -> Trial:
        folder = self._make(str(number))
        os.mkfifo(folder / "fifo")
        commands = Commands(folder, {"JOBRUNNER_URL": self.broker.url, "MATRIX": self.mark})
        return Trial(cell, f"matrix-{self.mark}-{number}", folder, commands)

    def run(self) -> None:
        """All cells, then one worker for whatever they have left, then a look at everything."""
        alone = [trial for trial in self.trials.values() if not trial.cell.together]
        with ThreadPoolExecutor(self.at_a_time) as pool:
            list(pool.map(self._guarded(self._alone), alone))
        for fault, strike in (("kill-broker", self._restart_broker), ("stop", self._let_time_pass)):
            trials = [trial for trial in self.trials.values() if trial.cell.fault == fault]
            if trials:
                with ThreadPoolExecutor(self.at_a_time) as pool:
                    list(pool.map(self._guarded(self._prepare), trials))
                strike()
                with ThreadPoolExecutor(len(trials)) as pool:
                    list(pool.map(self._guarded(self._finish), trials))
        self._sweep()

    @staticmethod
    def _guarded(act: Callable[[Trial], None]) -> Callable[[Trial], None]:
        def guarded(trial: Trial) -> None:
            if trial.trouble:
                return
            try:
                act(trial)
            except (AssertionError, OSError, subprocess.SubprocessError) as exc:
                trial.trouble.append(f"{type(exc).__name__}: {str(exc)[-2000:]}")

        return guarded

    def _alone(self, trial: Trial) -> None:
        self._prepare(trial)
        self._finish(trial)

    # --- one cell ---------------------------------------------------------------------------------------------------

    def _prepare(self, trial: Trial) -> None:
        """Up to the moment at which its process is at the failpoint."""
        cell = trial.cell
        env = {"JOBRUNNER_FAILPOINT": cell.armed, "JOBRUNNER_FAILPOINT_FIFO": str(trial.fifo)}
        call = _call(trial)
        if cell.point in ENQUEUE:
            command = [*COMMAND, "enqueue", "-q", trial.queue, *call]
            trial.command = subprocess.Popen(
                command,
                cwd=trial.folder,
                env=trial.commands.env | env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        else:
            trial.worker = WorkerProcess(trial.commands, "-q", trial.queue, "-p", "1", "--lost-after", "2s", **env)
            trial.worker.wait_for("worker.started", timeout_s=PATIENCE_S)
            self._submit(trial, call)
        match cell.action:
            case "hold":
                await_hold(trial.process, trial.fifo, PATIENCE_S)
            case "stop":
                _await_stop(trial)

    def _submit(self, trial: Trial, call: tuple[str, ...]) -> None:
        if trial.cell.outcome == "malformed":
            trial.body = f"no job at all, {trial.queue}".encode()
            publish(self.broker.url, trial.queue, trial.body)
            return
        trial.job_id = trial.commands.json("enqueue", "-q", trial.queue, *call)["id"]
        if trial.cell.outcome == "cancel":
            wait_for_start(trial.witness, timeout_s=PATIENCE_S)
            trial.commands.run("cancel", trial.job_id, code=None)
        if trial.cell.point in SHUTDOWN:
            wait_for_start(trial.witness, timeout_s=PATIENCE_S)
            trial.process.send_signal(signal.SIGTERM)

    def _finish(self, trial: Trial) -> None:
        """Break it, unless it broke by itself; let it go on; wait until it has done what it can."""
        cell = trial.cell
        if cell.action == "hold":
            victim = {"kill-parent": trial.process.pid, "kill-child": _child_of(trial)}.get(cell.fault)
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
            if cell.fault not in ("kill-parent", "kill-child") or cell.point not in CHILD:
                release(trial.fifo)
        if cell.fault == "stop":
            for pid in {trial.process.pid, _child_of(trial) or trial.process.pid}:
                os.kill(pid, signal.SIGCONT)
        if cell.fault != "kill-parent" and trial.worker is not None and cell.point not in SHUTDOWN:
            _wait_settled(trial)
            if cell.fault in ("kill-broker", "cut", "stop"):
                self._wait_taken_back(trial)
            trial.process.send_signal(signal.SIGTERM)
        trial.exit = trial.process.wait(timeout=PATIENCE_S)

    def _wait_taken_back(self, trial: Trial) -> None:
        """Until the message whose ack was lost has come again, and is settled by who remembers it."""
        empty_since: float | None = None

        def taken() -> None:
            nonlocal empty_since
            now = time.monotonic()
            with pika.BlockingConnection(pika.URLParameters(self.broker.url)) as connection:
                declared = connection.channel().queue_declare(trial.queue, passive=True)
            empty_since = None if declared.method.message_count else empty_since or now
            assert empty_since is not None
            assert now - empty_since >= TAKEN_S

        eventually(taken, PATIENCE_S, 0.3)

    # --- faults that strike all of their cells at once --------------------------------------------------------------

    def _restart_broker(self) -> None:
        self.broker.kill9()
        self.broker.start()

    @staticmethod
    def _let_time_pass() -> None:
        threading.Event().wait(STOPPED_S)

    # --- afterwards -------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """One worker for the queues of all cells, until nothing waits anywhere; then everything is read."""
        for trial in self.trials.values():
            if trial.process.poll() is None:
                trial.process.kill()
                trial.process.wait()
        queues = [word for trial in self.trials.values() for word in ("-q", trial.queue)]
        with WorkerProcess(self.sweeper, "-p", "4", "--lost-after", "2s", *queues):
            empty_since = time.monotonic()

            def drained() -> None:
                nonlocal empty_since
                self.left = self._depths()
                if self.left:
                    empty_since = time.monotonic()
                assert time.monotonic() - empty_since >= EMPTY_S, self.left

            try:
                eventually(drained, PATIENCE_S, 0.5)
            except AssertionError:
                return
        self._read()

    def _depths(self) -> dict[str, int]:
        listed = self.broker.ctl("list_queues", "-q", "-p", "jobrunner", "--no-table-headers", "name", "messages")
        rows = [line.split("\t") for line in listed.splitlines() if "\t" in line]
        ours = (f"matrix-{self.mark}-", "jobrunner.v1.delay.", "jobrunner.v1.unrouted")
        return {name: int(count or 1) for name, count in rows if name.startswith(ours) and count != "0"}

    def _read(self) -> None:
        marker = uuid4().hex
        properties = pika.BasicProperties(message_id=marker)
        publish(self.broker.url, "marker.-.-", b"{}", properties, exchange="jobrunner.v1.events")
        with pika.BlockingConnection(pika.URLParameters(self.broker.url)) as connection:
            channel = connection.channel()
            reader = connection.channel()
            reader.basic_qos(prefetch_count=200)
            arguments = {"x-stream-offset": "first"}
            for method, properties, body in reader.consume("jobrunner.v1.ledger", arguments=arguments):
                reader.basic_ack(method.delivery_tag)
                if properties.message_id == marker:
                    break
                told = json.loads(body)
                for event in told if isinstance(told, list) else [told]:
                    if event.get("kind") in ENDS:
                        self.events.setdefault(event["id"], []).append(event)
            reader.cancel()
            while True:
                method, properties, body = channel.basic_get("jobrunner.v1.dead")
                if method is None:
                    break
                name = body.decode() if body.startswith(b"no job at all") else properties.message_id
                self.letters.append((name, (properties.headers or {}).get("jr-queue")))

    # --- the verdict ------------------------------------------------------------------------------------------------

    def problems(self, cell: Cell) -> list[str]:
        """What does not hold for this cell; empty: all of the table does."""
        trial = self.trials[cell]
        found = list(trial.trouble)
        left = {name: count for name, count in self.left.items() if name == trial.queue or "delay" in name}
        if left:
            found.append(f"messages are left: {left}")
        found += _exit_problems(trial)
        runs = len(trial.runs())
        least, most = _bounds(trial)
        if not least <= runs <= most:
            found.append(f"it ran {runs} times, not {least} to {most}")
        if cell.point in ENQUEUE and runs == 0:
            return found
        return found + self._end_problems(trial)

    def _end_problems(self, trial: Trial) -> list[str]:
        found = []
        expected = STATES[trial.cell.outcome]
        name = trial.body.decode() or trial.job_id or next(iter(trial.runs()), "?")
        letters = [letter for letter, queue in self.letters if letter == name and queue == trial.queue]
        ends = {event["kind"] for event in self.events.get(name, [])}
        if trial.body:
            ends = {event["kind"] for told in self.events.values() for event in told if _is_of(event, trial.queue)}
        if ends != {expected}:
            found.append(f"its ends are {sorted(ends)}, not {expected}")
        if expected == "dead" and not 1 <= len(letters) <= 2:
            found.append(f"it has {len(letters)} dead letters")
        if expected != "dead" and letters:
            found.append("it has a dead letter")
        return found


def _is_of(event: dict[str, Any], queue: str) -> bool:
    return bool(event.get("queue") == queue)


def _bounds(trial: Trial) -> tuple[int, int]:
    """How often it must and may have run. Of a command that enqueues, its exit code says it."""
    cell = trial.cell
    if cell.point not in ENQUEUE:
        return least_runs(cell), most_runs(cell)
    told = {0: (1, 1), 3: (0, 0), 5: (0, 1)}
    killed = (0, 0) if cell.point == "enqueue.before_publish" else (0, 1) if "publish" in cell.point else (1, 1)
    return told.get(trial.exit if trial.exit is not None else -1, killed)


def _exit_problems(trial: Trial) -> list[str]:
    cell = trial.cell
    if cell.fault == "kill-parent":
        return [] if trial.exit == -signal.SIGKILL else [f"it was to be killed, and ended with {trial.exit}"]
    good = (0, 3, 5) if cell.point in ENQUEUE else (0,)
    return [] if trial.exit in good else [f"it ended with {trial.exit}"]


def _call(trial: Trial) -> tuple[str, ...]:
    witness = str(trial.witness)
    match trial.cell.outcome:
        case "retry":
            return ("--backoff", "0.1s..0.2s", "tasks:fails_until", witness, "2")
        case "dead":
            return ("tasks:hopeless", witness)
        case "cancel":
            return ("tasks:until", witness, str(trial.folder / "never"))
        case _:
            seconds = "2" if trial.cell.point in SHUTDOWN else "0"
            return ("--backoff", "0.1s..0.2s", "tasks:slow", witness, seconds)


def _let_pass(trial: Trial) -> None:
    """Whoever is held now goes on: a child that came after the one that was killed."""
    fd = os.open(trial.fifo, os.O_RDONLY | os.O_NONBLOCK)
    threading.Event().wait(0.05)
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 100)
    os.close(fd)
    with contextlib.suppress(OSError):
        fd = os.open(trial.fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b".")
        os.close(fd)


def _await_stop(trial: Trial) -> None:
    """Until the process at the failpoint stands still."""

    def stopped() -> None:
        pids = [trial.process.pid, _child_of(trial)]
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids if pid]
        assert "T" in states

    eventually(stopped, PATIENCE_S)


def _child_of(trial: Trial) -> int | None:
    """The process that runs the jobs of its worker."""
    if trial.worker is None:
        return None
    for task in Path(f"/proc/{trial.process.pid}/task").glob("*/children"):
        for pid in task.read_text().split():
            if b"execution.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


def _wait_settled(trial: Trial) -> None:
    """Until its worker has logged the end of its job; a retry's first run is none."""
    worker = trial.worker
    assert worker is not None

    def settled() -> None:
        assert worker.process.poll() is None, f"it ended with {worker.process.returncode}"
        if trial.cell.action == "hold":
            _let_pass(trial)
        assert any(action in SETTLED for action in worker.actions()), worker.log.read_text()[-1500:]

    eventually(settled, PATIENCE_S, 0.1)
