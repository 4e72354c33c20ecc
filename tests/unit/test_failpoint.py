"""Failpoints do nothing unless they are armed, and then what was asked, at the passing that was named."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobrunner import failpoint

PROGRAM = """
import sys
from jobrunner.failpoint import arm, cut_with, failpoint
arm()
cut_with(lambda: print("cut"))
for number in range(1, 4):
    failpoint("here")
    print(number, flush=True)
"""


def run(armed: str | None, **more: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("JOBRUNNER_")} | more
    if armed is not None:
        env["JOBRUNNER_FAILPOINT"] = armed
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("armed", "code", "said"),
    [
        (None, 0, "1 2 3"),
        ("elsewhere:kill", 0, "1 2 3"),
        ("here:kill", -9, ""),
        ("here:kill:3", -9, "1 2"),
        ("here:exit:2", 99, "1"),
        ("here:raise:2", 1, "1"),
        ("here:cut:2", 0, "1 cut 2 3"),
        ("here:sleep=0.01:2", 0, "1 2 3"),
        ("here:nonsense:2", 1, "1"),
    ],
)
def test_what_is_armed_happens_at_its_passing(armed: str | None, code: int, said: str) -> None:
    done = run(armed)
    assert (done.returncode, done.stdout.split()) == (code, said.split())


def test_a_held_process_goes_on_at_a_byte(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    heard: list[str] = []

    def watch() -> None:
        heard.append(fifo.read_text().split()[0])
        fifo.write_bytes(b".")

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = run("here:hold:2", JOBRUNNER_FAILPOINT_FIFO=str(fifo))
    watcher.join(10)
    assert (done.returncode, done.stdout.split(), heard) == (0, ["1", "2", "3"], ["here"])


def test_an_unarmed_failpoint_is_only_a_comparison() -> None:
    failpoint.failpoint("here")
    assert not failpoint.is_armed("here")
