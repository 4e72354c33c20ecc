"""Jobs that are delivered ahead: only while all are short, and nothing waits behind a long one."""

import asyncio
import time
from base64 import b64encode
from typing import Any

import msgspec

from jobrunner import attempts, events
from jobrunner.broker.connection import ConnectionBlocked
from jobrunner.broker.consumer import ConsumerLost, Delivered
from jobrunner.broker.groups import parts
from jobrunner.broker.publisher import Refused
from jobrunner.envelope import Envelope, new_job, seal
from jobrunner.execution.pool import Finished, SlotReady
from jobrunner.keyring import KeyRing, parse
from jobrunner.outcome import Interrupted, Succeeded
from jobrunner.registry import FunctionSpec
from jobrunner.worker import inbox
from jobrunner.worker.slots import BEHIND_S, LONG_S
from tests.support.edges import Bench, Standing

RAN = attempts.Run(worker="w1", host="h", pid=1, started_at=1.0, ended_at=2.0)
SPARE = 2
ENOUGH = 40
RING = KeyRing(parse(f"2026-11 hs256 {b64encode(bytes(range(32))).decode()}", "test"), "test")


def job() -> Envelope:
    return seal(new_job(queue="task_queue", task="tasks:add"))


class Ahead(Bench):
    """A worker with two processes, and ways to let jobs come and end."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for slot in range(2):
            self.worker.handle(SlotReady(slot=slot, functions=[FunctionSpec(name="tasks:add")]))
        self.publishes.answer()

    def deliver(self, slot: int, **facts: Any) -> Envelope:
        sealed = job()
        self.worker.handle(Delivered(delivery=self.delivery(sealed, slot, **facts)))
        return sealed

    def finish(self, sealed: Envelope, took_s: float = 0.001) -> None:
        child, run = next((child, run) for child, run in self.worker.slots.busy.items() if run.key == sealed.key)
        run.started = time.monotonic() - took_s  # however long this machine took since it was delivered
        self.worker.handle(Finished(slot=child, key=sealed.key, outcome=Succeeded(), ran=RAN, ready=True))

    def end(self, sealed: Envelope, took_s: float = 0.001) -> None:
        self.finish(sealed, took_s)
        self.publishes.answer()
        self.handle_all()

    def short_jobs(self, count: int = ENOUGH) -> None:
        for number in range(count):
            self.end(self.deliver(number % 2))

    def age(self, seconds: float) -> None:
        for run in self.worker.runs.values():
            run.started -= seconds
        self.worker.handle(inbox.Tick(0.0))

    async def paused(self) -> None:
        await asyncio.gather(*self.worker.slots._pausing.values())
        await asyncio.sleep(0)

    @property
    def consuming(self) -> set[int]:
        return self.worker.slots._started - self.worker.slots._quiet


def test_the_spare_consumes_once_jobs_have_been_short_for_a_while_and_a_long_one_ends_it() -> None:
    async def story() -> None:
        one = Ahead()
        one.end(one.deliver(0))
        assert one.consuming == {0, 1}
        one.short_jobs()
        assert one.wire.count(("start", SPARE)) == 1
        assert one.consuming == {0, 1, SPARE}
        one.end(one.deliver(0), took_s=LONG_S)
        await one.paused()
        assert one.wire[-1] == ("pause", SPARE)
        one.short_jobs()
        assert one.wire.count(("resume", SPARE)) == 1

    asyncio.run(story())


def test_jobs_of_some_milliseconds_more_end_it_by_and_by() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        for _ in range(ENOUGH):
            one.end(one.deliver(0), took_s=LONG_S / 2)
        await one.paused()
        assert one.consuming == {0, 1}

    asyncio.run(story())


def test_a_job_that_came_ahead_starts_when_a_process_is_free_though_the_result_before_it_is_not_confirmed() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        first, second = one.deliver(0), one.deliver(1)
        ahead = one.deliver(SPARE)
        assert [work.id for _, work in one.pool.started[-2:]] == [first.job.id, second.job.id]
        one.worker.handle(Finished(slot=1, key=second.key, outcome=Succeeded(), ran=RAN, ready=True))
        assert one.pool.started[-1][1].id == ahead.job.id
        assert one.wire[-1] != ("ack", one.tags - 1)
        one.publishes.answer()
        one.handle_all()
        assert one.wire[-1] == ("ack", one.tags - 1)

    asyncio.run(story())


def test_what_waits_behind_long_jobs_goes_back_to_its_queue_uncounted() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        one.deliver(0)
        one.deliver(1)
        waiting = [one.deliver(SPARE), one.deliver(SPARE)]
        one.age(LONG_S + 0.01)
        await one.paused()
        assert ("pause", SPARE) in one.wire
        assert not [entry for entry in one.wire if entry[0] == "nack"]
        one.age(BEHIND_S)
        await one.paused()
        assert one.wire[-2:] == [("nack", one.tags - 1), ("nack", one.tags)]
        assert not {sealed.key for sealed in waiting} & one.worker.runs.keys()
        assert one.worker.settler.handed_back == 2

    asyncio.run(story())


def test_while_long_jobs_that_came_ahead_run_no_channel_brings_more() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        ahead = [one.deliver(SPARE), one.deliver(SPARE)]
        assert len(one.worker.slots.busy) == 2
        one.age(LONG_S + 0.01)
        await one.paused()
        assert one.consuming == set()
        one.end(ahead[0], took_s=LONG_S)
        assert len(one.consuming) == 1
        one.end(ahead[1], took_s=LONG_S)
        assert one.consuming == {0, 1}

    asyncio.run(story())


def test_several_queues_have_no_spare_since_a_free_process_chooses_among_them() -> None:
    async def story() -> None:
        one = Ahead(queues=("high", "low"))
        one.short_jobs()
        assert one.consuming == {0, 1}

    asyncio.run(story())


def test_the_spares_channel_error_touches_only_its_own_jobs() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        channel = Standing()
        running, held = one.deliver(0), one.deliver(SPARE, channel=channel)
        one.deliver(1)
        lost = one.deliver(SPARE, channel=channel)
        channel.usable = False
        one.worker.handle(ConsumerLost(SPARE, "task_queue", None, missing=False))
        await one.paused()
        assert held.key in one.worker.runs
        assert lost.key not in one.worker.runs
        assert running.key in one.worker.runs

    asyncio.run(story())


def test_a_blocked_broker_and_a_stop_end_it_and_what_came_ahead_goes_back() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        one.worker.handle(ConnectionBlocked("publish", "disk alarm"))
        await one.paused()
        assert one.consuming == set()
        other = Ahead()
        other.short_jobs()
        running = [other.deliver(0), other.deliver(1)]
        other.deliver(SPARE)
        other.worker.handle(inbox.StopRequested(15))
        await other.paused()
        assert other.wire[-1] == ("nack", other.tags)
        assert {sealed.key for sealed in running} == other.worker.runs.keys()

    asyncio.run(story())


def test_a_job_whose_process_died_under_it_is_no_short_job() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        sealed = one.deliver(0)
        one.worker.runs[sealed.key].started -= LONG_S
        one.worker.handle(Finished(slot=0, key=sealed.key, outcome=Interrupted(), ran=RAN, ready=False))
        await one.paused()
        assert SPARE not in one.consuming

    asyncio.run(story())


def test_results_that_wait_for_one_confirm_leave_in_one_message_and_no_job_is_acked_before_it_is_confirmed() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        first, second, *ahead = [one.deliver(slot) for slot in (0, 1, SPARE, SPARE)]
        one.wire.clear()
        before = len(one.publishes.seen)
        for sealed in (first, second, *ahead):
            one.finish(sealed)
        (alone,) = one.publishes.seen[before:]
        one.publishes.answer()
        one.handle_all()
        assert [what for what, _ in one.wire] == ["ack"]
        together = one.publishes.seen[-1]
        assert [events.decode(body).id for _, body in parts(together.key, together.body)] == [
            sealed.job.id for sealed in (second, *ahead)
        ]
        one.publishes.answer(Refused("the queue is full or down"))
        one.handle_all()
        assert [what for what, _ in one.wire] == ["ack"]
        # what was refused together is published again one by one
        one.worker.settler.connection.is_open = True
        one.worker.settler.connected()
        assert [message.type for message in one.publishes.seen[-3:]] == [events.EVENT_TYPE] * 3
        one.publishes.answer()
        one.handle_all()
        assert [what for what, _ in one.wire] == ["ack"] * 4
        assert not one.worker.runs
        assert alone.type == events.EVENT_TYPE

    asyncio.run(story())


def test_where_keys_are_set_every_result_is_a_message_with_a_signature_of_its_own() -> None:
    async def story() -> None:
        one = Ahead()
        one.short_jobs()
        one.worker.settler.connection.url = msgspec.structs.replace(one.worker.settler.connection.url, ring=RING)
        before = len(one.publishes.seen)
        for sealed in [one.deliver(slot) for slot in (0, 1, SPARE, SPARE)]:
            one.finish(sealed)
        assert [message.type for message in one.publishes.seen[before:]] == [events.EVENT_TYPE] * 4

    asyncio.run(story())
