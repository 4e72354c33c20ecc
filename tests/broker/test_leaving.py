"""What is closed, or lost, while an answer of the broker is still on its way."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobrunner import attempts, events
from jobrunner.broker import catchup, declare, inbound, subscription, topology
from jobrunner.broker.catchup import CatchUp
from jobrunner.broker.connection import Connection, ConnectionUp
from jobrunner.broker.control import ControlPort, Request, request_message
from jobrunner.broker.publisher import STORED, Stored, event_message, job_message
from jobrunner.broker.stream import Record, StreamReader
from jobrunner.broker.subscription import Subscription
from jobrunner.broker.waiting import WaitingDelivered, WaitingLost, WaitingPort
from jobrunner.brokerurl import parse_url
from jobrunner.envelope import After, new_job, seal
from jobrunner.ids import new_id
from jobrunner.worker import tombstones
from jobrunner.worker.tombstones import Tombstones
from tests.broker.lab import Lab, in_loop, lab, on_channel
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_async
from tests.support.proxy import Proxy


async def with_all(made: Lab) -> Connection:
    """A connection to a broker that has what a worker declares."""
    publisher = await made.publisher()
    await declare.declare_startup(publisher.connection, publisher)
    return await made.connect()


async def rounds(connection: Connection) -> None:
    """So many questions and answers that what was asked before is answered, as a rule."""
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

        async def none_left() -> None:  # a channel's answers come in order, those of several in any
            assert connection._amqp is not None
            assert not connection._amqp._channels

        await eventually_async(none_left)
        assert connection.epoch == 1


@in_loop
async def test_a_job_that_is_taken_in_after_its_channel_was_lost_keeps_none_from_being_heard_of(
    make_vhost: Callable[..., str],
) -> None:
    url = make_vhost(quorum=True)
    async with lab(url) as made:
        connection = await with_all(made)
        publisher = await made.publisher()
        after = After(jobs={"a" * 16: 0}, since=1.0)
        job = seal(new_job(queue="q", task="tasks:add", after=after))
        assert await publisher.publish_confirmed(job_message(job, topology.WAITING, "q")) == STORED
        bound: list[Any] = []
        port = WaitingPort(connection, made.inbox.put)
        connection.start()
        port.start()
        await made.inbox.take(WaitingDelivered)
        made.inbox.seen.clear()
        connection.abort("cut by a test")
        await made.inbox.take(WaitingLost)
        port.listen(["succeeded.*.a"], lambda: bound.append("lost"))  # the delivery was in the worker's inbox still
        await made.inbox.take(ConnectionUp)
        await made.inbox.take(WaitingDelivered)
        port.listen(["succeeded.*.a"], lambda: bound.append("heard"))

        async def heard() -> None:
            assert bound == ["heard"]

        await eventually_async(heard, timeout_s=10)
        port.close()


@in_loop
async def test_all_cancels_are_known_before_a_worker_consumes_however_late_the_broker_answers(
    broker: TestBroker, queue_name: str
) -> None:
    async with Proxy(broker.url) as proxy, lab(broker.url) as made:
        await with_all(made)
        publisher = await made.publisher()
        job = seal(new_job(queue=queue_name, task="tasks:add"))
        cancel = events.Cancel(at=time.time(), jobs={job.job.id: 0}, reason="a mistake")
        assert await publisher.publish_confirmed(event_message(cancel)) == STORED
        connection = await made.connect(url=proxy.url)
        proxy.lanes["down"].delay_s = 0.5
        tombstones = Tombstones(connection, lambda _: None, lambda _: None)
        async with asyncio.timeout(30):
            await tombstones.read_all()
        note = tombstones.find(job)
        assert note is not None
        assert note.reason == "a mistake"
        tombstones.close()


@in_loop
async def test_the_ledger_is_read_to_where_it_ended_at_a_reconnect_and_no_further(
    broker: TestBroker, queue_name: str
) -> None:
    """What others tell comes by the ledger alone: on a busy broker it would come for ever."""
    others: list[bytes] = []
    async with Proxy(broker.url) as proxy, lab(broker.url) as made:
        await with_all(made)
        publisher = await made.publisher()

        async def tell() -> None:
            while True:
                event = events.Progress(at=time.time(), id="a" * 16, fraction=0.5)
                assert await publisher.publish_confirmed(event_message(event)) == STORED
                await asyncio.sleep(0.1)

        telling = asyncio.create_task(tell())
        connection = await made.connect(url=proxy.url)
        keys = [topology.event_key("succeeded", queue_name, "*")]
        subscription = Subscription(connection, keys, others.append, time.time())
        await subscription.open()
        assert not others
        proxy.cut()

        async def reads() -> None:
            assert others

        async def has_read() -> None:
            assert connection._amqp is not None
            assert len(connection._amqp._channels) == 1

        await eventually_async(reads)
        await eventually_async(has_read, timeout_s=30)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await subscription.close()


@in_loop
async def test_a_worker_hears_again_after_somebody_has_deleted_the_queue_of_its_ear(
    broker: TestBroker, make_vhost: Callable[..., str]
) -> None:
    url = make_vhost(quorum=True)
    vhost = parse_url(url).vhost
    heard: list[Request] = []
    async with lab(url) as made:
        connection = await with_all(made)
        port = ControlPort(connection, ["all"], heard.append)
        await port._inbound.ready
        names = (await asyncio.to_thread(broker.ctl, "list_queues", "-p", vhost, "name", "--quiet")).split()
        (queue,) = [name for name in names if name.startswith("amq.gen-")]
        await declare.delete_queue(connection, queue)
        publisher = await made.publisher()

        async def hears() -> None:
            await publisher.publish_confirmed(request_message("all", Request(verb="ping", nonce="n", at=time.time())))
            assert heard

        await eventually_async(hears, timeout_s=20)
        port.close()


@in_loop
async def test_a_client_hears_again_after_somebody_has_deleted_its_queue_and_of_what_came_meanwhile(
    make_vhost: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "REOPEN_S", 0.1)
    heard: list[bytes] = []
    async with lab(make_vhost(quorum=True)) as made:
        connection = await with_all(made)
        publisher = await made.publisher()
        waiting = Subscription(connection, ["succeeded.*.*"], heard.append, time.time())
        await waiting.open()
        assert waiting._queue is not None
        await declare.delete_queue(connection, waiting._queue)
        ran = attempts.Run(worker="w", host="h", pid=1, started_at=1.0, ended_at=2.0)
        end = events.Succeeded(at=time.time(), id="a" * 16, result=msgspec.Raw(b"5"), ran=ran)
        assert isinstance(await publisher.publish_confirmed(event_message(end)), Stored)

        async def hears() -> None:
            assert heard

        await eventually_async(hears, timeout_s=20)
        assert connection.epoch == 1
        await waiting.close()


@in_loop
async def test_cancels_are_heard_of_after_somebody_has_deleted_their_stream(
    make_vhost: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tombstones, "AGAIN_S", 0.1)
    monkeypatch.setattr(tombstones, "REFUSED_S", 0.1)
    heard: list[str] = []
    async with lab(make_vhost(quorum=True)) as made:
        connection = await with_all(made)
        publisher = await made.publisher()

        async def cancel(reason: str) -> None:
            event = events.Cancel(at=time.time(), jobs={"a" * 16: 0}, reason=reason)
            assert await publisher.publish_confirmed(event_message(event)) == STORED

        known = Tombstones(connection, lambda event: heard.append(event.reason), lambda _: None)
        for number in range(3):
            await cancel(f"early {number}")
        await known.read_all()
        await declare.delete_queue(connection, topology.CANCELS)
        await declare.declare_startup(connection, publisher)
        await cancel("late")

        async def hears() -> None:
            assert heard == ["late"]

        await eventually_async(hears, timeout_s=20)
        assert connection.epoch == 1
        known.close()


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made again"])
@in_loop
async def test_a_worker_hears_again_after_somebody_has_deleted_the_exchange_of_its_ear(
    make_vhost: Callable[..., str], monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setattr(inbound, "BIND_AGAIN_S", 0.2)
    heard: list[Request] = []
    async with lab(make_vhost(quorum=True)) as made:
        connection = await with_all(made)
        port = ControlPort(connection, ["all"], heard.append)
        await port._inbound.ready
        await on_channel(connection, lambda channel, done: channel.exchange_delete(topology.CONTROL, callback=done))
        if again:
            await declare.declare(connection, topology.startup())
        publisher = await made.publisher()

        async def hears() -> None:
            await publisher.publish_confirmed(request_message("all", Request(verb="ping", nonce="n", at=time.time())))
            assert heard

        await eventually_async(hears, timeout_s=20)
        assert connection.epoch == 1
        port.close()


@pytest.mark.parametrize("is_attached", [False, True])
@in_loop
async def test_the_silence_of_a_broker_that_stands_still_is_not_the_end_of_the_ledger(
    broker: TestBroker, monkeypatch: pytest.MonkeyPatch, *, is_attached: bool
) -> None:
    """A job whose other has ended would wait for ever: nobody would look for that end again."""
    monkeypatch.setattr(catchup, "SILENT_S", 0.2)
    monkeypatch.setattr(catchup, "LINGER_S", 0.2)
    async with Proxy(broker.url) as proxy, lab(broker.url) as made:
        await with_all(made)
        publisher = await made.publisher()
        since_s, job_id = time.time(), new_id()
        expired = event_message(events.Expired(at=since_s, id=job_id, expires_at=since_s))
        assert await publisher.publish_confirmed(expired) == STORED
        connection = await made.connect(url=proxy.url)
        found: list[str] = []
        reached: list[bool] = []
        ends: list[bool] = []

        def stalled(consume: Callable[[Any], None]) -> Callable[[Any], None]:
            def then(channel: Any) -> None:
                consume(channel)
                proxy.stall("down")

            return then

        async def ended() -> None:
            assert ends

        async def silence_is_over() -> None:
            assert ends or (read._timer is not None and read._timer.when() < asyncio.get_running_loop().time())

        def begun(begin: Callable[[], None]) -> Callable[[], None]:
            def then() -> None:
                begin()
                if not is_attached:
                    proxy.stall("down")

            return then

        def note(record: Record) -> None:
            found.append(record.key.rpartition(".")[2])

        read = CatchUp(connection, since_s, note, lambda: reached.append(job_id in found), ends.append)
        read._begin = begun(read._begin)  # type: ignore[method-assign]
        read._reader._consume = stalled(read._reader._consume)  # type: ignore[method-assign]
        read.start()
        await eventually_async(silence_is_over)
        proxy.flow()
        await eventually_async(ended)
        assert ends == [is_attached]
        assert reached == [True] * is_attached
