"""Reading the ledger to its present end."""

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from jobrunner import AsyncClient
from jobrunner.broker.stream import Start, StreamReader
from jobrunner.brokerurl import parse_url
from jobrunner.cli.events_read import followed, recorded
from jobrunner.config import Settings
from tests.broker.lab import in_loop
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_async
from tests.support.proxy import Proxy


@in_loop
async def test_a_slow_broker_hides_no_event(broker: TestBroker, queue_name: str) -> None:
    async with AsyncClient(broker.url) as client:
        job_id = (await client.options(queue=queue_name).enqueue("tasks:add", 2, 3)).id
    async with Proxy(broker.url) as proxy:
        proxy.lanes["down"].delay_s = 0.5
        read = [record async for record in recorded(Settings(url=parse_url(proxy.url)), time.time() - 60)]
    assert [record.key.partition(".")[0] for record in read if record.key.endswith(f".{job_id}")] == ["queued"]


@in_loop
async def test_what_is_told_in_an_outage_before_the_first_event_is_not_missed(
    broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Start] = []
    start_reader = StreamReader.start

    def start(reader: StreamReader, where: Start, *rest: Any) -> None:
        starts.append(where)
        start_reader(reader, where, *rest)

    async def begun() -> None:
        assert any(where != "last" for where in starts)

    monkeypatch.setattr(StreamReader, "start", start)
    async with AsyncClient(broker.url) as client, Proxy(broker.url) as proxy:
        queue = client.options(queue=queue_name)
        before = (await queue.enqueue("tasks:add", 1, 2)).id
        async with aclosing(followed(Settings(url=parse_url(proxy.url)), None)) as records, asyncio.timeout(60):
            first = asyncio.ensure_future(anext(records))
            await eventually_async(begun)
            proxy.refusing = True
            proxy.cut()
            meanwhile = (await queue.enqueue("tasks:add", 2, 3)).id
            proxy.refusing = False
            keys = [(await first).key]
            while not keys[-1].endswith(f".{meanwhile}"):
                keys.append((await anext(records)).key)
    assert not any(key.endswith(f".{before}") for key in keys)
