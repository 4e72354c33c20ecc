"""A chaos run: real processes, a real broker, seeded faults, and a verdict by a checker that trusts no one.

    python -m tests.stress.chaos.run [--seconds 180] [--seed 1] [--mutant NAME] [--only FAULT,...] [--keep FOLDER]

Prints the seed first, then each fault, then the figures. Exit 0: every invariant holds. 1: one does not.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from jobrunner.brokerurl import parse_url
from jobrunner.client import Client
from jobrunner.errors import JobrunnerError
from jobrunner.fixing.looking import SEEN_TO_MOVE, look
from jobrunner.fixing.repairing import Repairer
from tests.stress.chaos import checker, evidence, faults, notes
from tests.stress.chaos.case import Verdict
from tests.stress.chaos.crew import Crew, Wire, left_behind, size_of
from tests.stress.chaos.directed import DIRECTED
from tests.stress.chaos.faults import BROKER, OTHER, Fault, Field
from tests.stress.chaos.notes import Notes
from tests.support import broker as brokers

DRAIN_S = 240.0
EMPTY_S = 12.0
"""How long all queues must look empty: RabbitMQ counts what quorum queues hold once in five seconds."""

LONG_S = 3600.0
TWICE = 2
"""How often the situation of a directed fault must have come about, or the run says nothing of it."""

WORKERS = ("alpha", "beta")
UNROUTED = "jobrunner.v1.unrouted"
EMPTY = ("main", "doomed", UNROUTED)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seconds", type=float, default=180.0, help="of faults; starting and draining come on top")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gap", type=float, default=5.0, help="mean seconds between two faults of a lane")
    parser.add_argument("--rate", type=float, default=8.0, help="jobs a second of each of the two producers")
    parser.add_argument("--kind", help="all jobs are of this one kind, see producer.py")
    parser.add_argument("--lost-after", default="15s", help="the workers' own option")
    parser.add_argument("--mutant", help="a folder in tests/stress/mutants: the workers are broken on purpose")
    parser.add_argument("--broker", default="local", help="or rabbitmq-4, in a container")
    parser.add_argument("--only", default="", help="faults by name, separated by commas; those of directed.py too")
    parser.add_argument("--drain", type=float, default=DRAIN_S, help="longest wait for the last job")
    parser.add_argument("--keep", type=Path, help="where the evidence stays")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, flush=True)


class Chaos:
    """One run."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.folder = chosen.keep or Path(tempfile.mkdtemp(prefix="jobrunner-chaos-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.broker = brokers.make(chosen.broker)
        self.wires = {name: Wire(self.broker.url) for name in (*WORKERS, "producers")}
        starts = Notes(self.folder / "starts")
        self.crew = Crew(self.folder, chosen.seed, starts, mutant=chosen.mutant, lost_after=chosen.lost_after)
        self.notes = Notes(self.folder / "faults")
        self.cgroup = _cgroup()
        self.began = time.monotonic()
        self.sizes: dict[str, tuple[int, dict[str, int]]] = {}
        self.wanted: dict[str, int] = {}
        self.put_back = 0

    async def run(self) -> Verdict:
        for wire in self.wires.values():
            await wire.__aenter__()
        try:
            self._hire()
            self.crew.start(self.crew.workers)
            await self._all_ready()
            self.crew.start(self.crew.producers)
            await self._storm()
            drained = await self._drain()
            return await self._judge(drained)
        finally:
            await self.crew.close()
            for wire in self.wires.values():
                await wire.__aexit__(None, None, None)

    def _hire(self) -> None:
        for name in WORKERS:
            more = {"CHAOS_CGROUP": str(self.cgroup)} if self.cgroup else {}
            self.crew.add_worker(name, self.wires[name].url, more)
            worker = self.crew.workers[-1]
            worker.env |= faults.clock_env(worker.folder)
        url = self.wires["producers"].url
        kind = [self.chosen.kind] if self.chosen.kind else []
        self.crew.add_producer("first", "producer", url, str(self.chosen.rate), *kind)
        self.crew.add_producer("second", "producer", url, str(self.chosen.rate), *kind)
        self.crew.add_producer("stranger", "hostile", url, "1.0")

    async def _all_ready(self) -> None:
        """Until both workers have said so; their sizes then are the measure of growth."""
        for worker in self.crew.workers:
            async with asyncio.timeout(60):
                while b"worker.started" not in worker.logged():
                    await asyncio.sleep(0.1)
            self.sizes[worker.name] = (worker.pid, size_of(worker.pid))

    # --- faults -----------------------------------------------------------------------------------------------------

    async def _storm(self) -> None:
        absent = faults.available()
        for name, why in absent.items():
            say(f"left out: {name}: {why}")
        if self.cgroup is None:
            say("left out: a memory cgroup cannot be made here: the greedy jobs kill themselves")
        only = set(filter(None, self.chosen.only.split(",")))
        unknown = only - BROKER.keys() - OTHER.keys() - DIRECTED.keys()
        if unknown:
            sys.exit(f"no such fault: {', '.join(sorted(unknown))}")
        end = time.monotonic() + self.chosen.seconds
        field = Field(
            broker=self.broker,
            crew=self.crew,
            wires=self.wires,
            notes=self.notes,
            random=random.Random(f"details {self.chosen.seed}"),
            longest_s=min(90.0, self.chosen.seconds / 8),
            cgroup=self.cgroup,
        )
        lanes = [
            {name: fault for name, fault in table.items() if name not in absent and (not only or name in only)}
            for table in (BROKER, OTHER)
        ]
        directed = {name: fault for name, fault in DIRECTED.items() if name in only}
        self.wanted = dict.fromkeys(chain(*lanes), _least(self.chosen.seconds)) | dict.fromkeys(directed, TWICE)
        lanes.append(directed)
        await asyncio.gather(*(self._lane(number, lane, field, end) for number, lane in enumerate(lanes) if lane))
        await asyncio.sleep(max(0.0, end - time.monotonic()))

    async def _lane(self, number: int, lane: Mapping[str, Fault], field: Field, end: float) -> None:
        """One fault after the other; a kind comes again when all others of its lane have been."""
        draw = random.Random(f"lane {number} {self.chosen.seed}")
        deck: list[str] = []
        while True:
            await asyncio.sleep(min(draw.expovariate(1 / self.chosen.gap), self.chosen.gap * 3))
            if time.monotonic() >= end:
                return
            if not deck:
                deck = draw.sample(sorted(lane), len(lane))
            name = deck.pop()
            start = time.monotonic()
            note = await lane[name](field)
            now = time.monotonic()
            kind = name if note.pop("happened", True) else f"{name}_missed"
            self.notes.write(kind=kind, start=start, end=now, **note)
            told = {key: value for key, value in note.items() if key != "most"}
            say(f"{start - self.began:7.1f} s  {kind} {now - start:.1f} s  {told}")

    # --- afterwards -------------------------------------------------------------------------------------------------

    async def _drain(self) -> bool:
        """No more producers, no more faults; workers run until nothing waits anywhere."""
        say("draining")
        slow = await self.crew.stop(self.crew.producers, 40)
        for name in slow:
            say(f"the producer {name} did not end")
        await self._mend()
        empty_since = began = time.monotonic()
        while (now := time.monotonic()) - began < self.chosen.drain:
            depths = await self._depths()
            if any(depths.values()):
                empty_since = now
                if depths.get(UNROUTED):
                    await self._put_back()
            elif now - empty_since >= EMPTY_S:
                return True
            await asyncio.sleep(1)
        return False

    async def _put_back(self) -> None:
        """What came due while its queue was deleted waits until somebody says `jobrunner audit --repair`. Of that only
        this part is done here, so that a lost job stays lost; and only where a queue was deleted.
        """
        if not any(fault.get("deleted") for fault in notes.read(self.folder / "faults")):
            return
        url = parse_url(self.broker.url, origin="the chaos run")
        with contextlib.suppress(JobrunnerError):
            async with Client(url) as client:
                repairer = Repairer(None, client)  # type: ignore[arg-type]  # it reads no ledger for this
                await look(client.connection, UNROUTED, repairer._route, seen=SEEN_TO_MOVE)
                moved = sum(one.is_good for one in repairer.told)
                self.put_back += moved
                say(f"{moved} messages came when their queue was away, and are put back")

    async def _mend(self) -> None:
        """RabbitMQ 3.10 may forget what a queue held that was made again just before it was killed; nobody can use that
        queue until it is deleted. That is one more of the faults which may lose jobs of it.
        """
        listed = await asyncio.to_thread(
            self.broker.ctl, "list_queues", "-q", "-p", "jobrunner", "--no-table-headers", "name", "state"
        )
        if "doomed\tdown" in listed.splitlines():
            start = time.monotonic()
            await asyncio.to_thread(self.broker.ctl, "delete_queue", "-p", "jobrunner", "doomed")
            note = {"scope": [*WORKERS], "most": 4, "deleted": "doomed"}
            self.notes.write(kind="queue_deleted", start=start, end=time.monotonic(), **note)
            say("the queue doomed was broken, and is deleted")

    async def _depths(self) -> dict[str, int]:
        """Messages in every queue where none may stay, those with a worker included."""
        try:
            text = await asyncio.to_thread(
                self.broker.ctl, "list_queues", "-q", "-p", "jobrunner", "--no-table-headers", "name", "messages"
            )
        except AssertionError:
            return {"?": 1}
        rows = [line.split("\t") for line in text.splitlines() if "\t" in line]
        return {
            name: int(count or 1) for name, count in rows if name in EMPTY or name.startswith("jobrunner.v1.delay.")
        }

    async def _judge(self, drained: bool) -> Verdict:
        sizes = {}
        for worker in self.crew.workers:
            pid, first = self.sizes[worker.name]
            if worker.lives:
                last = size_of(worker.pid)
                which = "the same process" if pid == worker.pid else "a later process"
                say(f"size of {worker.name}: {first} at its start, {last} now, {which}")
                sizes[worker.name] = (first, last)
        slow = await self.crew.stop(self.crew.workers, 60)
        found = await asyncio.to_thread(evidence.collect, self.folder, self.broker.url)
        found.left = await self._depths()
        found.processes = left_behind(self.folder)
        found.sizes = sizes
        found.wanted = self.wanted
        verdict = checker.check(found)
        verdict.figures |= {"put_back_from_unrouted": self.put_back}
        verdict.blame("I8 a worker does not end", slow)
        if not drained:
            verdict.blame("I8 the queues did not drain", [f"within {self.chosen.drain:g} s"])
        return verdict

    def clean(self) -> None:
        self.broker.thaw()
        self.broker.remove()
        if self.cgroup is not None:
            _remove(self.cgroup)


