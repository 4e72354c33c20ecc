"""The Python API while the broker goes and comes, and while the wire is cut."""

import asyncio
import functools
import time
from pathlib import Path

import msgspec
import pytest

from jobrunner import AsyncClient, Client, JobrunnerExecutor, attempts, events
from jobrunner.api.ends import Ends
from jobrunner.broker import declare
from jobrunner.broker.publisher import STORED, event_message
from jobrunner.brokerurl import parse_url
from jobrunner.envelope import new_job, seal
from jobrunner.errors import BrokerError
from jobrunner.outcome import Error
from jobrunner.watch import End, Watch
from tests.broker.lab import in_loop, lab
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.proxy import Proxy
from tests.support.worker import WorkerProcess, wait_for_start


def commands_in(folder: Path, broker: TestBroker) -> Commands:
    return Commands(folder, {"JOBRUNNER_URL": broker.url})


def test_a_result_comes_though_the_broker_was_restarted_while_it_was_waited_for(
    own_broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = WorkerProcess(commands_in(tmp_path, own_broker), "--app", "tasks", "-q", queue_name, "--procs", "2")
    with worker, Client(own_broker.url) as opened:
        client = opened.options(queue=queue_name)
        handle = client.enqueue("tasks:until", str(tmp_path / "w"), str(gate))
        with JobrunnerExecutor(client=client) as executor:
            wait_for_start(tmp_path / "w")
            own_broker.restart()
            gate.touch()
            assert handle.result(60) == "opened"
            assert executor.submit(_add, 1, 2).result(60) == 3
        assert client.enqueue("tasks:add", 1, 2).result(60) == 3


def _add(a: int, b: int) -> int:
    return a + b


_add.__module__, _add.__qualname__ = "tasks", "add"


def test_a_client_in_an_outage_says_what_is_wrong_and_works_again_afterwards(
    own_broker: TestBroker, queue_name: str
) -> None:
    with Client(own_broker.url, timeout=1) as client:
        queue = client.options(queue=queue_name)
        queue.enqueue("tasks:add", 1, 2)
        own_broker.stop()
        with pytest.raises(BrokerError):
            queue.enqueue("tasks:add", 1, 2)
        own_broker.start()
    with Client(own_broker.url) as client:
        client.options(queue=queue_name).enqueue("tasks:add", 1, 2)


@in_loop
async def test_the_first_enqueue_after_the_connection_was_cut_works(broker: TestBroker, queue_name: str) -> None:
    async with Proxy(broker.url) as proxy, AsyncClient(proxy.url) as client:
        queue = client.options(queue=queue_name)
        await queue.enqueue("tasks:add", 1, 2)
        for reset in (False, True):
            proxy.cut(reset=reset)
            assert (await queue.enqueue("tasks:add", 1, 2)).id


@in_loop
async def test_the_first_enqueue_over_a_connection_that_died_unnoticed_works(
    broker: TestBroker, queue_name: str
) -> None:
    async with Proxy(broker.url) as proxy, AsyncClient(proxy.url, timeout=1.5) as client:
        queue = client.options(queue=queue_name)
        await queue.enqueue("tasks:add", 1, 2)
        await asyncio.sleep(1.1)  # the answers that came so far prove nothing any more
        proxy.stall()
        enqueueing = asyncio.create_task(queue.enqueue("tasks:add", 1, 2))
        await asyncio.sleep(1.0)
        assert not enqueueing.done()
        proxy.cut(reset=True)
        proxy.flow()
        assert (await enqueueing).id


@in_loop
async def test_ends_that_come_while_nobody_listens_are_found_later(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = WorkerProcess(commands_in(tmp_path, broker), "--app", "tasks", "-q", queue_name, "--procs", "2")
    with worker:
        async with Proxy(broker.url) as proxy, AsyncClient(proxy.url) as client:
            queue = client.options(queue=queue_name)
            handles = [await queue.enqueue("tasks:until", str(tmp_path / "w"), str(gate)) for _ in range(2)]
            proxy.refusing = True
            proxy.cut()
            gate.touch()
            async with AsyncClient(broker.url) as other:
                assert await other.result(handles[0].id, timeout=30) == "opened"
            proxy.refusing = False
            began = time.monotonic()
            assert await handles[0].result(60) == "opened"
            assert await handles[1].result(60) == "opened"
            assert time.monotonic() - began < 45


@in_loop
async def test_an_end_before_a_retry_is_not_taken_for_that_of_the_retry_where_the_ledger_is_read_again(
    broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = asyncio.Event()
    listen = Watch.next

    async def listening(watch: Watch, timeout_s: float | None = None) -> End | None:
        waits.set()
        return await listen(watch, timeout_s)

    monkeypatch.setattr(Watch, "next", listening)
    job = seal(new_job(queue=queue_name, task="tasks:add"))
    ran = attempts.Run(worker="w", host="h", pid=1, started_at=1.0, ended_at=2.0)
    told = [
        events.Queued(at=time.time(), jobs=[events.QueuedJob(job=msgspec.Raw(job.body), priority=4)]),
        events.Dead(at=time.time(), id=job.job.id, error=Error(reason="error", message="x"), queue=queue_name),
        events.Queued(at=time.time(), jobs=[events.QueuedJob(job=msgspec.Raw(job.body), priority=4, chain=1, copy=1)]),
    ]
    end = events.Succeeded(at=time.time(), id=job.job.id, chain=1, copy=1, result=msgspec.Raw(b"5"), ran=ran)
    async with Proxy(broker.url) as proxy, AsyncClient(proxy.url) as client, lab(broker.url) as made:
        publisher = await made.publisher()
        await declare.declare_startup(publisher.connection, publisher)
        for event in told:
            assert await publisher.publish_confirmed(event_message(event)) == STORED
        result = asyncio.create_task(client.result(job.job.id, timeout=60))
        await asyncio.wait([result, asyncio.create_task(waits.wait())], return_when=asyncio.FIRST_COMPLETED)
        proxy.cut()
        assert await publisher.publish_confirmed(event_message(end)) == STORED
        assert await result == 5


@in_loop
async def test_all_who_ask_at_once_for_the_ends_of_a_run_wait_until_none_can_be_missed(
    broker: TestBroker, queue_name: str
) -> None:
    async with Proxy(broker.url) as proxy:
        ends = Ends(parse_url(proxy.url), "run-of-its-own", timeout_s=30)
        await ends.open()
        proxy.stall()
        asked = [asyncio.create_task(ends.hear(queue_name)) for _ in range(2)]
        done, _ = await asyncio.wait(asked, timeout=0.5)
        assert not done
        proxy.flow()
        first, second = await asyncio.gather(*asked)
        assert first is second is not None
        await ends.close()


@in_loop
async def test_a_map_reads_an_asynchronous_input_and_gives_results_while_it_waits_for_more(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    more = asyncio.Event()

    async def inputs() -> object:
        for number in range(3):
            yield number
        await more.wait()
        yield 3

    worker = WorkerProcess(commands_in(tmp_path, broker), "--app", "tasks", "-q", queue_name, "--procs", "2")
    with worker:
        async with AsyncClient(broker.url) as client:
            found = []
            async for result in client.options(queue=queue_name).map(functools.partial(_add, 1), inputs()):  # type: ignore[arg-type]
                found.append(result)
                if len(found) == 3:
                    more.set()
            assert found == [1, 2, 3, 4]
