import asyncio
import random
import time

from jobrunner.broker import places
from jobrunner.broker.publisher import STORED
from jobrunner.envelope import Envelope, state_of
from jobrunner.worker import admission
from tests.broker.lab import Answers, a_job, delayed, in_loop, lab
from tests.support.broker import TestBroker

LATE_S = 3.0
CLOCK_S = 0.002
"""The broker counts whole milliseconds of its own clock."""


@in_loop
async def test_delayed_jobs_come_in_time_and_never_early(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await places.ensure_ladder(publisher.connection, queue_name)
        consumer = await made.consumer(queue_name)
        due: dict[str, tuple[float, float]] = {}
        for delay_s in (0.1, 0.3, 1.7, 3.1, 12.7):
            job = a_job(queue_name).with_state(not_before_ms=round((time.time() + delay_s) * 1000))
            due[job.job.id] = (delay_s, time.monotonic() + delay_s)
            assert await publisher.publish_confirmed(delayed(job, delay_s)) == STORED
        late = {}
        while due:
            delivery = await made.inbox.delivery()
            arrived = time.monotonic()
            delay_s, due_at = due.pop(str(delivery.message_id))
            late[delay_s] = arrived - due_at
            # a worker whose clock is an hour behind does not wait for that hour
            an_hour_ago = time.time() - 3600
            envelope = Envelope(
                job=a_job(queue_name).job, state=state_of(dict(delivery.headers)), priority=0, body=delivery.body
            )
            assert envelope.state.not_before_ms / 1000 > an_hour_ago + 3500
            assert admission._early_s(envelope, delivery, an_hour_ago) == 0
            consumer.ack(delivery)
        assert all(-CLOCK_S <= late_s < LATE_S for late_s in late.values()), late


@in_loop
async def test_a_job_retried_through_the_same_levels_again_and_again_arrives_each_time(
    broker: TestBroker, queue_name: str
) -> None:
    # 1.6 s is level 4 alone; 4.8 s are levels 5 and 4: the case that a copied x-death header would stall for ever
    delays = [0.4, 0.4, 0.4, 0.4, 0.4, 1.6, 4.8]
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await places.ensure_ladder(publisher.connection, queue_name)
        consumer = await made.consumer(queue_name)
        envelope = a_job(queue_name)
        for attempt, delay_s in enumerate(delays, 1):
            envelope = envelope.with_state(attempt=attempt)
            began = time.monotonic()
            assert await publisher.publish_confirmed(delayed(envelope, delay_s)) == STORED
            delivery = await made.inbox.delivery()
            assert -CLOCK_S <= time.monotonic() - began - delay_s < LATE_S
            assert "x-death" in delivery.headers
            state = state_of(dict(delivery.headers))
            assert (state.attempt, state.copy) == (attempt, attempt)
            envelope = Envelope(job=envelope.job, state=state, priority=delivery.priority or 0, body=delivery.body)
            consumer.ack(delivery)


@in_loop
async def test_many_mixed_delays_all_arrive_and_none_early(broker: TestBroker, queue_name: str) -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    print("seed", seed)
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        await places.ensure_ladder(publisher.connection, queue_name)
        connection = await made.connect("consume")
        slots = [await made.consumer(queue_name, slot=slot, connection=connection) for slot in range(4)]
        answers = Answers(publisher)
        due: dict[str, float] = {}
        for _ in range(200):
            job = a_job(queue_name)
            delay_s = draw.randint(1, 50) / 10
            due[job.job.id] = time.monotonic() + delay_s
            answers.publish(delayed(job, delay_s))
        assert set(await answers.all()) == {STORED}
        late = []
        async with asyncio.timeout(60):
            while due:
                delivery = await made.inbox.delivery()
                late.append(time.monotonic() - due.pop(str(delivery.message_id)))
                slots[delivery.slot].ack(delivery)
        assert min(late) >= -CLOCK_S
        assert sorted(late)[int(len(late) * 0.99)] < 5
