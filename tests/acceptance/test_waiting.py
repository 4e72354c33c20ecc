"""Jobs that wait for other jobs, as a person sees them."""

from pathlib import Path

import pytest

from tests.support.command import Commands
from tests.support.worker import WorkerProcess


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witness"


def enqueue(cli: Commands, queue: str, *words: str) -> str:
    return cli.run("enqueue", "-q", queue, *words).stdout.strip()


def state(cli: Commands, job_id: str) -> str:
    return str(cli.json("show", job_id)["state"])


def test_a_job_runs_after_those_that_it_waits_for(cli: Commands, queue_name: str, witness: Path) -> None:
    gate = cli.folder / "gate"
    with WorkerProcess(cli, "-q", queue_name):
        first = enqueue(cli, queue_name, "tasks:until", str(witness), str(gate))
        second = enqueue(cli, queue_name, "tasks:slow", str(witness), "0", "--after", first)
        third = enqueue(cli, queue_name, "tasks:add", "1", "2", "--after", f"{second[:8]},{first}")
        assert [state(cli, job_id) for job_id in (second, third)] == ["waiting", "waiting"]
        why = cli.json("show", "--why", second)["why"]
        assert (why["code"], why["text"]) == ("waits", f"it waits for {first[:8]} (running).")
        gate.touch()
        cli.run("wait", third, "--timeout", "30s")
        assert cli.run("result", third).stdout == "3\n"
    late = enqueue(cli, queue_name, "tasks:add", "2", "2", "--after", first)
    assert "no live worker" in cli.json("show", "--why", late)["why"]["text"]
    with WorkerProcess(cli, "-q", queue_name):
        cli.run("wait", late, "--timeout", "30s")


def test_a_job_that_waits_can_be_cancelled_with_and_without_workers(cli: Commands, queue_name: str) -> None:
    first = enqueue(cli, queue_name, "tasks:add", "1", "1")
    second = enqueue(cli, queue_name, "tasks:add", "1", "2", "--after", first)
    assert cli.json("cancel", second)["jobs"][0]["outcome"] == "cancelled"
    with WorkerProcess(cli, "-q", f"{queue_name}-other"):
        third = enqueue(cli, queue_name, "tasks:add", "1", "3", "--after", first)
        assert cli.json("cancel", third)["jobs"][0]["outcome"] == "cancelled"
    with WorkerProcess(cli, "-q", queue_name, "--burst") as worker:
        assert worker.process.wait(40) == 0
    assert [state(cli, each) for each in (first, second, third)] == ["succeeded", "cancelled", "cancelled"]
