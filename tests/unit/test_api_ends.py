"""How a client listens for the ends of its jobs, where the broker does not answer. No broker."""

import asyncio
from collections.abc import Sequence

import pytest

from jobrunner.api.ends import Ends
from jobrunner.brokerurl import parse_url
from jobrunner.errors import BrokerTimeout
from tests.support.edges import on_a_loop


@on_a_loop
async def test_a_group_that_cannot_be_heard_in_an_outage_is_an_error_and_no_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = Ends(parse_url("amqp://127.0.0.1:1/"), "mine", timeout_s=0.05)
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
