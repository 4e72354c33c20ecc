"""Acceptance tests run the installed command. Each has its own folder and its own state folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.command import Commands


@pytest.fixture
def make_commands(tmp_path: Path) -> Iterator[Callable[..., Commands]]:
    """Makes a `Commands` in the test's folder with the given environment."""
    made: list[Commands] = []

    def make(**env: str) -> Commands:
        made.append(Commands(tmp_path, env))
        return made[-1]

    yield make
    for commands in made:
        commands.close()


@pytest.fixture
def cli(make_commands: Callable[..., Commands], broker: TestBroker) -> Commands:
    """The command with the shared broker: `cli.run("enqueue", ...)`, `cli.json(...)`, `cli.start("worker", ...)`."""
    return make_commands(JOBRUNNER_URL=broker.url)
