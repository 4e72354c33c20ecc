"""The types that a program gets from the API, as mypy sees them."""

import re
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
FLAGS = ["--strict", "--config-file=", "--no-error-summary", "--hide-error-context", "--python-version=3.11"]


def lines_with_errors(name: str, folder: Path) -> dict[int, str]:
    """What mypy says of a file, by line."""
    told, trouble, _ = api.run([*FLAGS, f"--cache-dir={folder}", str(HERE / name)])
    assert not trouble
    found = re.findall(rf"^[^\n]*{name}:(\d+): error: (.*)$", told, re.MULTILINE)
    assert len(found) == told.count(": error: "), told
    return {int(line): text for line, text in found}


@pytest.mark.timeout(300)
def test_programs_get_the_types_of_their_own_functions(tmp_path: Path) -> None:
    assert lines_with_errors("right.py", tmp_path) == {}
    text = (HERE / "wrong.py").read_text().splitlines()
    wrong = {number for number, line in enumerate(text, 1) if line.endswith("# wrong")}
    assert set(lines_with_errors("wrong.py", tmp_path)) == wrong
