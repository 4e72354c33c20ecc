"""A worker that ends when there is nothing to do: it looks again, whatever becomes of a look."""

import asyncio
from collections.abc import Callable

import pytest

from jobrunner.broker import declare
from jobrunner.broker.connection import Connection
from jobrunner.errors import BrokerLost, JobrunnerError, PermissionRefused
from jobrunner.worker import inbox, run
from tests.support.edges import Bench, on_a_loop

LOST = BrokerLost(address="h:1", reason="reset")
FORBIDDEN = PermissionRefused(user="u", verb="read", entity="task_queue", vhost="/")


def answers(*given: JobrunnerError | tuple[int, int]) -> Callable[[Connection, str], object]:
    """What each look in turn is told, the last one for ever."""
    left = list(given)

    async def queue_depth(_connection: Connection, _queue: str) -> tuple[int, int]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, JobrunnerError):
            raise answer
        return answer

    return queue_depth


@pytest.mark.parametrize("told", [(LOST, (1, 0), LOST, (0, 0)), (FORBIDDEN,)])
@on_a_loop
async def test_it_ends_once_its_queue_is_empty(
    told: tuple[JobrunnerError | tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CHECK_S", 0.001)
    monkeypatch.setattr(declare, "queue_depth", answers(*told))
    worker = Bench(1).worker
    worker.consuming.is_open = True
    await asyncio.wait_for(run._watch_queues(worker), 30)
    assert worker.inbox._messages.popleft() == inbox.StopRequested(0)
