"""What a client makes of what it hears of its connection."""

import asyncio

from jobrunner.broker.connection import ConnectionBlocked, ConnectionDown, ConnectionMessage, ConnectionUp
from jobrunner.client import Client
from jobrunner.config import parse_url
from jobrunner.errors import BrokerLost
from tests.support.edges import on_a_loop

ALARM = ConnectionBlocked("client", "low on memory")
LOST = ConnectionDown("client", 1, BrokerLost(address="h:1", reason="reset"), 0.5)
BACK = ConnectionUp("client", 2)


@on_a_loop
async def test_an_alarm_of_one_connection_neither_ends_the_next_nor_is_blamed_there() -> None:
    client = Client(parse_url("amqp://127.0.0.1:1/"), timeout_s=0.01)
    aborted: list[str] = []
    client.connection.abort = aborted.append  # type: ignore[method-assign]

    async def hear(*messages: ConnectionMessage) -> None:
        for message in messages:
            client._notified(message)
        await asyncio.sleep(0.05)

    await hear(ALARM)
    assert aborted == ["low on memory"]
    await hear(LOST)
    assert client._prober.alarm == "low on memory"  # why what was under way has failed
    await hear(BACK)
    assert client._prober.alarm is None
    await hear(ALARM, LOST, BACK)
    assert aborted == ["low on memory"]
