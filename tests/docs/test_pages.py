"""The pages say nothing that is not so: links, tables, commands, options, make targets."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from jobrunner.cli import table
from jobrunner.cli.shared import shared_options
from tests.docs import pages

PAGE_IDS = [str(page.relative_to(pages.ROOT)) for page in pages.PAGES]
each_page = pytest.mark.parametrize("page", pages.PAGES, ids=PAGE_IDS)
SHARED = {word for option in shared_options(root=True) for word in option.opts} | {"--help", "-h", "--version", "-V"}
NOT_OURS = {"--init"}
"""Options of other programs that stand in the text by themselves."""


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in pages.links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in pages.anchors(target), f"{link}: no such heading"


@each_page
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    readme = pages.ROOT / "README.md"
    reached, queue = {readme}, [readme]
    while queue:
        current = queue.pop()
        for link in pages.links(current):
            target = (current.parent / link.partition("#")[0]).resolve()
            if target in pages.PAGES and target not in reached:
                reached.add(target)
                queue.append(target)
    assert page in reached


def test_the_tables_in_the_pages_are_those_of_the_code() -> None:
    tables = _tables()
    stale = [str(page) for page in pages.PAGES if tables.current(text := page.read_text(encoding="utf-8")) != text]
    assert not stale, f"python docs/tables.py writes them: {stale}"


def test_every_table_of_the_code_stands_in_a_page() -> None:
    whole = "".join(page.read_text(encoding="utf-8") for page in pages.PAGES)
    assert set(re.findall(r"<!-- table: (\w+)", whole)) == set(_tables().TABLES)


def _tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tables", pages.ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each_page
def test_every_command_and_option_on_a_page_exists(page: Path) -> None:
    for words in pages.command_lines(page):
        _check(words)


def _check(words: list[str]) -> None:
    """Raises: AssertionError with the whole line for a command or an option that does not exist."""
    line = " ".join(["jobrunner", *words])
    command: click.Command | None = None
    for word in words:
        if word == "--":
            return
        if word.startswith("-") and len(word) > 1:
            known = SHARED | ({opt for param in command.params for opt in param.opts} if command else set())
            assert word.partition("=")[0] in known, f"{line}: no option {word}"
        elif command is None:
            command = table.load(word) if word in table.COMMANDS else None
            assert command is not None, f"{line}: no command {word}"
        elif isinstance(command, click.Group):
            command = command.get_command(click.Context(command), word)
            assert command is not None, f"{line}: no command {word}"


@each_page
def test_every_option_that_stands_by_itself_exists(page: Path) -> None:
    known = SHARED | {opt for name in table.COMMANDS for opt in _options_below(table.load(name))} | NOT_OURS
    for code in pages.inline(page):
        word = code.split()[0].partition("=")[0]
        if word.startswith("--") and len(word) > 2:
            assert word in known, f"{code} is an option of no command"


def _options_below(command: click.Command | None) -> set[str]:
    assert command is not None
    found = {opt for param in command.params for opt in param.opts}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= _options_below(command.get_command(context, name))
    return found


def test_every_command_is_named_in_the_readme() -> None:
    readme = pages.ROOT / "README.md"
    named = {words[0] for words in pages.command_lines(readme) if words}
    assert {name for name, entry in table.COMMANDS.items() if entry.section} <= named


@each_page
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    makefile = (pages.ROOT / "Makefile").read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make (\w[\w-]*)", text, re.MULTILINE):
        assert re.search(rf"^{target}\b.*:", makefile, re.MULTILINE), f"make {target}: no such target"


@pytest.mark.parametrize("block", pages.all_blocks("python"), ids=str)
def test_every_python_block_is_python_and_imports_only_what_there_is(block: pages.Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module == "jobrunner":
            import jobrunner

            assert {alias.name for alias in node.names} <= set(jobrunner.__all__)


@pytest.mark.parametrize("block", [b for b in pages.all_blocks("python") if b.file_name], ids=str)
def test_every_module_on_a_page_can_be_imported(block: pages.Block, tmp_path: Path) -> None:
    name = str(block.file_name)
    for other in pages.blocks(block.page, "python"):  # a module may import those before it
        if other.file_name and other.line <= block.line:
            (tmp_path / other.file_name).write_text(other.text, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": str(pages.ROOT)}
    command = [sys.executable, "-c", f"import {Path(name).stem}"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_variables_that_a_command_gets_are_those_of_the_code() -> None:
    name = re.compile(r"JOBRUNNER_JOB_[A-Z_]+[A-Z]")
    code = "".join(path.read_text() for path in (pages.ROOT / "jobrunner" / "execution").glob("*.py"))
    page = pages.ROOT / "docs" / "how-to" / "commands.md"
    assert set(name.findall(page.read_text(encoding="utf-8"))) == set(name.findall(code))


def test_the_readme_begins_with_what_it_is_and_two_commands() -> None:
    """The first screen: 24 lines."""
    screen = (pages.ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24]
    assert screen[0] == "# jobrunner"
    assert any(line.startswith("make demo") for line in screen)
    assert any(line.startswith("make test") for line in screen)


def test_every_module_has_its_place_in_the_map() -> None:
    text = (pages.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    homes = {path.name for path in (pages.ROOT / "jobrunner").iterdir() if path.is_dir() or path.suffix == ".py"}
    mapped = {name for name in homes if f"{name}`" in text or f"/{name}/`" in text}
    assert homes - mapped == {"__init__.py", "__main__.py", "__pycache__"} & homes
