"""What a group is made of, where several threads or tasks begin with it at once. No broker."""

import asyncio
import threading
from typing import Any

from jobrunner.api.aio_group import AsyncGroup
from jobrunner.api.ends import Ticket
from jobrunner.api.group import Group
from jobrunner.api.thread import LoopThread
from jobrunner.view.rows import JobRow
from tests.support.edges import on_a_loop

ROWS = [JobRow(id="a" * 16, state="queued", state_at=1.0)]


def test_the_jobs_of_a_group_that_several_threads_take_up_are_counted_once() -> None:
    thread = LoopThread()

    class Client:
        """Looks up what there is of a run; so slowly that others come meanwhile."""

        def work(self, work: Any) -> Any:
            return thread.run(work(self))

        async def members(self, _run: str, _most: int | None) -> list[JobRow]:
            await asyncio.sleep(0.2)
            return ROWS

        def handle_of(self, ticket: Ticket) -> Ticket:
            return ticket

    client: Any = Client()
    group = Group(client, "nightly", resume=True)
    threads = [threading.Thread(target=lambda: group.handles) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert len(group.handles) == 1
    thread.stop()


@on_a_loop
async def test_the_jobs_of_a_group_that_several_tasks_take_up_are_counted_once() -> None:
    class Client:
        """The same, for tasks."""

        @property
        def core(self) -> "Client":
            return self

        async def members(self, _run: str, _most: int | None) -> list[JobRow]:
            await asyncio.sleep(0.05)
            return ROWS

        def handle_of(self, ticket: Ticket) -> Ticket:
            return ticket

        async def wait(self, handles: object, *_rest: object, **_more: object) -> object:
            return handles

    client: Any = Client()
    group = AsyncGroup(client, "nightly", resume=True)
    await asyncio.gather(group.wait(), group.wait())
    assert len(group.handles) == 1
