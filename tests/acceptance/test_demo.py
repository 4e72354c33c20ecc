"""`make demo` does what it shows, notices what is wrong, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner.statedir import process_alive
from tests.support.eventually import eventually

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.timeout(240)


def start(tmp_path: Path, *args: str) -> "subprocess.Popen[str]":
    """The demo with few files; its folders are made in `tmp_path`."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "demo" / "run.py"), *args],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_demo_ends_with_five_lines_as_they_must_be(tmp_path: Path) -> None:
    with start(tmp_path, "--files", "30") as demo:
        stdout, stderr = demo.communicate(timeout=200)
    assert demo.returncode == 0, stdout + stderr
    rows = {match[1]: match[0] for match in re.finditer(r"^\((\w)\) .+  .+$", stdout, re.MULTILINE)}
    assert [*rows] == ["a", "b", "c", "d", "e"], stdout
    for letter, jobs in {"a": 30, "b": 30, "c": 1, "d": 1, "e": 1}.items():
        assert re.search(rf"\s{jobs}\s+{jobs}\s+\d+\.\d\s", rows[letter]), rows[letter]
    assert "every line is as it must be" in stdout
    assert "jobrunner worker --procs 2" in stdout
    assert [*tmp_path.iterdir()] == [], "folders were left behind"


def test_a_wrong_result_makes_the_demo_fail(tmp_path: Path) -> None:
    with start(tmp_path, "--files", "3", "--spoil") as demo:
        stdout, stderr = demo.communicate(timeout=200)
    assert demo.returncode == 1, stdout + stderr
    assert "WRONG" in stdout
    assert "1 not as they must be" in stdout


def test_ctrl_c_ends_the_demo_with_its_worker_and_its_broker(tmp_path: Path) -> None:
    with start(tmp_path, "--files", "2000") as demo:
        worker, broker = eventually(lambda: _started(tmp_path), timeout_s=60)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=90)
    assert demo.returncode == 130
    assert not process_alive(worker)
    assert not process_alive(broker)
    assert [*tmp_path.iterdir()] == []


def _started(tmp_path: Path) -> tuple[int, int]:
    """The pids of worker and broker, once the worker is ready."""
    logs = [*tmp_path.glob("jobrunner-demo-*/worker.log")]
    assert logs, "no worker yet"
    log = logs[0].read_text()
    ready = re.search(r"worker\.started .*\bpid=(\d+)", log)
    assert ready is not None, log
    noted = (logs[0].parent / "state" / "broker.json").read_text()
    pid = re.search(r'"pid":\s*(\d+)', noted)
    assert pid is not None, noted
    return int(ready[1]), int(pid[1])
