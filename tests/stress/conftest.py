"""Stress tests take minutes and are run by `make stress` only."""

from collections.abc import Iterator

import pytest

from tests.support import broker as brokers
from tests.support.broker import TestBroker


@pytest.fixture(params=brokers.session_kinds())
def fresh_broker(request: pytest.FixtureRequest) -> Iterator[TestBroker]:
    """A broker of each kind that can be had here, for one test, which may do to it what it likes."""
    made = brokers.make(request.param)
    yield made
    made.thaw()
    made.remove()
