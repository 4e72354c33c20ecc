"""Reading the ledger to its present end."""

import time

from jobrunner import AsyncClient
from jobrunner.brokerurl import parse_url
from jobrunner.cli.events_read import recorded
from jobrunner.config import Settings
from tests.broker.lab import in_loop
from tests.support.broker import TestBroker
from tests.support.proxy import Proxy


@in_loop
async def test_a_slow_broker_hides_no_event(broker: TestBroker, queue_name: str) -> None:
    async with AsyncClient(broker.url) as client:
        job_id = (await client.options(queue=queue_name).enqueue("tasks:add", 2, 3)).id
    async with Proxy(broker.url) as proxy:
        proxy.lanes["down"].delay_s = 0.5
        read = [record async for record in recorded(Settings(url=parse_url(proxy.url)), time.time() - 60)]
    assert [record.key.partition(".")[0] for record in read if record.key.endswith(f".{job_id}")] == ["queued"]
