import asyncio
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pika import spec

from jobrunner.broker import declare, unavailable
from jobrunner.broker.amqp import UNREADABLE
from jobrunner.broker.connection import ConnectionDown, ConnectionUp
from jobrunner.broker.consumer import ConsumerLost, ConsumerReady, Delivered, SlotConsumer
from jobrunner.broker.delivery import QueueUnavailable
from jobrunner.broker.publisher import STORED, Message, Publisher
from tests.broker.lab import Lab, a_job, delete, in_loop, lab, on_channel, to_queue
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_async


async def put(publisher: Publisher, queue: str, count: int = 1) -> list[str]:
    """Jobs in a queue; their ids."""
    jobs = [a_job(queue) for _ in range(count)]
    for job in jobs:
        assert await publisher.publish_confirmed(to_queue(job)) == STORED
    return [job.job.id for job in jobs]


async def is_empty(made: Lab, queue: str) -> None:
    """Once no consumer is left, what it had not acked is ready again: nothing ready means that all was acked."""
    admin = await made.connect("admin")

    async def unconsumed() -> None:
        depth = await declare.queue_depth(admin, queue)
        assert depth is not None
        assert depth[1] == 0

    await eventually_async(unconsumed)
    assert await declare.queue_depth(admin, queue) == (0, 0)


