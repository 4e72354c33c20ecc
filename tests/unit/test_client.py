"""What a client makes of what it hears of its connection."""

import asyncio
from typing import Any

import pytest

from jobrunner import client as module
from jobrunner.broker.connection import ConnectionBlocked, ConnectionDown, ConnectionMessage, ConnectionUp
from jobrunner.broker.publisher import STORED
from jobrunner.brokerurl import parse_url
from jobrunner.client import Client
from jobrunner.envelope import new_job, seal
from jobrunner.errors import BrokerLost, Unconfirmed
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


@on_a_loop
async def test_each_job_whose_record_is_not_confirmed_is_told_of_by_its_own_id(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(parse_url("amqp://127.0.0.1:1/"), timeout_s=0.01)
    jobs = [seal(new_job(queue="q", task="tasks:add")) for _ in range(3)]

    async def stored(_publisher: object, messages: list[object]) -> list[object]:
        return [STORED] * len(messages)

    async def not_confirmed(_event: object, full_id: str, _name: str = "") -> None:
        raise Unconfirmed(until="before the connection was lost", job_id=full_id[:8], full_id=full_id)

    monkeypatch.setattr(module, "all_answers", stored)
    monkeypatch.setattr(client, "_tell", not_confirmed)
    answers: list[Any] = await client._enqueue_batch(jobs)
    assert [answer.hint for answer in answers] == [f"again with --id {one.job.id}" for one in jobs]
