import asyncio
import time

import pytest

from jobrunner.broker import declare, topology
from jobrunner.broker.connection import ConnectionBlocked, ConnectionDown, ConnectionUnblocked, ConnectionUp
from jobrunner.broker.message import MAX_HEADER_BYTES
from jobrunner.broker.publisher import (
    STORED,
    Message,
    Publisher,
    Refused,
    Returned,
    Stored,
    Unknown,
    event_message,
    job_message,
)
from jobrunner.events import Expired
from tests.broker.lab import Answers, a_job, delete, in_loop, lab, on_channel, to_queue
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_async, eventually_is
from tests.support.proxy import Proxy


@in_loop
async def test_a_thousand_publishes_are_confirmed_within_a_window_and_arrive_in_order(
    broker: TestBroker, queue_name: str
) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher(window=50)
        jobs = [a_job(queue_name) for _ in range(1000)]
        assert await publisher.publish_confirmed(to_queue(jobs[0])) == STORED  # so that the channel is open
        answers = Answers(publisher)
        for job in jobs[1:]:
            answers.publish(to_queue(job))
        assert publisher._jobs.in_flight == 50
        assert publisher.in_flight == 999
        assert await answers.all() == [STORED] * 999
        assert publisher.in_flight == 0
        await eventually_is(lambda: declare.queue_depth(publisher.connection, queue_name), (1000, 0))
        consumer = await made.consumer(queue_name)
        for job in jobs[:20]:
            delivery = await made.inbox.delivery()
            assert delivery.message_id == job.job.id
            consumer.ack(delivery)


@in_loop
async def test_a_missing_queue_is_returned_by_the_default_exchange(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url) as made:
        publisher = await made.publisher()
        answer = await publisher.publish_confirmed(to_queue(a_job(queue_name)))
        assert answer == Returned("NO_ROUTE", 312)


