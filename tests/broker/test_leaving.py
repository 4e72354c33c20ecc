"""What is closed, or lost, while an answer of the broker is still on its way."""

import asyncio
from collections.abc import Callable

import pytest

from jobrunner.broker import declare, topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.control import ControlPort
from jobrunner.broker.stream import StreamReader
from tests.broker.lab import Lab, in_loop, lab
from tests.support.broker import TestBroker


async def with_all(made: Lab) -> Connection:
    """A connection to a broker that has what a worker declares."""
    publisher = await made.publisher()
    await declare.declare_startup(publisher.connection, publisher)
    return await made.connect()


async def rounds(connection: Connection) -> None:
    """So many questions and answers that everything that was asked before is answered."""
    for _ in range(5):
        assert await declare.queue_depth(connection, "jobrunner-no-such-queue") is None


def reader(connection: Connection) -> Callable[[], None]:
    one = StreamReader(connection, topology.LEDGER, lambda _record: None, lambda _reason: None)
    one.start("first")
    return one.close


def ear(connection: Connection) -> Callable[[], None]:
    return ControlPort(connection, ["all"], lambda _request: None).close


@pytest.mark.parametrize("opened", [reader, ear])
@in_loop
async def test_what_is_closed_while_it_opens_leaves_no_channel_and_the_connection_as_it_was(
    broker: TestBroker, opened: Callable[[Connection], Callable[[], None]]
) -> None:
    async with lab(broker.url) as made:
        connection = await with_all(made)
        for number in range(20):  # at whatever answer it is closed
            close = opened(connection)
            await asyncio.sleep(0.0005 * number)
            close()
            await rounds(connection)
            assert connection.epoch == 1
        assert connection._amqp is not None
        assert not connection._amqp._channels
