"""`make bench` runs to its end and tells all its figures. What they are is not tested: tests keep the machine busy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.timeout(240)
def test_the_bench_measures_everything_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run.py"), "--tiny", "--no-peers"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a goal was missed
    beside, alone = done.stdout.split("| Measured |")
    values = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \|$", beside, re.MULTILINE)
    assert len(values) == 12, done.stdout + done.stderr
    assert all(re.search(r"[1-9]", value) for value in values[:-1]), done.stdout
    goals = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \| (?:met|\*\*missed\*\*) \|$", alone, re.MULTILINE)
    assert len(goals) == 11, done.stdout + done.stderr
    assert [*tmp_path.iterdir()] == []
