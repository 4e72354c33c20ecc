"""The processes of a chaos run, started again whenever they end."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.stress.chaos.notes import Notes
from tests.support.command import COMMAND, ROOT
from tests.support.proxy import Lane, Proxy

PROCS = 2
JOBS = Path(__file__).parent / "jobs.py"
MUTANTS = ROOT / "tests" / "stress" / "mutants"
READY_S = 60.0
ACK = b"\x00\x3c\x00\x50"
"""Class and method of `basic.ack`. From the broker it is the confirm of a publish."""


class Wire(Proxy):
    """A proxy that bears a broker that is not there. confirms: while it is not set, none passes; all else does."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.confirms = asyncio.Event()
        self.confirms.set()

    async def _pass_on(self, lane: Lane, data: bytes, sink: asyncio.StreamWriter) -> None:
        if lane is self.lanes["down"] and ACK in data:
            await self.confirms.wait()
        await super()._pass_on(lane, data, sink)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await super()._accept(reader, writer)
        except OSError:
            self._drop(writer)


@dataclass
class Member:
    """One place of the crew, and whoever fills it now.

    env: set for the next start only. expected: it may end now without a word in the notes.
    """

    name: str
    command: list[str]
    folder: Path
    env: dict[str, str]
    once: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ended: bool = False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def logged(self) -> bytes:
        """What it has written to stdout and stderr."""
        log = self.folder.parent / f"{self.name}.log"
        return log.read_bytes() if log.exists() else b""

    def children(self) -> list[int]:
        """The processes that run jobs: the guardian is none of them."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        pids = [int(pid) for task in tasks for pid in task.read_text().split()]
        return [pid for pid in pids if b"execution.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


class Crew:
    """Two workers, two producers, one stranger. notes: who was started when, under which pid, how it ended."""

    def __init__(self, folder: Path, seed: int, notes: Notes, *, mutant: str | None, lost_after: str) -> None:
        self.folder = folder
        self.seed = seed
        self.notes = notes
        self.mutant = mutant
        self.lost_after = lost_after
        self.workers: list[Member] = []
        self.producers: list[Member] = []
        self.random = random.Random(f"crew {seed}")
        self._keepers: list[asyncio.Task[None]] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBRUNNER_")}
        self.env = kept | {
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CHAOS_WITNESS": str(folder / "witness"),
            "CHAOS_RUN": str(folder),
        }

    def add_worker(self, name: str, url: str, more: dict[str, str]) -> None:
        folder = self.folder / name
        folder.mkdir()
        (folder / "chaos_jobs.py").write_text(JOBS.read_text())
        command = [*COMMAND, "worker", "-p", str(PROCS), "-q", "main", "-q", "doomed", "-A", "chaos_jobs"]
        command += ["--name", name, "--grace", "5s", "--log-format", "json", "--lost-after", self.lost_after]
        path = f"{MUTANTS / self.mutant}:{folder}:{ROOT}" if self.mutant else f"{folder}:{ROOT}"
        env = self.env | {"JOBRUNNER_URL": url, "JOBRUNNER_STATE_DIR": str(folder / "state"), "PYTHONPATH": path} | more
        self.workers.append(Member(name, command, folder, env))

    def add_producer(self, name: str, module: str, url: str, *args: str) -> None:
        command = [sys.executable, "-m", f"tests.stress.chaos.{module}", url]
        self.producers.append(Member(name, [*command, *args], ROOT, self.env))

    def start(self, members: list[Member]) -> None:
        for member in members:
            member.ended = False
            self._keepers.append(asyncio.create_task(self._keep(member)))

    async def _keep(self, member: Member) -> None:
        while not member.ended:
            self._launch(member)
            assert member.process is not None
            began = time.monotonic()
            while member.process.poll() is None:
                await asyncio.sleep(0.05)
            self.notes.write(do="ended", name=member.name, pid=member.pid, code=member.process.returncode)
            if not member.ended:
                short = time.monotonic() - began < 3
                await asyncio.sleep(self.random.uniform(1, 3) if short else self.random.uniform(0.1, 1.0))

    def _launch(self, member: Member) -> None:
        member.starts += 1
        command = list(member.command)
        if member in self.producers:
            ledger = self.folder / f"ledger-{member.name}-{member.starts}"
            command[4:4] = [str(ledger), f"{self.seed} {member.name} {member.starts}"]
        once, member.once = member.once, {}
        with (self.folder / f"{member.name}.log").open("ab") as log:
            member.process = subprocess.Popen(
                command,
                cwd=member.folder,
                env=member.env | once,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        kind = "worker" if member in self.workers else "producer"
        self.notes.write(do="started", name=member.name, pid=member.pid, kind=kind, armed=list(once.values()))

    async def stop(self, members: list[Member], timeout_s: float) -> list[str]:
        """SIGTERM, and wait. Gives the names of those that had to be killed."""
        slow = []
        for member in members:
            member.ended = True
            if member.lives:
                os.kill(member.pid, signal.SIGCONT)
                os.kill(member.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for member in members:
            while member.lives and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            if member.lives:
                slow.append(member.name)
                os.kill(member.pid, signal.SIGKILL)
        return slow

    async def close(self) -> None:
        """End whatever still lives."""
        await self.stop([*self.workers, *self.producers], 40)
        for keeper in self._keepers:
            await asyncio.wait([keeper], timeout=5)
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)


def left_behind(folder: Path) -> list[str]:
    """The processes that carry the mark of this run in their environment."""
    found = []
    mark = f"CHAOS_RUN={folder}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes() and "Z" not in (environ.parent / "stat").read_text().rpartition(")")[2][:3]:
                found.append(f"{environ.parent.name} {(environ.parent / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found


def size_of(pid: int) -> dict[str, int]:
    """Open files and resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return {"fds": len(list(Path(f"/proc/{pid}/fd").iterdir())), "rss_kib": rss}