@in_loop
async def test_a_slot_gets_one_job_at_a_time(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        ids = await put(publisher, queue_name, 3)
        consumer = await made.consumer(queue_name)
        for number, job_id in enumerate(ids):
            delivery = await made.inbox.delivery()
            assert (delivery.message_id, delivery.tag, delivery.queue) == (job_id, number + 1, queue_name)
            assert (delivery.redelivered, delivery.delivery_count, delivery.priority) == (False, None, 4)
            assert delivery.is_current
            assert delivery.stamped
            await _has(publisher, queue_name, 2 - number, 1)
            assert not made.inbox.holds(Delivered)
            assert consumer.ack(delivery)
        await consumer.close()
        await is_empty(made, queue_name)


@in_loop
async def test_the_spare_gets_several_and_each_is_settled_for_itself(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        ids = await put(publisher, queue_name, 4)
        spare = await made.consumer(queue_name, prefetch=3)
        first, second, third = [await made.inbox.delivery() for _ in range(3)]
        assert [one.message_id for one in (first, second, third)] == ids[:3]
        assert not made.inbox.holds(Delivered)
        assert spare.ack(third)
        assert (await made.inbox.delivery()).message_id == ids[3]
        await spare.pause()
        assert spare.nack(first)
        assert spare.nack(second)
        spare.resume()
        again = [await made.inbox.delivery() for _ in range(2)]
        assert {one.message_id for one in again} == set(ids[:2])
        assert all(one.redelivered for one in again)


@in_loop
async def test_a_job_settled_twice_is_settled_once_and_the_channel_lives(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await put(publisher, queue_name, 2)
        consumer = await made.consumer(queue_name)
        first = await made.inbox.delivery()
        assert consumer.ack(first)
        assert not consumer.ack(first)
        assert not consumer.nack(first)
        assert consumer.stale_acks == 2
        assert consumer.ack(await made.inbox.delivery())
        assert not made.inbox.holds(ConsumerLost)


@in_loop
async def test_an_ack_from_an_earlier_connection_is_dropped(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        publisher.connection.start()
        first_id, second_id = await put(publisher, queue_name, 2)
        consumer = await made.consumer(queue_name)
        old = await made.inbox.delivery()
        made.inbox.seen.clear()
        await asyncio.to_thread(broker.ctl, "close_all_connections", "-p", broker.parsed.vhost, "by a test")
        assert "by a test (320)" in (await made.inbox.take(ConnectionDown)).error.message
        again = await made.inbox.delivery()
        assert (old.message_id, again.message_id, again.epoch) == (first_id, first_id, 2)
        assert again.redelivered
        assert again.delivery_count == 1
        assert not old.is_current
        # the same tag belongs to another delivery now: sent, this ack would settle that one
        assert old.tag == again.tag
        assert not consumer.ack(old)
        assert consumer.stale_acks == 1
        assert again.is_current
        assert consumer.nack(again)
        seen = {(await made.inbox.delivery()).message_id}
        assert seen <= {first_id, second_id}


@in_loop
async def test_a_job_handed_back_comes_again_and_is_counted(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        (job_id,) = await put(publisher, queue_name)
        consumer = await made.consumer(queue_name)
        counts = []
        for _ in range(3):
            delivery = await made.inbox.delivery()
            assert delivery.message_id == job_id
            counts.append(delivery.delivery_count)
            consumer.nack(delivery)
        consumer.ack(await made.inbox.delivery())
        assert counts[0] is None
        assert counts[1:] == [1, 2]


@in_loop
async def test_a_count_that_a_producer_wrote_is_not_believed(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        forged = Message("", queue_name, b"x", "forged", "x", headers={"x-delivery-count": 99})
        assert await publisher.publish_confirmed(forged) == STORED
        consumer = await made.consumer(queue_name)
        first = await made.inbox.delivery()
        assert first.delivery_count is None
        consumer.nack(first)
        second = await made.inbox.delivery()
        assert second.delivery_count == 1
        consumer.ack(second)


@in_loop
async def test_pause_hands_back_what_crosses_it_and_resume_gets_it_again(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        consumer = await made.consumer(queue_name)
        for _ in range(20):
            # publish and pause race: the job is either delivered before, or crosses the cancel and goes back
            sending = asyncio.create_task(put(publisher, queue_name))
            await asyncio.sleep(0)
            pausing = asyncio.create_task(consumer.pause())
            (job_id,) = await sending
            await pausing
            seen = len(made.inbox.seen)
            await asyncio.sleep(0.005)
            assert len(made.inbox.seen) == seen
            consumer.resume()
            delivery = await made.inbox.delivery()
            assert delivery.message_id == job_id
            consumer.ack(delivery)
            assert not made.inbox.holds(Delivered)
        assert consumer.stale_acks == 0
        await consumer.close()
        await is_empty(made, queue_name)


@in_loop
async def test_a_delivery_that_crosses_the_cancel_is_nacked_not_rejected(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        consumer = await made.consumer(queue_name)
        sent: list[str] = []
        channel: Any = consumer._channel
        original = channel._send_method
        channel._send_method = lambda method, content=None: (sent.append(method.NAME), original(method, content))[1]
        # the broker delivers before it reads the cancel, which waits in this loop until the delivery is in the socket
        (job_id,) = await put_without_reading(publisher, queue_name, consumer)
        assert "Basic.Nack" in sent
        assert "Basic.Reject" not in sent
        assert not made.inbox.holds(Delivered)
        consumer.resume()
        delivery = await made.inbox.delivery()
        assert (delivery.message_id, delivery.redelivered) == (job_id, True)
        consumer.ack(delivery)


async def put_without_reading(publisher: Publisher, queue: str, consumer: SlotConsumer) -> list[str]:
    """Publish while the consumer's socket is not read, then pause: so the delivery crosses the cancel for certain."""
    transport: Any = consumer._connection._amqp._transport  # type: ignore[union-attr]
    loop = asyncio.get_running_loop()
    loop.remove_reader(transport._sock.fileno())
    ids = await put(publisher, queue)

    async def delivered() -> None:
        assert await declare.queue_depth(publisher.connection, queue) == (0, 1)

    await eventually_async(delivered)
    pausing = loop.create_task(consumer.pause())
    await asyncio.sleep(0)
    loop.add_reader(transport._sock.fileno(), transport._on_socket_readable)
    await pausing
    return ids


@in_loop
async def test_a_paused_slot_stays_paused_through_a_reconnect(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        consumer = await made.consumer(queue_name)
        await consumer.pause()
        made.inbox.seen.clear()
        consumer._connection.abort("test")
        await made.inbox.take(ConnectionUp)
        await put(publisher, queue_name)
        await asyncio.sleep(0.2)
        assert not made.inbox.holds(Delivered)
        consumer.resume()
        consumer.ack(await made.inbox.delivery())


@in_loop
async def test_a_deleted_queue_is_created_again_and_consumed(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await put(publisher, queue_name)
        consumer = await made.consumer(queue_name)
        running = await made.inbox.delivery()
        await delete(made, queue_name)
        lost = await made.inbox.take(ConsumerLost)
        assert lost == ConsumerLost(0, queue_name, None, missing=False)
        missing = await made.inbox.take(ConsumerLost)
        assert missing.missing
        assert missing.queue == queue_name
        await made.inbox.take(ConsumerReady)
        assert not running.is_current
        assert not consumer.ack(running)
        (job_id,) = await put(publisher, queue_name)
        delivery = await made.inbox.delivery()
        assert delivery.message_id == job_id
        consumer.ack(delivery)


@in_loop
async def test_a_queue_that_was_never_there_is_created_at_once(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url) as made:
        consumer = await made.consumer(f"{queue_name}.with a 'quote", ready=False)
        lost = await made.inbox.take(ConsumerLost)
        assert (lost.missing, lost.queue) == (True, f"{queue_name}.with a 'quote")
        await made.inbox.take(ConsumerReady, 2)
        await consumer.close()
        await delete(made, f"{queue_name}.with a 'quote")


@in_loop
async def test_an_error_on_one_slots_channel_leaves_the_other_slots_alone(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await put(publisher, queue_name, 2)
        connection = await made.connect("consume")
        slots = [await made.consumer(queue_name, slot=slot, connection=connection) for slot in range(2)]
        deliveries = {delivery.slot: delivery for delivery in [await made.inbox.delivery() for _ in range(2)]}
        assert set(deliveries) == {0, 1}
        broken: Any = deliveries[0].channel
        broken.basic_ack(999)
        lost = await made.inbox.take(ConsumerLost)
        assert lost.slot == 0
        assert lost.error is not None
        assert "unknown delivery tag 999" in lost.error.message
        assert deliveries[1].is_current
        assert not deliveries[0].is_current
        again = await made.inbox.delivery()
        assert (again.slot, again.message_id, again.redelivered) == (0, deliveries[0].message_id, True)
        assert slots[1].ack(deliveries[1])
        assert slots[0].ack(again)
        assert connection.epoch == 1


@in_loop
async def test_closing_waits_until_the_broker_has_seen_the_acks(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await put(publisher, queue_name, 50)
        connection = await made.connect("consume")
        consumer = await made.consumer(queue_name, connection=connection)
        for _ in range(50):
            consumer.ack(await made.inbox.delivery())
        await consumer.close()
        connection.abort("as if killed")
        await is_empty(made, queue_name)


# --- several queues -------------------------------------------------------------------------------------------------


@in_loop
async def test_of_several_queues_the_first_that_has_a_job_goes_first(broker: TestBroker, queue_name: str) -> None:
    high, low = f"{queue_name}.high", f"{queue_name}.low"
    async with lab(broker.url, high, low) as made:
        publisher = await made.publisher()
        await put(publisher, low, 3)
        await put(publisher, high, 2)
        consumer = await made.consumer(high, low)
        order = []
        for number in range(6):
            delivery = await made.inbox.delivery()
            order.append(delivery.queue)
            # a message of the other queue was not even fetched: handing it back would count against it
            assert not delivery.redelivered
            if number == 3:
                await put(publisher, high)
            assert not made.inbox.holds(Delivered)
            assert consumer.ack(delivery)
        assert order == [high, high, low, low, high, low]
        # idle now, it waits on both
        for queue in (low, high, low):
            (job_id,) = await put(publisher, queue)
            delivery = await made.inbox.delivery()
            assert (delivery.queue, delivery.message_id) == (queue, job_id)
            consumer.ack(delivery)
        await consumer.close()
        await is_empty(made, high)
        await is_empty(made, low)


@in_loop
async def test_an_idle_slot_takes_one_of_two_jobs_that_come_together(broker: TestBroker, queue_name: str) -> None:
    high, low = f"{queue_name}.high", f"{queue_name}.low"
    async with lab(broker.url, high, low) as made:
        publisher = await made.publisher()
        consumer = await made.consumer(high, low)
        for _ in range(10):
            sent = await asyncio.gather(put(publisher, high), put(publisher, low))
            ids = {job_id for ids in sent for job_id in ids}
            first = await made.inbox.delivery()
            await asyncio.sleep(0.02)
            assert not made.inbox.holds(Delivered)
            consumer.ack(first)
            second = await made.inbox.delivery()
            assert {first.message_id, second.message_id} == ids
            consumer.ack(second)


@in_loop
async def test_a_slot_of_several_queues_can_pause_at_any_moment(broker: TestBroker, queue_name: str) -> None:
    high, low = f"{queue_name}.high", f"{queue_name}.low"
    async with lab(broker.url, high, low) as made:
        publisher = await made.publisher()
        await put(publisher, low, 40)
        consumer = await made.consumer(high, low)
        taken = 0
        for turn in range(40):
            if made.inbox.holds(Delivered):
                consumer.ack(await made.inbox.delivery())
                taken += 1
            await asyncio.sleep(0.001 * (turn % 4))
            await consumer.pause()
            before = len(made.inbox.seen)
            await asyncio.sleep(0.005)
            assert len(made.inbox.seen) == before
            consumer.resume()
        while taken < 40:
            consumer.ack(await made.inbox.delivery())
            taken += 1
        await consumer.close()
        await is_empty(made, low)


@in_loop
async def test_one_queue_can_be_left_out_and_taken_in_again(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        first_id, second_id = await put(publisher, queue_name, 2)
        consumer = await made.consumer(queue_name)
        first = await made.inbox.delivery()
        consumer.listen(())
        await consumer.pause()
        consumer.resume()
        assert consumer.ack(first)
        await _has(publisher, queue_name, 1, 0)  # a quorum queue counts a cancelled consumer until it has settled
        assert not made.inbox.holds(Delivered)
        consumer.listen((queue_name,))
        second = await made.inbox.delivery()
        assert [first.message_id, second.message_id] == [first_id, second_id]
        assert consumer.ack(second)
        assert second.delivery_count in (None, 0)


@in_loop
async def test_of_several_queues_any_can_be_left_out_at_any_moment(broker: TestBroker, queue_name: str) -> None:
    high, low = f"{queue_name}.high", f"{queue_name}.low"
    async with lab(broker.url, high, low) as made:
        publisher = await made.publisher()
        await put(publisher, high, 20)
        await put(publisher, low, 20)
        consumer = await made.consumer(high, low)
        taken: list[str] = []
        for turn in range(40):
            consumer.listen([(high, low), (low,), (), (high,)][turn % 4])
            await asyncio.sleep(0.001 * (turn % 5))
            if made.inbox.holds(Delivered):
                delivery = await made.inbox.delivery()
                taken.append(delivery.queue)
                consumer.ack(delivery)
        consumer.listen((low,))
        while taken.count(low) < 20:
            delivery = await made.inbox.delivery()
            taken.append(delivery.queue)
            consumer.ack(delivery)
        consumer.listen((high, low))
        while len(taken) < 40:
            delivery = await made.inbox.delivery()
            taken.append(delivery.queue)
            consumer.ack(delivery)
        assert (taken.count(high), taken.count(low)) == (20, 20)
        await consumer.close()
        await is_empty(made, high)
        await is_empty(made, low)


async def _has(publisher: Publisher, queue: str, ready: int, consumers: int) -> None:
    async def there() -> None:
        assert await declare.queue_depth(publisher.connection, queue) == (ready, consumers)

    await eventually_async(there)


@in_loop
async def test_a_missing_queue_among_several_is_created(broker: TestBroker, queue_name: str) -> None:
    high, low = f"{queue_name}.high", f"{queue_name}.low"
    async with lab(broker.url, low) as made:
        publisher = await made.publisher()
        consumer = await made.consumer(high, low)
        assert (await made.inbox.take(ConsumerLost)).queue == high
        for queue in (high, low):
            await put(publisher, queue)
            consumer.ack(await made.inbox.delivery())
        await delete(made, high)
        await made.inbox.take(ConsumerLost)
        await made.inbox.take(ConsumerReady)
        await put(publisher, high)
        consumer.ack(await made.inbox.delivery())
        await delete(made, high)


# --- hostile properties ---------------------------------------------------------------------------------------------


class RawProperties(spec.BasicProperties):
    """Properties whose header table is given as bytes."""

    def __init__(self, table: bytes) -> None:
        super().__init__()
        self.table = table

    def encode(self) -> list[bytes]:
        return [struct.pack(">HI", spec.BasicProperties.FLAG_HEADERS, len(self.table)), self.table]


def break_queue(broker: TestBroker, queue: str) -> None:
    """Its process in the broker is gone, as after a restart for which it was not on disk yet."""
    broker.ctl("eval", f'ra:stop_server(quorum_queues, {{list_to_atom("jobrunner_{queue}"), node()}}).')


def mend_queue(broker: TestBroker, queue: str) -> None:
    broker.ctl("eval", f'ra:restart_server(quorum_queues, {{list_to_atom("jobrunner_{queue}"), node()}}).')


@pytest.mark.parametrize("queues", [("broken", "good"), ("broken",)])
@in_loop
async def test_a_queue_that_the_broker_cannot_serve_is_left_out_and_taken_in_again(
    broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch, queues: tuple[str, ...]
) -> None:
    monkeypatch.setattr(unavailable, "FIRST_S", 3.0)
    broken, *good = [f"{queue_name}-{word}" for word in queues]
    async with lab(broker.url, broken, *good) as made:
        publisher = await made.publisher()
        await put(publisher, broken)
        await asyncio.to_thread(break_queue, broker, broken)
        connection = await made.connect("consume")
        connection.start()
        slots = [await made.consumer(*good, broken, slot=slot, connection=connection, ready=False) for slot in range(2)]
        found = await made.inbox.take(QueueUnavailable, 60)
        assert (found.queue, found.wait_s) == (broken, 3.0)
        for queue in good:
            # all on one connection, which lives: none of them comes twice
            ids = set(await put(publisher, queue, 5))
            epochs = set()
            while ids:
                delivery = await made.inbox.delivery()
                ids.remove(str(delivery.message_id))
                epochs.add(delivery.epoch)
                slots[delivery.slot].ack(delivery)
            assert len(epochs) == 1
        await asyncio.to_thread(mend_queue, broker, broken)
        delivery = await made.inbox.delivery(90)
        assert delivery.queue == broken
        slots[delivery.slot].ack(delivery)


def nested(depth: int) -> bytes:
    """Tables within tables."""
    table = b""
    for _ in range(depth):
        table = b"\x01xF" + struct.pack(">I", len(table)) + table
    return table


# floats that are no numbers are refused by the broker itself, which cannot hold them
HOSTILE = {"a date in the year 35 million": b"\x01xT" + struct.pack(">Q", 2**50), "a deep nest": nested(2000)}


@pytest.fixture
def as_a_worker_starts() -> Iterator[None]:
    """The recursion limit of a fresh interpreter: hypothesis raises it for the whole run."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("as_a_worker_starts")
@pytest.mark.parametrize("table", HOSTILE.values(), ids=list(HOSTILE))
@in_loop
async def test_properties_that_pika_cannot_read_mark_one_message_and_end_no_connection(
    broker: TestBroker, queue_name: str, table: bytes
) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await put(publisher, queue_name)
        channel: Any = publisher._jobs._channel
        channel.basic_publish("", queue_name, b"hello", RawProperties(table))
        (job_id,) = await put(publisher, queue_name)
        consumer = await made.consumer(queue_name)
        found = []
        while not found or found[-1].message_id != job_id:
            found.append(await made.inbox.delivery())
            consumer.ack(found[-1])
        hostile = [delivery for delivery in found if delivery.message_id is None]
        assert [(each.body, each.content_encoding) for each in hostile] == [(b"hello", UNREADABLE)]
        assert not made.inbox.holds(ConnectionDown)


@in_loop
async def test_strange_but_readable_properties_are_passed_on_as_text(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        admin = await made.connect()
        properties = spec.BasicProperties(
            message_id=b"\xff\xfe",
            type="x",
            content_encoding="gzip",
            headers={"deep": {"er": [1, {"x": None}]}},  # type: ignore[arg-type]
        )

        def send(channel: Any, done: Any) -> None:
            channel.basic_publish("", queue_name, b"", properties)
            channel.queue_declare(queue_name, passive=True, callback=done)

        await on_channel(admin, send)
        consumer = await made.consumer(queue_name)
        delivery = await made.inbox.delivery()
        assert delivery.message_id == "\ufffd\ufffd"
        assert (delivery.content_encoding, delivery.body) == ("gzip", b"")
        assert delivery.headers["deep"] == {"er": [1, {"x": None}]}
        assert "body" not in repr(delivery)
        consumer.ack(delivery)
