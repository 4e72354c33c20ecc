"""What the bench reads of the machine, of processes and of the ledger."""

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pika
import pika.exceptions

LEDGER = "jobrunner.v1.ledger"
QUIET_S = 2
"""Without a record for so many seconds, the end of the ledger is reached."""


@dataclass(frozen=True)
class Memory:
    """Of a process tree, in bytes. pss: each shared page counted once over all its users; None off Linux."""

    processes: int
    rss: int
    pss: int | None


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    below: dict[int, list[int]] = {}
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        child, parent = map(int, line.split())
        below.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += below.get(found[-1], [])
    return found


def memory(pid: int) -> Memory:
    """The memory of the tree that begins at `pid`, now."""
    pids = tree(pid)
    args = ["ps", "-o", "rss=", "-p", ",".join(map(str, pids))]
    rss = sum(map(int, subprocess.run(args, capture_output=True, text=True, check=False).stdout.split())) * 1024
    try:
        pss: int | None = sum(_pss(one) for one in pids)
    except OSError:
        pss = None
    return Memory(len(pids), rss, pss)


def largest(pid: int) -> int:
    """Resident memory of the largest process of the tree, in bytes."""
    args = ["ps", "-o", "rss=", "-p", ",".join(map(str, tree(pid)))]
    told = subprocess.run(args, capture_output=True, text=True, check=False).stdout.split()
    return max(map(int, told), default=0) * 1024


def cpu_s(pids: list[int]) -> float:
    """CPU that these processes have used, in seconds; 0 off Linux. Source: Linux documentation, sched-stats."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(path.read_text(encoding="ascii").split()[0])
    return total / 1e9


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no Pss of {pid}")


@dataclass(frozen=True)
class Cost:
    """Of a command: seconds on the clock and of CPU, its exit code and its output."""

    wall_s: float
    cpu_s: float
    exit_code: int
    stdout: str


def cost(args: list[str], environ: dict[str, str], cwd: Path | None = None) -> Cost:
    """Run a command; its CPU is its own and that of the children it waited for."""
    started = time.perf_counter()
    quiet = subprocess.DEVNULL
    with subprocess.Popen(args, env=environ, cwd=cwd, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        assert process.stdout is not None
        stdout = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, process.returncode, stdout)


class Ledger:
    """Reads the events of jobs from the stream, from where it last stopped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._offset: int | str = "first"

    def read(self, kind: str, jobs: int, deadline_s: float = 60.0) -> list[dict[str, Any]]:
        """The next events of that kind until they tell of `jobs` jobs; `size` is that of the body in bytes.

        Raises: SystemExit when they do not come.
        """
        found: list[dict[str, Any]] = []
        for key, body in self._records(deadline_s):
            if key.startswith(f"{kind}.") and body[:1] in b"{[":  # not the bare loop's
                told = msgspec.json.decode(body)
                told = told if isinstance(told, list) else told.get("jobs", [told])
                # of a group each event as large as it would be alone: the bare loop publishes one for each job
                found += [{"size": len(body) // (len(told) if body[:1] == b"[" else 1), **one} for one in told]
                if len(found) >= jobs:
                    return found
        sys.exit(f"the ledger tells of {len(found)} jobs with {kind!r} where {jobs} are expected")

    def skip(self) -> None:
        """Go to its end."""
        for _ in self._records(5.0):
            pass

    def here(self) -> int | str:
        """Where it stands, for `go`."""
        return self._offset

    def go(self, offset: int | str) -> None:
        """Read on from there."""
        self._offset = offset

    def _records(self, deadline_s: float) -> Iterator[tuple[str, bytes]]:
        # not `channel.consume()`: it rejects what it has buffered, which RabbitMQ up to 3.12 refuses for streams
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        arrived: deque[tuple[int, str, bytes]] = deque()

        def take(channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            channel.basic_ack(method.delivery_tag)
            arrived.append(((properties.headers or {})["x-stream-offset"], method.routing_key, body))

        channel = connection.channel()
        channel.basic_qos(prefetch_count=500)
        channel.basic_consume(LEDGER, take, arguments={"x-stream-offset": self._offset})
        ended = time.monotonic() + deadline_s
        quiet = time.monotonic() + QUIET_S
        try:
            while time.monotonic() < min(ended, quiet):
                connection.process_data_events(QUIET_S)
                quiet = time.monotonic() + QUIET_S if arrived else quiet
                while arrived:
                    offset, key, body = arrived.popleft()
                    self._offset = offset + 1
                    yield key, body
        finally:
            # closing rejects what is buffered; on a stream RabbitMQ up to 3.12 answers that by closing: just as good
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * len(ordered) * 1000) // 1000) - 1)]


def machine(server: str) -> str:
    """One line: cores, processor, system and versions. server: of the broker."""
    parts = [
        f"{os.cpu_count()} cores{_processor()}",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        f"RabbitMQ {server}",
        f"pika {version('pika')}",
        f"msgspec {version('msgspec')}",
    ]
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((f" ({line.partition(':')[2].strip()})" for line in lines if line.startswith("model name")), "")
