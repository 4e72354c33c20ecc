"""What tests of the Python API share: a worker for the module, and a client; both have the queue named QUEUE there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import Client
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.worker import WorkerProcess


@pytest.fixture(scope="module")
def commands(
    request: pytest.FixtureRequest, broker: TestBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    """The folder of a worker with four processes that serves the module's queue."""
    made = Commands(tmp_path_factory.mktemp("worker"), {"JOBRUNNER_URL": broker.url})
    queue = request.module.QUEUE
    with WorkerProcess(made, "--app", "tasks", "-q", queue, "--procs", "4", "--allow-commands"):
        yield made


@pytest.fixture
def client(
    request: pytest.FixtureRequest, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    """A client that is open, and enqueues into the module's queue."""
    monkeypatch.setenv("JOBRUNNER_STATE_DIR", str(tmp_path / "state"))
    with Client(commands.env["JOBRUNNER_URL"]) as opened:
        yield opened.options(queue=request.module.QUEUE)