@in_loop
async def test_only_the_unroutable_one_of_many_is_returned(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        answers = Answers(await made.publisher())
        for number in range(100):
            answers.publish(to_queue(a_job(f"{queue_name}-missing" if number == 40 else queue_name)))
        found = await answers.all()
        assert found[40] == Returned("NO_ROUTE", 312)
        assert found.count(STORED) == 99


@in_loop
async def test_a_missing_queue_behind_the_jobs_exchange_lands_in_unrouted(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url) as made:
        publisher = await made.publisher()
        await declare.declare_startup(publisher.connection, publisher)
        job = a_job(queue_name)
        assert await publisher.publish_confirmed(job_message(job, *topology.route(0, queue_name))) == STORED
        await made.take_unrouted(job.job.id)


@in_loop
async def test_a_full_queue_refuses_and_takes_again_when_there_is_room(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url) as made:
        publisher = await made.publisher()
        arguments = {"x-queue-type": "quorum", "x-max-length": 5, "x-overflow": "reject-publish"}
        await declare.declare(publisher.connection, [topology.Queue(queue_name, arguments)])

        async def refused() -> None:
            answer = await publisher.publish_confirmed(to_queue(a_job(queue_name)))
            assert answer == Refused("the queue is full or down")

        # a quorum queue notices its limit a little late
        await eventually_async(refused)
        consumer = await made.consumer(queue_name)
        for _ in range(5):
            consumer.ack(await made.inbox.delivery())

        async def stored() -> None:
            assert await publisher.publish_confirmed(to_queue(a_job(queue_name))) == STORED

        await eventually_async(stored)
        await delete(made, queue_name)


@in_loop
async def test_a_queue_whose_limit_was_removed_while_it_was_full_takes_messages_again(
    broker: TestBroker, queue_name: str
) -> None:
    policy = ("-p", broker.parsed.vhost, f"limit-{queue_name}")
    limit = '{"max-length":3,"overflow":"reject-publish"}'
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await asyncio.to_thread(broker.ctl, "set_policy", "--priority", "50", *policy, f"^{queue_name}$", limit)

        async def refused() -> None:
            answers = Answers(publisher)
            for _ in range(8):
                answers.publish(to_queue(a_job(queue_name)))
            assert Refused("the queue is full or down") in await answers.all()

        await eventually_async(refused)
        await asyncio.to_thread(broker.ctl, "clear_policy", *policy)

        async def stored() -> None:
            assert await publisher.publish_confirmed(to_queue(a_job(queue_name))) == STORED

        await eventually_async(stored)
        assert publisher.connection.epoch == 1


TOO_LARGE = b"x" * (8 * 1024 * 1024 + 1)


@in_loop
async def test_a_body_over_the_brokers_limit_is_refused_and_the_next_one_stored(
    broker: TestBroker, queue_name: str
) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        answer = await publisher.publish_confirmed(Message("", queue_name, TOO_LARGE, "large", "x"))
        assert isinstance(answer, Refused)
        assert answer.code == 406
        assert "larger than" in answer.reason or "max size" in answer.reason
        assert await publisher.publish_confirmed(to_queue(a_job(queue_name))) == STORED


@in_loop
async def test_a_closed_channel_leaves_the_others_on_it_unknown_but_not_the_events(
    broker: TestBroker, queue_name: str
) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await declare.declare_startup(publisher.connection, publisher)
        answers, events = Answers(publisher), Answers(publisher)
        for number in range(3):
            answers.publish(to_queue(a_job(queue_name)))
            events.publish(event_message(Expired(at=1.0, id=f"{queue_name}-{number}", expires_at=1.0)))
        answers.publish(Message("no-such-exchange", "x", b"", "culprit", "x"))
        found = await answers.all()
        assert isinstance(found[3], Unknown)
        assert found[3].code == 404
        assert all(isinstance(answer, Stored | Unknown) for answer in found)
        assert await events.all() == [STORED] * 3
        alone = await publisher.publish_confirmed(Message("no-such-exchange", "x", b"", "culprit", "x"))
        assert isinstance(alone, Refused)
        assert alone.code == 404


@in_loop
async def test_what_cannot_be_encoded_is_refused_without_harm(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        for message in (
            Message("", "k" * 256, b"", "a", "x"),
            Message("", queue_name, b"", "a", "x", headers={"jr-error": "x" * MAX_HEADER_BYTES}),
            Message("", queue_name, b"", "a", "x", headers={"jr-copy": 2**70}),
            Message("", queue_name, b"", "\ud800", "x"),
        ):
            answer = await publisher.publish_confirmed(message)
            assert isinstance(answer, Refused)
            assert answer.reason.startswith("it cannot be sent: ")
        assert await publisher.publish_confirmed(to_queue(a_job(queue_name))) == STORED


@in_loop
async def test_without_an_answer_the_connection_is_given_up_and_all_is_unknown(
    broker: TestBroker, queue_name: str
) -> None:
    async with lab(broker.url, queue_name) as made, Proxy(broker.url) as proxy:
        publisher = await made.publisher(url=proxy.url, confirm_timeout_s=0.5)
        assert await publisher.publish_confirmed(to_queue(a_job(queue_name))) == STORED
        proxy.stall("down")
        answers = Answers(publisher)
        began = time.monotonic()
        for _ in range(3):
            answers.publish(to_queue(a_job(queue_name)))
        found = await answers.all()
        assert 0.5 <= time.monotonic() - began < 15
        assert (
            found
            == [Unknown("The connection to the broker at " + f"127.0.0.1:{proxy.port} ended: no confirm within 0.5 s.")]
            * 3
        )
        down = await made.inbox.take(ConnectionDown)
        assert down.retry_in_s is not None
        # it was stored: only the answer was lost, which is why the same ids are used again
        connection = await made.connect()
        await eventually_is(lambda: declare.queue_depth(connection, queue_name), (4, 0))


@pytest.mark.parametrize("reset", [False, True])
@in_loop
async def test_a_cut_in_mid_publish_is_unknown_and_a_second_try_is_stored(
    broker: TestBroker, queue_name: str, *, reset: bool
) -> None:
    async with lab(broker.url, queue_name) as made, Proxy(broker.url) as proxy:
        publisher = await made.publisher(url=proxy.url)
        publisher.connection.start()
        message = to_queue(a_job(queue_name))
        assert await publisher.publish_confirmed(message) == STORED
        made.inbox.seen.clear()
        proxy.cut_after("up", 40, reset=reset)
        first = await publisher.publish_confirmed(message)
        assert isinstance(first, Unknown)
        assert isinstance(await publisher.publish_confirmed(message), Unknown)  # at once, without a connection
        assert (await made.inbox.take(ConnectionUp)).epoch == 2
        assert await publisher.publish_confirmed(message) == STORED
        await eventually_is(lambda: declare.queue_depth(publisher.connection, queue_name), (2, 0))


@in_loop
async def test_a_publish_while_the_channels_open_waits_for_them(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made, Proxy(broker.url) as proxy:
        connection = await made.connect(url=proxy.url)
        proxy.stall("down")
        publisher = Publisher(connection)
        answers = Answers(publisher)
        answers.publish(to_queue(a_job(queue_name)))
        await asyncio.sleep(0.05)
        assert answers.by_number == {}
        proxy.flow()
        assert await answers.all() == [STORED]
        publisher.close()


@in_loop
async def test_a_queue_deleted_while_publishing_answers_every_publish(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        admin = await made.connect()
        publisher = await made.publisher()
        answers = Answers(publisher)
        for _ in range(200):
            answers.publish(to_queue(a_job(queue_name)))
        await on_channel(admin, lambda channel, done: channel.queue_delete(queue_name, callback=done))
        for _ in range(50):
            answers.publish(to_queue(a_job(queue_name)))
        # RabbitMQ 3.10 may even end the connection over it (541); no publish stays without an answer
        assert len(await answers.all()) == 250

        async def returned() -> None:
            answer = await publisher.publish_confirmed(to_queue(a_job(queue_name)))
            assert isinstance(answer, Returned)

        await eventually_async(returned)


@in_loop
async def test_an_alarm_is_announced_stops_the_deadlines_and_ends(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher(confirm_timeout_s=1.0)
        consuming = await made.connect("consume")
        consumer = await made.consumer(queue_name, connection=consuming)
        assert await publisher.publish_confirmed(to_queue(a_job(queue_name))) == STORED
        delivery = await made.inbox.delivery()
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0")
        try:
            answers = Answers(publisher)
            for _ in range(3):
                answers.publish(to_queue(a_job(queue_name)))
            blocked = await made.inbox.take(ConnectionBlocked)
            assert (blocked.role, publisher.connection.blocked) == ("publish", blocked.reason)
            assert "memory" in blocked.reason
            # acks of the other connection are still read, which is why there are two
            assert consumer.ack(delivery)
            await asyncio.sleep(1.5)  # longer than the deadline, which does not run
            assert publisher.connection.is_open
            assert len(answers.by_number) < 3
        finally:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
        await made.inbox.take(ConnectionUnblocked)
        assert await answers.all() == [STORED] * 3
        assert publisher.connection.blocked is None


@in_loop
async def test_a_blocked_connection_closes_at_once(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0")
        try:
            answers = Answers(publisher)
            answers.publish(to_queue(a_job(queue_name)))
            answers.publish(to_queue(a_job(queue_name)))
            await made.inbox.take(ConnectionBlocked)
            began = time.monotonic()
            await publisher.connection.close(timeout_s=30)
            assert time.monotonic() - began < 15
            assert len(await answers.all()) == 2
        finally:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
