"""Fixtures for the tests of programs that use jobrunner; pytest loads them by itself where jobrunner is installed.

jobrunner_inline: jobs run where they are queued. jobrunner_broker: a real broker of this test run's own.
Nothing is imported or started before a test asks for one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobrunner.statedir import LocalBroker


@pytest.fixture
def jobrunner_inline() -> Iterator[None]:
    """Jobs run where they are queued, in this thread, through the JSON of arguments and results: no broker needed.

    Holds for all clients, and for `function.delay(...)`. Retries follow at once, delays and
    timeouts are not kept; commands are refused.
    """
    from jobrunner.api.inline import inline

    with inline():
        yield


@pytest.fixture(scope="session")
def jobrunner_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator["LocalBroker"]:
    """A private RabbitMQ for this test run, gone in the end; its `url` is in JOBRUNNER_URL as well.

    Skips, and says why, where none can be started: neither RabbitMQ nor Docker.
    """
    from jobrunner.errors import JobrunnerError
    from jobrunner.local import lifecycle

    state = tmp_path_factory.mktemp("jobrunner")
    try:
        broker = lifecycle.start(lifecycle.StartOptions(state=state))
    except JobrunnerError as exc:
        pytest.skip(f"no broker for tests: {exc.message} {exc.hint}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBRUNNER_URL", broker.url)
        patch.setenv("JOBRUNNER_STATE_DIR", str(state))
        yield broker
    lifecycle.stop(state, wipe=True)
