"""Measures what jobrunner costs, beside a bare pika loop that does the same AMQP work. Run it with `make bench`.

On a private broker of its own, on this machine, which should have nothing else to do. About two minutes.
`--write` puts the figures into docs/performance.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import measure
import report

HERE = Path(__file__).parent
BESIDE = Path(sys.executable).parent / "jobrunner"
COMMAND = [str(BESIDE)] if BESIDE.exists() else [sys.executable, "-m", "jobrunner"]
CALL = "bench_tasks:nothing"
WORKER = ("worker", "--procs", "2", "--app", "bench_tasks", "--log-level", "warning")


@dataclass
class Figures:
    """Everything that was measured. Rates in jobs a second, times in seconds, memory in bytes."""

    machine: str = ""
    load: float = 0.0
    jobs: int = 0
    drained: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    bare_each: list[float] = field(default_factory=list)
    event_bytes: int = 0
    bulk_jobs: int = 0
    bulk: list[float] = field(default_factory=list)
    to_start: list[float] = field(default_factory=list)
    typed_to_start: list[float] = field(default_factory=list)
    help_cpu: list[float] = field(default_factory=list)
    enqueue_cpu: list[float] = field(default_factory=list)
    job_cpu: float = 0.0
    idle: measure.Memory | None = None
    worked: measure.Memory | None = None
    worked_jobs: int = 0


class Bench:
    """A private broker, and the commands against it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("JOBRUNNER_")}
        self.environ["JOBRUNNER_STATE_DIR"] = str(folder)
        self.url = ""
        self.version = ""

    def type(self, *args: str) -> measure.Cost:
        """Run a `jobrunner` command to its end. Raises: SystemExit when it fails."""
        cost = measure.cost([*COMMAND, *args], self.environ)
        if cost.exit_code:
            sys.exit(f"jobrunner {' '.join(args)} ended with exit code {cost.exit_code}")
        return cost

    @contextmanager
    def worker(self, *args: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A worker in the folder of the job; stopped at the end. Raises: SystemExit with its log when it failed."""
        log = self.folder / "worker.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen([*COMMAND, *WORKER, *args], env=self.environ, cwd=HERE, stderr=stderr)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            if process.wait(40):
                sys.exit(f"the worker ended with exit code {process.returncode}:\n{log.read_text()[-2000:]}")

    def bare(self, queue: str, jobs: int, event_bytes: int, shape: str) -> float:
        """Jobs a second of the bare loop, or of two of them that share the work (shape `each`)."""
        args = [sys.executable, str(HERE / "bare.py"), self.url, queue, str(jobs), "--shape", shape]
        loops = [
            subprocess.Popen([*args, "--event-bytes", str(event_bytes)], stdout=subprocess.PIPE, text=True)
            for _ in range(2 if shape == "each" else 1)
        ]
        told = [json.loads(loop.communicate(timeout=120)[0]) for loop in loops]
        span_s = max(one["last"] for one in told) - min(one["first"] for one in told)
        return float(sum(one["jobs"] for one in told) / span_s)

    def fill(self, queue: str, jobs: int) -> float:
        """Queue jobs with `enqueue --from`; jobs a second with the start of the command."""
        path = self.folder / f"{jobs}.jsonl"
        if not path.exists():
            path.write_text(f'{{"call": "{CALL}"}}\n' * jobs, encoding="ascii")
        return jobs / self.type("enqueue", "--queue", queue, "--from", str(path)).wall_s


@contextmanager
def private_broker() -> Iterator[Bench]:
    """A broker in a folder of its own, gone again afterwards."""
    with tempfile.TemporaryDirectory(prefix="jobrunner-bench-") as folder:
        bench = Bench(Path(folder))
        bench.type("broker", "start")
        try:
            status = json.loads(bench.type("broker", "status", "--secrets", "--json").stdout)
            bench.url, bench.version = status["url"], status["version"]
            yield bench
        finally:
            bench.type("broker", "stop", "--wipe", "--yes")


def throughput(bench: Bench, ledger: measure.Ledger, figures: Figures, rounds: int, jobs: int) -> None:
    """The worker and the bare loop in turns, so that both see the same weather."""
    figures.jobs = jobs
    for number in range(1, rounds + 1):
        bench.fill("bench", jobs)
        with bench.worker("--queue", "bench", "--burst") as process:
            process.wait(120)
        done = ledger.read("succeeded", jobs)
        began = min(one["ran"]["started_at"] for one in done)
        figures.drained.append(jobs / (max(one["at"] for one in done) - began))
        figures.event_bytes = round(statistics.mean(one["size"] for one in done))
        for shape, found in (("one", figures.bare), ("each", figures.bare_each)):
            bench.fill("bare", jobs)
            found.append(bench.bare("bare", jobs, figures.event_bytes, shape))
        ledger.skip()
        rates = (figures.drained[-1], figures.bare[-1], figures.bare_each[-1])
        print("round {}: worker {:.0f}, bare loop {:.0f}, two bare loops {:.0f} jobs/s".format(number, *rates))


def latency_and_memory(bench: Bench, ledger: measure.Ledger, figures: Figures, singles: int, jobs: int) -> None:
    """One worker from its start over single jobs to a full queue."""
    with bench.worker() as process:
        bench.type("enqueue", CALL, "--wait", "--wait-timeout", "60s")
        ledger.skip()
        figures.idle = measure.memory(process.pid)
        typed: dict[str, float] = {}
        for _ in range(singles):
            at = time.time()
            cost = bench.type("enqueue", CALL)
            typed[cost.stdout.strip()] = at
            figures.enqueue_cpu.append(cost.cpu_s)
        before = ledger.here()
        made = {one["job"]["id"]: one["job"]["iat"] for one in ledger.read("queued", singles)}
        ledger.go(before)
        for one in ledger.read("succeeded", singles):
            figures.to_start.append(one["ran"]["started_at"] - made[one["id"]])
            figures.typed_to_start.append(one["ran"]["started_at"] - typed[one["id"]])
        bench.fill("task_queue", jobs)
        ledger.read("succeeded", jobs)
        figures.worked, figures.worked_jobs = measure.memory(process.pid), jobs + singles + 1


def commands(bench: Bench, figures: Figures, bulk_jobs: int) -> None:
    """What the commands themselves cost."""
    figures.help_cpu = [bench.type("--help").cpu_s for _ in range(9)]
    few, many = (_burst_cpu(bench, jobs) for jobs in (200, 2200))
    figures.job_cpu = (many - few) / 2000
    figures.bulk_jobs = bulk_jobs
    figures.bulk = [bench.fill("bulk", bulk_jobs) for _ in range(3)]


def _burst_cpu(bench: Bench, jobs: int) -> float:
    """CPU seconds of a worker with its processes that runs so many jobs and ends."""
    bench.fill("burst", jobs)
    return measure.cost([*COMMAND, *WORKER, "--queue", "burst", "--burst"], bench.environ, cwd=HERE).cpu_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of each loop (5)")
    parser.add_argument("--jobs", type=int, default=2000, metavar="N", help="jobs in a round (2000)")
    parser.add_argument("--singles", type=int, default=60, metavar="N", help="single enqueues (60)")
    parser.add_argument("--bulk", type=int, default=10_000, metavar="N", help="lines of the bulk enqueue (10000)")
    options = parser.parse_args()
    figures = Figures(load=os.getloadavg()[0])
    if figures.load > 0.3:
        print(f"This machine is busy (load {figures.load:.1f}): the figures will be worse than they could be.")
    with private_broker() as bench:
        figures.machine = measure.machine(bench.version)
        bench.type("queues", "declare")
        ledger = measure.Ledger(bench.url)
        ledger.skip()
        throughput(bench, ledger, figures, options.rounds, options.jobs)
        latency_and_memory(bench, ledger, figures, options.singles, options.jobs)
        # last: RabbitMQ is still busy with tens of thousands of new messages for some seconds
        commands(bench, figures, options.bulk)
    text = report.table(figures)
    print(f"\n{text}")
    if options.write:
        report.write(text)
    return 0 if report.meets_goals(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