def _least(seconds: float) -> int:
    """How often each kind of fault must strike in a run of that length, or it has shown less than it says."""
    return 5 if seconds >= LONG_S else 1 if seconds >= LONG_S / 4 else 0


def _cgroup() -> Path | None:
    """A cgroup with 64 MB of memory, where one can be made."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        made = root / f"jobrunner-chaos-{os.getpid()}"
        try:
            made.mkdir()
            (made / limit).write_text("64M")
        except OSError:
            _remove(made)
            continue
        return made
    return None


def _remove(cgroup: Path) -> None:
    try:
        cgroup.rmdir()
    except OSError:
        return


def main() -> int:
    chosen = options()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # as a shell has it for what it starts beside itself, and as all that is started here would have it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    say(f"seed {chosen.seed}, {chosen.seconds:g} s of faults" + (f", mutant {chosen.mutant}" if chosen.mutant else ""))
    chaos = Chaos(chosen)
    try:
        verdict = asyncio.run(chaos.run())
    finally:
        chaos.clean()
    say(json.dumps(verdict.figures, indent=1))
    for violation in verdict.violations:
        say(f"VIOLATED {violation}")
    took_s = time.monotonic() - chaos.began
    result = "passed" if verdict.passed else "FAILED"
    say(f"seed {chosen.seed}: {result} after {took_s:.0f} s; evidence in {chaos.folder}")
    if verdict.passed and chosen.keep is None:
        shutil.rmtree(chaos.folder)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
