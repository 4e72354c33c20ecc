"""Jobs that wait for others, in a worker driven by its inbox: the record first, and only then the message."""

import asyncio
import dataclasses
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from jobrunner import attempts, events
from jobrunner.broker.consumer import Delivered, Delivery
from jobrunner.broker.waiting import SLOT, EndHeard, WaitingDelivered, WaitingLost
from jobrunner.envelope import After, Envelope, new_job, seal
from jobrunner.outcome import Error, Succeeded
from jobrunner.worker import inbox
from tests.support.edges import Bench, Standing
from tests.unit.test_worker import finish, ready

OTHER = "a" * 16
RAN = attempts.Run(worker="w1", host="h", pid=1, started_at=1.0, ended_at=2.0)
SUCCEEDED = EndHeard(events.encode(events.Succeeded(at=1.0, id=OTHER, ran=RAN)))
DEAD = EndHeard(events.encode(events.Dead(at=1.0, id=OTHER, error=Error(reason="error", message="x"), queue="q")))


@dataclasses.dataclass
class Port:
    """Stands where the queue of waiting jobs is."""

    log: list[tuple[str, int]]
    keys: list[str] = dataclasses.field(default_factory=list)
    bound: Callable[[], None] | None = None

    def ack(self, delivery: Delivery) -> bool:
        self.log.append(("ack", delivery.tag))
        return True

    def release(self, delivery: Delivery) -> bool:
        self.log.append(("release", delivery.tag))
        return True

    def listen(self, keys: Sequence[str], then: Callable[[], None]) -> None:
        self.bound = then
        self.keys += keys

    def unlisten(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.keys.remove(key)

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.log.append(("close", 0))


def on_a_bench(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        async def on_a_loop() -> None:
            one = Bench(1)
            one.worker.waiting.port = Port(one.wire)  # type: ignore[assignment]
            ready(one, 0)
            one.publishes.seen.clear()
            one.publishes.open.clear()
            one.wire.clear()
            await test(one)

        asyncio.run(on_a_loop())

    del run.__wrapped__  # pytest would ask for its argument
    return run


def waiting(**fields: Any) -> Envelope:
    after = After(jobs={OTHER: 0}, since=1.0)
    return seal(new_job(queue="task_queue", task="tasks:add", after=after, **fields))


def deliver(one: Bench, sealed: Envelope, **facts: Any) -> Delivery:
    delivery = one.delivery(sealed, SLOT, **facts)
    one.worker.handle(WaitingDelivered(delivery))
    return delivery


@on_a_bench
async def test_its_release_is_recorded_and_confirmed_before_it_goes_to_its_queue(one: Bench) -> None:
    delivery = deliver(one, waiting())
    assert one.publishes.kinds() == []
    one.worker.handle(SUCCEEDED)
    assert one.publishes.kinds() == ["released"]
    assert one.wire == []
    one.publishes.answer()
    one.handle_all()
    assert one.wire == [("release", delivery.tag)]
    assert not one.worker.runs
    assert one.worker.waiting.port.keys == []  # type: ignore[attr-defined]


@on_a_bench
async def test_the_ledger_is_read_from_before_the_end_also_where_the_clock_of_who_queued_it_is_ahead(
    one: Bench,
) -> None:
    """It would begin behind that end, and the job would wait for ever."""
    ended_at, ahead_s = time.time() - 5.0, 600.0
    after = After(jobs={OTHER: 0}, since=ended_at + ahead_s - 1.0)
    job = msgspec.structs.replace(new_job(queue="task_queue", task="tasks:add", after=after), iat=time.time() + ahead_s)
    deliver(one, seal(job))
    one.worker.waiting.port.bound()  # type: ignore[attr-defined]
    (read,) = one.worker.waiting._awaited._reads
    assert ended_at - 60.0 < read._since_s < ended_at


@on_a_bench
async def test_a_job_that_was_released_here_runs_here(one: Bench) -> None:
    sealed = waiting()
    deliver(one, sealed)
    one.worker.handle(SUCCEEDED)
    one.publishes.answer()
    one.handle_all()
    delivery = one.delivery(sealed)
    one.worker.handle(Delivered(delivery))
    assert [work.id for _, work in one.pool.started] == [sealed.job.id]
    finish(one, sealed, Succeeded())
    one.publishes.answer()
    one.handle_all()
    assert one.wire[-1] == ("ack", delivery.tag)


@on_a_bench
async def test_a_job_that_cannot_run_any_more_is_cancelled_with_the_reason(one: Bench) -> None:
    delivery = deliver(one, waiting())
    one.worker.handle(DEAD)
    cancelled = events.decode(one.publishes.seen[0].body)
    assert isinstance(cancelled, events.Cancelled)
    assert cancelled.reason == "it waited for the success of aaaaaaaa, which died"
    assert one.wire == []
    one.publishes.answer()
    one.handle_all()
    assert one.wire == [("ack", delivery.tag)]


@on_a_bench
async def test_a_cancel_ends_a_job_that_waits(one: Bench) -> None:
    sealed = waiting()
    delivery = deliver(one, sealed)
    one.worker.tombstones.add(events.Cancel(at=1.0, jobs={sealed.job.id: 0}, reason="typo"))
    one.handle_all()
    assert one.publishes.kinds() == ["cancelled"]
    one.publishes.answer()
    one.handle_all()
    assert one.wire == [("ack", delivery.tag)]


@on_a_bench
async def test_a_message_that_a_producer_sent_twice_in_doubt_is_released_once(one: Bench) -> None:
    sealed = waiting()
    first, second = deliver(one, sealed), deliver(one, sealed)
    assert one.wire == [("ack", second.tag)]
    one.worker.handle(SUCCEEDED)
    one.publishes.answer()
    one.handle_all()
    third = deliver(one, sealed)
    assert one.wire[1:] == [("release", first.tag), ("ack", third.tag)]


@on_a_bench
async def test_what_was_released_on_a_channel_that_is_lost_may_come_again(one: Bench) -> None:
    sealed = waiting()
    deliver(one, sealed)
    one.worker.handle(SUCCEEDED)
    one.publishes.answer()
    one.handle_all()
    one.worker.handle(WaitingLost())
    again = deliver(one, sealed, redelivered=True)
    assert ("ack", again.tag) not in one.wire


@on_a_bench
async def test_a_message_from_another_worker_is_renewed_and_decided_when_it_comes_back(one: Bench) -> None:
    sealed = waiting()
    old = deliver(one, sealed, redelivered=True)
    assert one.publishes.kinds() == ["job to jobrunner.v1.waiting"]
    assert one.wire == []
    one.publishes.answer()
    one.handle_all()
    assert one.wire == [("ack", old.tag)]
    new = deliver(one, sealed.with_state())
    one.worker.handle(SUCCEEDED)
    one.publishes.answer()
    one.handle_all()
    assert one.wire[1:] == [("release", new.tag)]


@on_a_bench
async def test_of_two_copies_only_the_later_one_is_kept(one: Bench) -> None:
    sealed = waiting()
    early = deliver(one, sealed)
    late = deliver(one, sealed.with_state())
    assert one.wire == [("ack", early.tag)]
    again = deliver(one, sealed)
    assert one.wire[1:] == [("ack", again.tag)]
    one.worker.handle(SUCCEEDED)
    one.publishes.answer()
    one.handle_all()
    assert one.wire[2:] == [("release", late.tag)]


@on_a_bench
async def test_a_delivery_that_is_lost_while_its_record_is_published_is_replaced_by_the_next(one: Bench) -> None:
    sealed, channel = waiting(), Standing()
    deliver(one, sealed, channel=channel)
    one.worker.handle(SUCCEEDED)
    channel.usable = False
    one.worker.handle(WaitingLost())
    again = deliver(one, sealed, redelivered=True)
    one.publishes.answer()
    one.handle_all()
    assert one.wire == [("release", again.tag)]


@on_a_bench
async def test_a_worker_that_stops_leaves_what_waits_to_the_next_one(one: Bench) -> None:
    deliver(one, waiting())
    one.worker.handle(inbox.StopRequested(15))
    assert ("close", 0) in one.wire
    assert not one.worker.waiting.held
    await asyncio.gather(*one.worker.slots._pausing.values())
    one.handle_all()
    assert one.worker.stopping.is_over(bool(one.worker.runs))


@on_a_bench
async def test_what_is_no_job_does_not_stay_in_the_way(one: Bench) -> None:
    delivery = one.delivery(waiting(), SLOT)
    delivery.body, delivery.message_id = b"hello", None
    one.worker.handle(WaitingDelivered(delivery))
    assert one.publishes.kinds() == ["job to jobrunner.v1.dlx", "dead"]
    one.publishes.answer()
    one.handle_all()
    assert one.wire == [("ack", delivery.tag)]
