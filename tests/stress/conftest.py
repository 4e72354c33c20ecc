"""Stress tests take minutes and are run by `make stress` only. What they need is what acceptance tests need."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import broker as brokers
from tests.support.broker import TestBroker
from tests.support.command import Commands


@pytest.fixture(params=brokers.session_kinds())
def fresh_broker(request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    """A broker of each kind that can be had here, for one test, which may do to it what it likes."""
    made = brokers.make(request.param)
    yield made
    made.thaw()
    made.remove()


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
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witness"
