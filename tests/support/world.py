"""A virtual host with a worker and one job of each kind, for tests that only look."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.broker import TestBroker
from tests.support.eventually import eventually
from tests.support.home import Home

TASKS = """
import sys, time
from pathlib import Path

from jobrunner import job


@job(retries=0)
def add(a, b): return a + b


@job(retries=0)
def text(): return "two words"


@job(retries=1, backoff=0.1)
def fail(secret):
    print("about to fail")
    raise TimeoutError("read timed out")


@job(retries=3, backoff=3600)
def again(): raise ConnectionError("not yet")


@job(retries=0)
def hold(gate):
    print("holding", flush=True)
    while not Path(gate).exists():
        time.sleep(0.01)
    print("let go", flush=True)
    return "held"


@job(retries=0)
def chat(count, every):
    for number in range(count):
        print(f"{number} {time.time():.3f}", flush=True)
        time.sleep(every)
"""


@contextmanager
def own_vhost(broker: TestBroker, name: str) -> Iterator[str]:
    """The URL of a virtual host that nobody else uses."""
    try:
        yield broker.add_vhost(name, quorum=True)
    finally:
        broker.ctl("delete_vhost", name)


class World:
    """jobs: what it is -> id: succeeded, dead, command, queued, scheduled, retrying, running."""

    def __init__(self, folder: Path, url: str) -> None:
        self.home = Home(folder, url=url, tasks=TASKS)
        self.gate = folder / "gate"
        self.jobs: dict[str, str] = {}

    def short(self, name: str) -> str:
        """The id as tables show it."""
        return self.jobs[name][:8]

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """With its worker, each job where it belongs."""
        with self.home.worker("-A", "tasks", "--allow-commands", "--name", "w1"):
            enqueue = self.home.enqueue
            self.jobs["succeeded"] = enqueue("tasks:add", "2", "3", "--tag", "sum")
            self.jobs["dead"] = enqueue("tasks:fail", '"canary"', "--label", "mine")
            command = ("sh", "-c", "echo out; echo err >&2")
            self.jobs["command"] = enqueue("--retries", "0", "--", *command)
            self.jobs["retrying"] = enqueue("tasks:again")
            self.jobs["queued"] = enqueue("-q", "video", "--retries", "0", "--", "ffmpeg", "-i", "in.mov", "out.mp4")
            self.jobs["scheduled"] = enqueue("tasks:add", "1", "1", "--delay", "1h")
            self.jobs["running"] = enqueue("tasks:hold", str(self.gate))
            eventually(self._is_ready, timeout_s=60, interval_s=0.1)
            try:
                yield self
            finally:
                self.gate.touch()

    def _is_ready(self) -> None:
        """Raises: AssertionError while a job is not where it belongs."""
        states = dict(line.split("\t")[:2] for line in self.home.run("list").stdout.splitlines())
        wanted = {job_id: "succeeded" if name == "command" else name for name, job_id in self.jobs.items()}
        assert states == wanted
