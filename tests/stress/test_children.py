"""What children and their output can do to a worker, in full size."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.kills import kill_at_random
from tests.support.worker import WorkerProcess

pytestmark = pytest.mark.timeout(5400)

MIB = 1024 * 1024


def test_ten_thousand_children_killed_at_random_instants() -> None:
    count = int(os.environ.get("JOBRUNNER_TEST_KILLS", "10000"))
    ends = asyncio.run(kill_at_random(kills=count, seed=2))
    print(dict(ends))
    assert ends["Crashed"] > count / 10
    assert ends["Succeeded"] > count / 10


def largest_bytes(worker: WorkerProcess) -> int:
    """The most memory that the worker itself ever held."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def test_five_gigabytes_of_output_and_a_result_of_a_hundred_megabytes_leave_the_worker_small(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker
) -> None:
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    with WorkerProcess(cli, "-p", "1", "--allow-commands") as worker:
        before = largest_bytes(worker)
        flood = ("enqueue", "--wait", "--json", "--shell", "yes | head -c 5000000000")
        cut = cli.run(*flood, code=None, timeout_s=600)
        done = json.loads(cut.stdout.splitlines()[0])
        assert (cut.returncode, done["state"], len(done["result"])) == (5, "succeeded", MIB)
        shout = ("enqueue", "--wait", "--json", "tasks:shout", "100000000")
        cut = cli.run(*shout, code=None, timeout_s=120)
        done = json.loads(cut.stdout.splitlines()[0])
        assert (cut.returncode, done["state"]) == (5, "succeeded")
        assert len(done["result"]) < 70_000
        assert largest_bytes(worker) - before < 48 * MIB
        assert cli.run("enqueue", "--wait", "tasks:add", "2", "3").stdout == "5\n"
