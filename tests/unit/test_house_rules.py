"""The sizes that CONTRIBUTING.md allows are held: what is longer is split, or named here with its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("jobrunner", "bench", "demo", "docs", "examples", "scripts")
MODULE_LINES: Final = 300
FUNCTION_LINES: Final = 40

LONGER: Final = {
    "jobrunner/errors.py": "one catalogue, an error after the other",
    "jobrunner/worker/loop.py Worker.handle": "one `match` with a case for each message, which mypy proves complete; "
    "a table of handlers would lose that proof, and smaller functions the overview",
}
"""What may be longer, and why."""


def test_no_module_is_over_300_lines_and_no_function_over_40_but_those_that_are_named_here() -> None:
    found = {name for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) for name in _too_long(path)}
    assert found == LONGER.keys(), "split what is new here, and take out of LONGER what is no longer too long"


def _too_long(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    if text.count("\n") > MODULE_LINES:
        yield name
    yield from (f"{name} {function}" for function in _long_functions(ast.parse(text), ""))


def _long_functions(node: ast.AST, within: str) -> Iterator[str]:
    """Qualified names. A function has the lines from its `def` to its end, its docstring included."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not isinstance(child, ast.ClassDef) and (child.end_lineno or 0) - child.lineno + 1 > FUNCTION_LINES:
            yield within + child.name
        yield from _long_functions(child, f"{within}{child.name}.")
