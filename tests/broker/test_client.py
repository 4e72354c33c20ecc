"""The client against a real broker: what it says is queued is stored and recorded, and no end is missed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from jobrunner import attempts, events
from jobrunner.broker import declare, topology
from jobrunner.broker.consumer import SlotConsumer
from jobrunner.broker.groups import group
from jobrunner.broker.publisher import Publisher, Stored, event_message
from jobrunner.broker.topology import Queue
from jobrunner.brokerurl import parse_url
from jobrunner.client import Client
from jobrunner.envelope import Envelope, new_job, seal
from jobrunner.errors import (
    BrokerBlocked,
    BrokerTimeout,
    JobrunnerError,
    MessageTooLarge,
    NotFound,
    QueueRefused,
    Unconfirmed,
)
from jobrunner.purge import Purge
from jobrunner.view import recorder
from jobrunner.view.store import Store
from tests.broker.lab import in_loop, on_channel
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_async, eventually_is
from tests.support.proxy import Proxy


def job(queue: str, **fields: object) -> Envelope:
    return seal(new_job(queue=queue, task="tasks:add", **fields))  # type: ignore[arg-type]


def succeeded(sealed: Envelope) -> events.Succeeded:
    ran = attempts.Run(worker="w", host="h", pid=1, started_at=1.0, ended_at=2.0)
    return events.Succeeded(at=2.0, id=sealed.job.id, run=sealed.job.run, attempt=1, result=msgspec.Raw(b"5"), ran=ran)


@in_loop
async def test_the_first_jobs_of_a_new_broker_may_be_thousands(make_vhost: Callable[..., str], queue_name: str) -> None:
    """Several batches are under way when the first record finds no ledger."""
    answers: list[JobrunnerError | None] = []

    async def jobs() -> AsyncIterator[Envelope]:
        for _ in range(3000):
            yield job(queue_name)

    async with Client(parse_url(make_vhost(quorum=True))) as client:
        await client.enqueue_many(jobs(), lambda _, answer: answers.append(answer))
    assert answers == [None] * 3000


@in_loop
async def test_a_missing_queue_is_created_and_the_job_is_in_it(broker: TestBroker, queue_name: str) -> None:
    async with Client(broker.parsed) as client:
        assert await client.depth(queue_name) is None
        await client.enqueue(job(queue_name))
        await eventually_is(lambda: client.depth(queue_name), (1, 0))


@in_loop
async def test_many_jobs_are_answered_in_input_order(broker: TestBroker, queue_name: str) -> None:
    jobs = [job(queue_name if number % 3 else f"{queue_name}-b") for number in range(2000)]
    answered: list[tuple[str, JobrunnerError | None]] = []
    async with Client(broker.parsed) as client:
        await client.enqueue_many(iter(jobs), lambda one, error: answered.append((one.job.id, error)))
    assert answered == [(one.job.id, None) for one in jobs]


@in_loop
async def test_a_bulk_enqueue_reads_its_input_no_faster_than_it_is_stored(broker: TestBroker, queue_name: str) -> None:
    read = answered = ahead = 0

    def source() -> object:
        nonlocal read, ahead
        for _ in range(6000):
            read += 1
            ahead = max(ahead, read - answered)
            yield job(queue_name)

    def count(_one: Envelope, error: JobrunnerError | None) -> None:
        nonlocal answered
        assert error is None
        answered += 1

    async with Client(broker.parsed) as client:
        await client.enqueue_many(source(), count)  # type: ignore[arg-type]
    assert answered == 6000
    assert ahead <= 5 * events.QUEUED_BATCH_JOBS


@in_loop
async def test_of_a_broker_that_falls_silent_each_job_under_way_is_told_of(
    own_broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.broker.probing.GOOD_FOR_S", 0.0)  # it is asked before each batch
    read = 0
    answers: list[JobrunnerError | None] = []

    def source() -> Iterator[Envelope]:
        nonlocal read
        for _ in range(6000):
            if read == events.QUEUED_BATCH_JOBS:
                own_broker.freeze()
            read += 1
            yield job(queue_name)

    async with Client(own_broker.parsed, timeout_s=2.0) as client:
        try:
            with pytest.raises(BrokerTimeout):
                await client.enqueue_many(source(), lambda _, answer: answers.append(answer))
        finally:
            own_broker.thaw()
    # all but one batch, which was not sent
    assert read - len(answers) == events.QUEUED_BATCH_JOBS
    assert {type(answer) for answer in answers} == {Unconfirmed}


@in_loop
async def test_a_job_whose_answer_was_cut_off_is_told_as_such_and_not_as_late(
    broker: TestBroker, queue_name: str
) -> None:
    async with Proxy(broker.url) as proxy, Client(parse_url(proxy.url, origin="--url")) as client:
        await client.enqueue(job(queue_name))
        proxy.stall("down")
        last = asyncio.create_task(client.enqueue(job(queue_name)))
        async with Client(broker.parsed) as other:
            await eventually_is(lambda: other.depth(queue_name), (2, 0))
        proxy.cut()
        with pytest.raises(Unconfirmed, match=r"No confirm before the connection was lost: \w{8} may be queued"):
            await last


@in_loop
async def test_a_batch_for_a_full_queue_is_refused_in_the_time_of_one_job(
    broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)
        await pause(delay_s)

    pause = asyncio.sleep
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish", "x-queue-type": "classic"}
    async with Client(broker.parsed, timeout_s=1.0) as client:
        await declare.declare(client.connection, [Queue(queue_name, arguments)])
        monkeypatch.setattr(asyncio, "sleep", sleep)
        answers = await client.enqueue_batch([job(queue_name) for _ in range(40)])
        await declare.delete_queue(client.connection, queue_name)
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) >= 30
    assert all(isinstance(answer, QueueRefused) for answer in refused)
    assert sum(waits) < 2.0


@in_loop
async def test_a_full_queue_refuses_the_job_and_says_so(broker: TestBroker, queue_name: str) -> None:
    policy = '{"max-length":1,"overflow":"reject-publish"}'
    broker.ctl(
        "set_policy",
        "-p",
        "jobrunner",
        queue_name,
        f"^{queue_name}$",
        policy,
        "--apply-to",
        "queues",
        "--priority",
        "9",
    )
    try:
        async with Client(broker.parsed, timeout_s=1.0) as client:
            with pytest.raises(QueueRefused, match="full or down"):
                for _ in range(50):
                    await client.enqueue(job(queue_name))
    finally:
        broker.ctl("clear_policy", "-p", "jobrunner", queue_name)


@in_loop
async def test_a_job_over_the_limit_never_leaves(broker: TestBroker, queue_name: str) -> None:
    large = job(queue_name, args=msgspec.Raw(b'["' + b"x" * 1024 * 1024 + b'"]'))
    async with Client(broker.parsed) as client:
        with pytest.raises(MessageTooLarge, match=r"1\.0 MiB; the limit is 1\.0 MiB\. args: 1\.0 MiB"):
            await client.enqueue(large)
        assert await client.depth(queue_name) is None


@in_loop
async def test_a_delayed_job_comes_when_it_is_due(broker: TestBroker, queue_name: str) -> None:
    async with Client(broker.parsed) as client:
        due_s = time.time() + 1.2
        await client.enqueue(seal(new_job(queue=queue_name, task="tasks:add"), not_before_s=due_s))

        async def there() -> float:
            assert await client.depth(queue_name) == (1, 0)
            return time.time()

        arrived_s = await eventually_async(there)
        assert -0.05 < arrived_s - due_s < 20


@pytest.mark.parametrize("what", ["the queue", "the ladder"])
@in_loop
async def test_a_delayed_job_comes_after_somebody_has_deleted_what_led_to_its_queue(
    make_vhost: Callable[..., str], what: str
) -> None:
    queue = "lost and made again"
    async with Client(parse_url(make_vhost(quorum=True)), timeout_s=20.0) as client:

        async def delayed(by_s: float) -> None:
            await client.enqueue(seal(new_job(queue=queue, task="tasks:add"), not_before_s=time.time() + by_s))

        await delayed(0.2)
        await eventually_is(lambda: client.depth(queue), (1, 0))
        if what == "the queue":
            await declare.delete_queue(client.connection, queue)
            await client.enqueue(job(queue))
            await delayed(0.2)
            await eventually_is(lambda: client.depth(queue), (2, 0))
            return
        for number in range(topology.LEVELS):
            level = topology.level(number)
            await on_channel(client.connection, lambda one, done, name=level: one.exchange_delete(name, callback=done))
            await declare.delete_queue(client.connection, level)
        await delayed(3600.0)

        async def waiting() -> int:
            depths = [await client.depth(topology.level(number)) for number in range(topology.LEVELS)]
            return sum(depth[0] for depth in depths if depth is not None)

        await eventually_is(waiting, 1)


@in_loop
async def test_an_end_is_seen_once_also_when_the_connection_was_lost_meanwhile(
    own_broker: TestBroker, queue_name: str
) -> None:
    first, second = job(queue_name), job(queue_name)
    async with Client(own_broker.parsed) as client, client.watch(ids=[first.job.id, second.job.id]) as watch:
        publisher = Publisher(client.connection)
        await client.enqueue(first)
        await publisher.publish_confirmed(event_message(succeeded(first)))
        end = await watch.next(10)
        assert end is not None
        assert (end.id, end.state, bytes(end.result or b"")) == (first.job.id, "succeeded", b"5")
        # the watch's connection is cut, and the end happens before it is back
        watch._connection.abort("cut by the test")
        await publisher.publish_confirmed(event_message(succeeded(second)))
        end = await watch.next(20)
        assert end is not None
        assert end.id == second.job.id
        assert await watch.next(1.5) is None
        publisher.close()


@in_loop
async def test_the_end_of_any_job_is_heard_that_is_told_together_with_others(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    """RabbitMQ routes by all keys of a message, and keeps one record of it."""
    jobs = [job(queue_name, run=f"{queue_name}.{number % 2}") for number in range(6)]
    told = group([event_message(succeeded(one)) for one in jobs])
    url = broker.parsed
    async with Client(url) as client:
        for one in jobs:
            await client.enqueue(one)
        last, third = jobs[-1].job, jobs[2].job
        async with (
            client.watch(ids=[last.id]) as by_id,
            client.watch(run=third.run) as by_run,
            client.watch(ids=["0" * 16]) as other,
        ):
            publisher = Publisher(client.connection)
            assert await publisher.publish_confirmed(told) == Stored()
            assert getattr(await by_id.next(10), "id", None) == last.id
            ends = [await by_run.next(10) for _ in range(3)]
            assert {end.id for end in ends if end} == {one.job.id for one in jobs[::2]}
            assert [await watch.next(0.3) for watch in (by_id, by_run, other)] == [None] * 3
            publisher.close()
    with Store.open(tmp_path / "view.sqlite", on_notice=lambda _: None) as store:
        for _ in range(2):  # again from there: a record of several is not folded in part
            await recorder.sync(store, url, timeout_s=15.0)
            assert [getattr(store.job(one.job.id), "state", None) for one in jobs] == ["succeeded"] * 6


@in_loop
async def test_a_run_is_watched_by_its_name(broker: TestBroker, queue_name: str) -> None:
    jobs = [job(queue_name, run=queue_name) for _ in range(20)]
    async with Client(broker.parsed) as client, client.watch(run=queue_name) as watch:
        publisher = Publisher(client.connection)
        for one in [*jobs, job(queue_name)]:
            await publisher.publish_confirmed(event_message(succeeded(one)))
        ends = [await watch.next(10) for _ in jobs]
        assert {end.id for end in ends if end} == {one.job.id for one in jobs}
        assert await watch.next(0.3) is None
        publisher.close()


@in_loop
async def test_a_blocked_broker_takes_nothing_and_the_enqueue_ends_with_a_sentence(
    own_broker: TestBroker, queue_name: str
) -> None:
    async with Client(own_broker.parsed) as client:
        await client.enqueue(job(queue_name))
    own_broker.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        for _ in range(2):
            async with Client(own_broker.parsed, timeout_s=1.0) as client:
                with pytest.raises(BrokerBlocked, match="takes no new jobs"):
                    await client.enqueue(job(queue_name))
    finally:
        own_broker.ctl("set_vm_memory_high_watermark", "0.4")
    async with Client(own_broker.parsed) as client:
        await client.enqueue(job(queue_name))
        await eventually_is(lambda: client.depth(queue_name), (2, 0))


@in_loop
async def test_a_purge_records_each_job_before_it_goes(broker: TestBroker, queue_name: str) -> None:
    jobs = [job(queue_name, run=queue_name) for _ in range(30)]
    async with Client(broker.parsed) as client, client.watch(run=queue_name) as watch:
        await client.enqueue_many(jobs, lambda _one, _error: None)
        assert await Purge(broker.parsed, queue_name, by="ana@mbp", timeout_s=10).run() == 30
        ends = [await watch.next(5) for _ in jobs]
        assert {(end.id, end.state) for end in ends if end} == {(one.job.id, "cancelled") for one in jobs}
        assert await client.depth(queue_name) == (0, 0)


@in_loop
async def test_a_purge_waits_for_a_broker_that_is_slow_to_give_the_messages(
    broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = SlotConsumer.start
    async with Proxy(broker.url) as proxy, Client(broker.parsed) as client:

        def slowly(consumer: SlotConsumer) -> None:
            proxy.lanes["down"].delay_s = 0.6
            start(consumer)

        monkeypatch.setattr(SlotConsumer, "start", slowly)
        await client.enqueue(job(queue_name))
        assert await Purge(parse_url(proxy.url), queue_name, by="me@here", timeout_s=10.0).run() == 1
        await eventually_is(lambda: client.depth(queue_name), (0, 0))


@in_loop
async def test_a_queue_that_is_not_there_cannot_be_purged(broker: TestBroker, queue_name: str) -> None:
    with pytest.raises(NotFound, match=queue_name):
        await Purge(broker.parsed, queue_name, by="ana@mbp", timeout_s=10).run()
