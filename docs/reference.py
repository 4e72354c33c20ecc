"""Writes `docs/cli.md`, the reference of all commands, from their `--help`: `python docs/reference.py`."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import click

from jobrunner.cli import table
from jobrunner.cli.app import run

PAGE = Path(__file__).parent / "cli.md"
HEAD = """\
# The command line

Everything that `--help` says, on one page. Written by `python docs/reference.py`; a test compares it with the commands.
Exit codes and errors have [a page of their own](errors.md).
"""


def paths(words: tuple[str, ...], found: click.Command) -> Iterator[tuple[str, ...]]:
    """The command and those below it, as words."""
    yield words
    if isinstance(found, click.Group):
        for name, child in found.commands.items():
            yield from paths((*words, name), child)


def help_on(words: tuple[str, ...]) -> str:
    """What `--help` prints, on a terminal of 100 columns."""
    text = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "102"}), redirect_stdout(text):
        run([*words, "--help"])
    return text.getvalue().rstrip()


def page() -> str:
    """The whole page."""
    parts = [HEAD, f"## jobrunner\n\n```text\n{help_on(())}\n```\n"]
    for name in table.COMMANDS:
        found = table.load(name)
        for words in paths((name,), found) if found is not None else ():
            heading = "#" * (len(words) + 1)
            parts.append(f"{heading} jobrunner {' '.join(words)}\n\n```text\n{help_on(words)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"written: {PAGE.name}\n")
