"""The fixtures for users' own tests, in a pytest of their own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.command import ROOT

TASKS = """
from jobrunner import job

@job
def add(a, b):
    return [a, b]
"""


def run(folder: Path, tests: str, **env: str) -> str:
    """What pytest tells of these tests."""
    (folder / "tasks.py").write_text(TASKS)
    (folder / "test_it.py").write_text(tests)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBRUNNER_", "PYTEST"))}
    own = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "jobrunner.pytest_plugin"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-q", "-W", "error", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env=kept | own | env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_test_runs_its_jobs_inline_and_the_next_does_not(tmp_path: Path) -> None:
    tests = """
import pytest
from jobrunner import Client
from jobrunner.errors import BrokerError
from tasks import add

client = Client()

def test_inline(jobrunner_inline):
    assert add.delay((1, 2), "x").result() == [[1, 2], "x"]
    assert client.enqueue(add, 1, 2).result() == [1, 2]

def test_with_no_broker():
    with pytest.raises(BrokerError):
        add.delay(1, 2)
    with pytest.raises(BrokerError):
        client.enqueue(add, 1, 2)
"""
    assert "2 passed" in run(tmp_path, tests, JOBRUNNER_URL="amqp://127.0.0.1:1/%2F")


def test_where_no_broker_can_be_started_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from jobrunner.errors import LocalBrokerMissing\n"
        "from jobrunner.local import lifecycle\n"
        "def missing(_options): raise LocalBrokerMissing(install='sudo apt install rabbitmq-server')\n"
        "lifecycle.start = missing\n"
    )
    told = run(tmp_path, "def test_with_a_broker(jobrunner_broker): assert False\n")
    assert "1 skipped" in told
    assert "No broker can be started here: neither rabbitmq-server nor Docker was found." in told
    assert "sudo apt install rabbitmq-server" in told


def test_the_plugin_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    tests = """
import sys

def test_nothing_is_imported():
    ours = {name for name in sys.modules if name.startswith("jobrunner")}
    assert ours == {"jobrunner", "jobrunner.pytest_plugin"}
    assert not {"pika", "msgspec"} & set(sys.modules)
"""
    assert "1 passed" in run(tmp_path, tests)


def test_the_projects_own_entry_point_names_the_plugin() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\njobrunner = "jobrunner.pytest_plugin"\n' in text
