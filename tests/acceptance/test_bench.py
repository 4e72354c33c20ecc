"""`make bench` runs to its end and tells all its figures. What they are is not tested: tests keep the machine busy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SMALL = ["--rounds", "1", "--jobs", "40", "--singles", "2", "--bulk", "50"]


@pytest.mark.timeout(240)
def test_the_bench_measures_everything_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "run.py"), *SMALL],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a goal was missed
    values = re.findall(r"^\| (?!Measured)[^|-][^|]+\| ([^|]+) \|", done.stdout, re.MULTILINE)
    assert len(values) == 12, done.stdout + done.stderr
    assert all(re.search(r"[1-9]", value) for value in values), done.stdout
    assert [*tmp_path.iterdir()] == []
