"""How a client listens for the ends of its jobs, where the broker does not answer. No broker."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from jobrunner import AsyncClient
from jobrunner.api.core import BrokerCore
from jobrunner.api.ends import Ends
from jobrunner.brokerurl import parse_url
from jobrunner.config import Settings
from jobrunner.errors import BrokerTimeout, PermissionRefused
from jobrunner.fixing.endings import Endings
from jobrunner.watch import Watch
from tests.support.edges import on_a_loop

URL = parse_url("amqp://127.0.0.1:1/")


async def _nothing(*_args: object) -> None: ...


@pytest.mark.parametrize("make", [lambda: Watch(URL, run="r", timeout_s=1.0), lambda: Endings(URL, {}, timeout_s=1.0)])
@on_a_loop
async def test_a_wait_that_is_refused_leaves_no_connection(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Watch | Endings]
) -> None:
    wait, closed = make(), asyncio.Event()

    async def refused(**_: object) -> None:
        raise PermissionRefused(user="u", verb="read", entity="e", vhost="/")

    async def close() -> None:
        closed.set()

    monkeypatch.setattr(wait._connection, "connect_once", _nothing)
    monkeypatch.setattr(wait._connection, "close", close)
    monkeypatch.setattr(wait._subscription, "open", refused)
    with pytest.raises(PermissionRefused):
        async with wait:
            raise AssertionError("it was refused")
    assert closed.is_set()


@on_a_loop
async def test_a_close_that_is_not_waited_for_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    core = BrokerCore(Settings(url=URL), "r")
    closed: list[str] = []

    def noting(name: str) -> Callable[..., Awaitable[None]]:
        async def close(*_args: object) -> None:
            closed.append(name)

        return close

    monkeypatch.setattr(core._outbox, "close", asyncio.Event().wait)
    monkeypatch.setattr(core._ends, "close", noting("ends"))
    monkeypatch.setattr(core._client.connection, "close", noting("client"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(core.close(), 0.05)
    assert closed == ["ends", "client"]


@on_a_loop
async def test_a_client_that_several_tasks_open_at_once_connects_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    async def connect(core: BrokerCore) -> None:
        await asyncio.sleep(0)
        opened.append(core.run)

    monkeypatch.setattr(BrokerCore, "open", connect)
    client = AsyncClient("amqp://127.0.0.1:1/", run="r")
    await asyncio.gather(*(one.open() for one in (client, client.options(queue="q"), client)))
    assert opened == ["r"]
    await client.close()


@on_a_loop
async def test_a_group_that_cannot_be_heard_in_an_outage_is_an_error_and_no_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = Ends(URL, "mine", timeout_s=0.05)
    back = asyncio.Event()

    async def connected() -> None: ...

    async def add(_keys: Sequence[str]) -> None:
        await back.wait()  # until the connection is there again

    monkeypatch.setattr(ends, "open", connected)
    monkeypatch.setattr(ends._subscription, "add", add)
    async with asyncio.timeout(20):
        with pytest.raises(BrokerTimeout):
            await ends.hear("a group")
        back.set()
        assert await ends.hear("a group") is not None
