"""Who is measured: how each runner is started, filled and stopped. Peers run at their strongest comparable setting."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import marks

HERE = Path(__file__).parent
BESIDE = Path(sys.executable).parent / "jobrunner"
COMMAND = [str(BESIDE)] if BESIDE.exists() else [sys.executable, "-m", "jobrunner"]
STOP_S = 15
POLL_S = 0.05


@dataclass(frozen=True)
class Subject:
    """One runner. modules: what must be installed. lacks: what it does not do that jobrunner does.

    leak_limit: the option that holds a process under 100 MB, where there is one.
    """

    name: str
    app: Path
    work: tuple[str, ...]
    packages: tuple[str, ...]
    modules: tuple[str, ...] = ()
    lacks: str = ""
    leak_limit: tuple[str, ...] = ()

    @property
    def queue(self) -> str:
        """Where its jobs wait."""
        return f"bench.{self.name}"

    @property
    def is_installed(self) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in self.modules)

    @property
    def versions(self) -> str:
        return ", ".join(f"{name} {version(name)}" for name in self.packages)


PYTHON = sys.executable


def _python(*words: str) -> tuple[str, ...]:
    return (PYTHON, "-m", *" ".join(words).split())


JOBRUNNER = Subject(
    "jobrunner",
    HERE / "bench_tasks.py",
    (
        *COMMAND,
        "worker",
        "--procs",
        "2",
        "--app",
        "bench_tasks",
        "--log-level",
        "warning",
        "--queue",
        "bench.jobrunner",
    ),
    ("jobrunner-mq",),
    leak_limit=("--max-memory", "100M"),
)
PEERS = (
    Subject(
        "celery",
        HERE / "peers" / "celery_app.py",
        _python(
            "celery -A celery_app worker --pool prefork --concurrency 2",
            "--without-gossip --without-mingle --without-heartbeat --loglevel ERROR",
        ),
        ("celery", "kombu", "amqp"),
        ("celery",),
        "stores no result; publishes without confirm",
        ("--max-memory-per-child", "100000"),
    ),
    Subject(
        "dramatiq",
        HERE / "peers" / "dramatiq_app.py",
        _python("dramatiq dramatiq_app --processes 2 --threads 1"),
        ("dramatiq",),
        ("dramatiq",),
        "stores no result; publishes without confirm",
    ),
    Subject(
        "taskiq",
        HERE / "peers" / "taskiq_app.py",
        _python(
            "taskiq worker taskiq_app:broker --workers 2 --max-async-tasks 1 --ack-type when_executed --log-level ERROR"
        ),
        ("taskiq", "taskiq-aio-pika", "aio-pika"),
        ("taskiq", "taskiq_aio_pika"),
        "stores no result",
    ),
)


class Stage:
    """A broker's URL and a folder: where subjects are filled and let run."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder / "marks"
        self.folder.mkdir()
        self._log = folder / "log"
        self._environ = {key: value for key, value in os.environ.items() if not key.startswith("JOBRUNNER_")}
        self._environ |= {
            "JOBRUNNER_STATE_DIR": str(folder),
            "BENCH_URL": url,
            "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "BENCH_MARKS": str(self.folder),
            "dramatiq_queue_prefetch": "1",
        }

    def fill(self, subject: Subject, *steps: str) -> list[float]:
        """Enqueue; seconds that each step took (`filling`). One `nothing` comes before them, to warm the producer up.

        Raises: SystemExit when it fails.
        """
        args = [PYTHON, str(subject.app), *steps]
        done = subprocess.run(args, env=self._environ, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(args)} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
        took_s: list[float] = json.loads(done.stdout)
        return took_s

    @contextmanager
    def working(self, subject: Subject, *args: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The subject's worker with two processes, in a session of its own; gone at the end."""
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [*subject.work, *args],
                env=self._environ,
                cwd=subject.app.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def wait(self, kind: str, count: int, timeout_s: float = 120.0) -> marks.Seen:
        """Until so many jobs of that kind have begun. Raises: SystemExit when they do not."""
        until = time.monotonic() + timeout_s
        while (seen := marks.seen(self.folder, kind)).count < count:
            if time.monotonic() > until:
                log = self._log.read_text(errors="replace")[-2000:]
                sys.exit(f"{seen.count} of {count} jobs ({kind}) ran within {timeout_s:g} s\n{log}")
            self.pause()
        return seen

    @staticmethod
    def pause(process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Between two looks at what others do; shorter when a process ends that is watched."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process is not None:
                process.wait(POLL_S)
            else:
                time.sleep(POLL_S)  # noqa: TID251 - files of other processes tell nothing by themselves
