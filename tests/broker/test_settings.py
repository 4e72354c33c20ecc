"""What a queue is, asked over AMQP alone: each version of RabbitMQ says it in the words that are read here."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from jobrunner.broker import declare
from jobrunner.broker.connection import Connection
from jobrunner.broker.settings import Settings, ignores_priority, limit_reached, settings_of
from jobrunner.broker.topology import Queue
from tests.broker.lab import a_job, delete, in_loop, lab, to_queue
from tests.support.broker import TestBroker

QUORUM: Settings = {"x-queue-type": "quorum"}
CLASSIC: Settings = {"x-queue-type": "classic"}
FULL: Settings = {"x-overflow": "reject-publish", "x-max-length": 3}
MANY: Settings = {
    **FULL,
    "x-dead-letter-exchange": "a, not b",
    "x-dead-letter-routing-key": "7",
    "x-single-active-consumer": True,
}


@asynccontextmanager
async def a_queue(broker: TestBroker, name: str, settings: Settings, jobs: int = 0) -> AsyncIterator[Connection]:
    async with lab(broker.url) as made:
        publisher = await made.publisher()
        await declare.declare(publisher.connection, [Queue(name, dict(settings))])
        for _ in range(jobs):
            await publisher.publish_confirmed(to_queue(a_job(name)))
        yield publisher.connection
        await delete(made, name)


@in_loop
async def test_every_setting_of_a_queue_can_be_asked(broker: TestBroker, queue_name: str) -> None:
    for settings in (QUORUM, CLASSIC, {**QUORUM, **MANY}, {**CLASSIC, "x-max-priority": 9, "x-message-ttl": 60_000}):
        async with a_queue(broker, queue_name, settings) as connection:
            assert await settings_of(connection, queue_name) == settings


@in_loop
async def test_which_queues_heed_priorities(broker: TestBroker, queue_name: str) -> None:
    quorum_ignores = broker.major < 4
    for settings, ignores in (
        (QUORUM, quorum_ignores),
        ({**QUORUM, **MANY}, quorum_ignores),
        (CLASSIC, True),
        ({**CLASSIC, "x-max-priority": 9}, False),
    ):
        async with a_queue(broker, queue_name, settings) as connection:
            assert await ignores_priority(connection, queue_name) == ignores, settings


@in_loop
async def test_a_queue_is_full_where_it_refuses(broker: TestBroker, queue_name: str) -> None:
    async with a_queue(broker, queue_name, {**QUORUM, **FULL}, jobs=3) as connection:
        assert await limit_reached(connection, queue_name, 3) == 3
        assert await limit_reached(connection, queue_name, 2) is None
    async with a_queue(broker, queue_name, {**QUORUM, "x-max-length": 3}, jobs=3) as connection:
        assert await limit_reached(connection, queue_name, 3) is None  # it drops the oldest


@pytest.fixture
def looker(broker: TestBroker) -> Iterator[str]:
    """The URL of a user who may create nothing."""
    name = f"looker-{uuid4().hex[:6]}"
    broker.ctl("add_user", name, "secret")
    broker.ctl("set_permissions", "-p", broker.parsed.vhost, name, "^$", ".*", ".*")
    yield f"amqp://{name}:secret@{broker.parsed.address}/{broker.parsed.vhost}"
    broker.ctl("delete_user", name)


@in_loop
async def test_who_may_not_declare_is_told_nothing(broker: TestBroker, queue_name: str, looker: str) -> None:
    async with a_queue(broker, queue_name, {**QUORUM, **FULL}, jobs=3), lab(looker) as made:
        connection = await made.connect()
        assert await settings_of(connection, queue_name) is None
        assert await limit_reached(connection, queue_name, 3) is None
        assert not await ignores_priority(connection, queue_name)
