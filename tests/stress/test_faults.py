"""Faults that take their time: restarts without end, a system that sleeps, a disk without room."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stress.test_owner import let_it_run
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import WorkerProcess, starts, wait_for_start

pytestmark = pytest.mark.timeout(900)

RESTARTS = 25
"""More than the 20 returns after which RabbitMQ 4 gives a message up."""


def test_a_job_survives_twenty_five_restarts_of_its_worker_and_no_attempt_is_used(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, witness: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    job_id = cli.run("enqueue", "--retries", "0", "tasks:until", str(witness), str(gate)).stdout.strip()
    for number in range(1, RESTARTS + 1):
        with WorkerProcess(cli, "-p", "1", "--grace", "0s") as worker:
            wait_for_start(witness, number, timeout_s=40)
            assert worker.stop() == 0
            assert "job.handed_back" in worker.actions()
    gate.touch()
    with WorkerProcess(cli, "-p", "1") as worker:
        worker.wait_for("job.succeeded", timeout_s=40)
    shown = cli.json("show", job_id)
    assert (shown["state"], shown["attempt"]) == ("succeeded", 1)
    assert starts(witness) == RESTARTS + 1


def test_a_worker_that_sleeps_longer_than_its_heartbeats_finds_its_job_again(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, witness: Path, tmp_path: Path
) -> None:
    """As on a suspended system the parent stands still; its child does not, so that a second start would be seen."""
    gate = tmp_path / "gate"
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    with WorkerProcess(cli, "-p", "2") as worker:
        waiting = cli.start("enqueue", "tasks:until", str(witness), str(gate), "--wait")
        wait_for_start(witness)
        worker.process.send_signal(signal.SIGSTOP)
        let_it_run(90)
        worker.process.send_signal(signal.SIGCONT)
        worker.wait_for("broker.back", timeout_s=60)
        gate.touch()
        assert waiting.wait(60) == 0
    assert starts(witness) == starts(witness, "end") == 1


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_view_without_room_says_so_and_works_again_with_room(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, tmp_path: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    with WorkerProcess(cli, "-p", "1"):
        lines = [json.dumps({"call": "tasks:add", "args": ["x" * 900, str(number)]}) for number in range(2000)]
        cli.run("enqueue", "--from", "-", stdin="\n".join(lines))

        def there() -> None:
            assert len(cli.json("list", "--limit", "5")["jobs"]) == 5

        eventually(there, 30, 0.5)
        with small_disk(tmp_path / "small", "700k") as folder:
            small = {"JOBRUNNER_STATE_DIR": str(folder)}
            full = cli.run("list", env=small, code=None)
            assert full.returncode not in (0, 70), full.stderr
            assert "Traceback" not in full.stderr
            assert "full" in full.stderr or "space" in full.stderr
            subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
            assert len(cli.run("list", "--limit", "5", env=small).stdout.splitlines()) >= 5
