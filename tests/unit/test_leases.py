"""Who has a redelivered job: what a worker asks, what it answers, and when a job that nobody claims runs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from jobrunner import events
from jobrunner.broker.consumer import ConsumerLost, Delivered, HandedBack
from jobrunner.broker.control import CONTROL_TYPE, Reply, Request, RunningJob
from jobrunner.envelope import Envelope, State, new_job, seal, state_of
from jobrunner.execution.pool import Finished, SlotReady
from jobrunner.outcome import Interrupted, Succeeded
from jobrunner.registry import FunctionSpec
from jobrunner.worker import inbox
from tests.support.edges import Bench, Standing, on_a_loop
from tests.unit.test_worker import LOST, RAN

PATIENCE_S = 15.0


class Team:
    """Workers that hear each other at once. now: their clock, in seconds."""

    def __init__(self, *workers: Bench) -> None:
        self.workers = workers
        self.now = 100.0
        self._passed = [0] * len(workers)
        for one in workers:
            one.worker.handle(SlotReady(slot=0, functions=[FunctionSpec(name="tasks:add")]))
            one.worker.settler.connection.is_open = True
            one.worker.settler._routes.add("task_queue")
        self.deaf: set[int] = set()
        self.wait(0.0)

    def wait(self, for_s: float) -> None:
        """So long nothing happens but the clock."""
        until = self.now + for_s
        while True:
            for one in self.workers:
                one.worker.leases.tick(self.now)
                one.worker.start_held()
            self.talk()
            if self.now >= until:
                return
            self.now = min(until, self.now + 0.5)

    def talk(self) -> None:
        """Pass on what was said, until nobody says anything more."""
        said = True
        while said:
            said = False
            for number, speaker in enumerate(self.workers):
                for message in speaker.publishes.seen[self._passed[number] :]:
                    said = True
                    if message.type != CONTROL_TYPE or number in self.deaf:
                        continue
                    for other, hearer in enumerate(self.workers):
                        to_all = message.key == "queue.task_queue"
                        if other not in self.deaf and (to_all or message.key == f"reply.{hearer.worker.leases.me}"):
                            hear(hearer, message.body)
                self._passed[number] = len(speaker.publishes.seen)

    def ready(self) -> "Team":
        """Once they have known each other for long enough."""
        self.wait(PATIENCE_S + 1)
        return self


def hear(one: Bench, body: bytes) -> None:
    try:
        one.worker.handle(inbox.Asked(msgspec.json.decode(body, type=Request)))
    except msgspec.ValidationError:
        one.worker.handle(inbox.Answered(msgspec.json.decode(body, type=Reply)))


@contextlib.asynccontextmanager
async def team(size: int) -> AsyncIterator[Team]:
    workers = [Bench(1, lost_after_s=PATIENCE_S) for _ in range(size)]
    yield Team(*workers)
    for one in workers:
        await asyncio.gather(*one.worker.slots._pausing.values())


def a_job(**state: Any) -> Envelope:
    sealed = seal(new_job(queue="task_queue", task="tasks:add"))
    return msgspec.structs.replace(sealed, state=State(**state))


def deliver(one: Bench, sealed: Envelope, **facts: Any) -> Any:
    delivery = one.delivery(sealed, **facts)
    one.worker.handle(Delivered(delivery=delivery))
    return delivery


def again(one: Bench, sealed: Envelope, count: int = 1, **facts: Any) -> Any:
    return deliver(one, sealed, redelivered=True, delivery_count=count, **facts)


def confirm(one: Bench) -> None:
    one.publishes.answer()
    one.handle_all()


def finish(one: Bench, sealed: Envelope, outcome: Any) -> None:
    one.worker.handle(Finished(slot=0, key=sealed.key, outcome=outcome, ran=RAN, ready=True))
    confirm(one)


def hand_back(one: Bench, sealed: Envelope) -> None:
    """It is told twice to stop, so it interrupts what it runs."""
    one.worker.handle(inbox.StopRequested(15))
    one.worker.handle(inbox.StopRequested(15))
    finish(one, sealed, Interrupted())


def cut_off(owner: Bench, **state: Any) -> Envelope:
    """A job that it runs and whose channel is gone."""
    sealed, channel = a_job(**state), Standing()
    deliver(owner, sealed, channel=channel)
    channel.usable = False
    return sealed


def runs(*workers: Bench) -> int:
    return sum(len(one.pool.started) for one in workers)


def lost(one: Bench, channel: Standing) -> None:
    """Its connection is cut; what it runs goes on."""
    channel.usable = False
    one.worker.handle(LOST)


@on_a_loop
async def test_a_first_delivery_is_not_asked_about() -> None:
    async with team(2) as two:
        first = two.workers[0]
        said = len(first.publishes.seen)
        deliver(first, a_job())
        assert runs(first) == 1
        assert len(first.publishes.seen) == said


@on_a_loop
async def test_an_owner_that_lives_keeps_its_run_and_the_copy_waits_with_the_same_key() -> None:
    async with team(2) as two:
        owner, other = two.ready().workers
        sealed = cut_off(owner, attempt=1, copy=3)
        other.publishes.seen.clear()
        two._passed[1] = 0
        delivery = again(other, sealed)
        two.talk()
        copy = other.publishes.seen[-1]
        assert copy.exchange == "jobrunner.v1.delay.07"
        assert copy.headers == {"jr-attempt": 1, "jr-copy": 3, "jr-lease": 1}
        assert ("ack", delivery.tag) not in other.wire
        confirm(other)
        assert ("ack", delivery.tag) in other.wire
        assert sealed.key not in other.worker.settler.settled
        assert runs(owner, other) == 1


@on_a_loop
async def test_a_copy_that_comes_by_after_the_end_is_acked_wherever_it_comes() -> None:
    async with team(3) as three:
        owner, other, third = three.ready().workers
        sealed = cut_off(owner)
        finish(owner, sealed, Succeeded())
        three.talk()
        # told by the owner, which may be gone by now
        three.deaf.add(0)
        delivery = deliver(third, a_lease_of(sealed))
        assert ("ack", delivery.tag) in third.wire
        assert third.publishes.kinds()[-1] == "suppressed"
        assert runs(*three.workers) == 1
        assert not other.worker.runs


@on_a_loop
async def test_an_end_that_is_told_answers_who_asks_just_then() -> None:
    async with team(2) as two:
        owner, other = two.workers
        sealed = cut_off(owner)
        two.deaf.add(0)
        delivery = again(other, sealed)
        two.talk()
        assert not other.pool.started
        two.deaf.clear()
        finish(owner, sealed, Succeeded())
        two.talk()
        assert ("ack", delivery.tag) in other.wire
        assert not other.worker.runs


def a_lease_of(sealed: Envelope) -> Envelope:
    return sealed.as_lease()


@on_a_loop
async def test_who_ended_it_says_so_and_it_is_not_run_again() -> None:
    async with team(2) as two:
        owner, other = two.ready().workers
        sealed = a_job()
        deliver(owner, sealed)
        finish(owner, sealed, Succeeded())
        delivery = again(other, sealed)
        two.talk()
        assert ("ack", delivery.tag) in other.wire
        assert other.publishes.kinds()[-1] == "suppressed"
        assert runs(owner, other) == 1


@on_a_loop
async def test_where_all_who_live_say_no_it_runs_at_once() -> None:
    async with team(3) as three:
        three.ready()
        one = three.workers[0]
        again(one, a_job())
        assert not one.pool.started
        three.talk()
        assert runs(one) == 1


@on_a_loop
async def test_a_worker_that_has_just_connected_waits_for_those_it_cannot_know() -> None:
    async with team(2) as two:
        newcomer = two.workers[1]
        again(newcomer, a_job())
        two.wait(PATIENCE_S - 1)
        assert not newcomer.pool.started
        two.wait(1.5)
        assert runs(newcomer) == 1


@on_a_loop
async def test_alone_and_for_long_a_worker_asks_nobody() -> None:
    async with team(1) as one:
        worker = one.ready().workers[0]
        again(worker, a_job())
        assert runs(worker) == 1


@on_a_loop
async def test_a_silent_worker_is_waited_for_once() -> None:
    async with team(2) as two:
        silent, other = two.ready().workers
        two.deaf.add(0)
        sealed = a_job()
        again(other, sealed)
        two.wait(PATIENCE_S - 1)
        assert not other.pool.started
        two.wait(2)
        assert runs(other) == 1
        finish(other, sealed, Succeeded())
        again(other, a_job())
        assert runs(other) == 2
        assert not silent.pool.started


@on_a_loop
async def test_an_owner_that_comes_back_late_is_asked_at_once() -> None:
    async with team(2) as two:
        owner, other = two.ready().workers
        sealed, channel = a_job(), Standing()
        deliver(owner, sealed, channel=channel)
        two.deaf.add(0)
        lost(owner, channel)
        again(other, sealed)
        two.wait(PATIENCE_S - 3)
        two.deaf.clear()
        two.wait(5)
        assert runs(owner, other) == 1
        assert other.publishes.seen[-1].headers["jr-lease"] == 1


@on_a_loop
async def test_for_a_worker_that_said_goodbye_nobody_waits() -> None:
    async with team(2) as two:
        leaving, other = two.ready().workers
        leaving.worker.leases.bye()
        two.talk()
        two.deaf.add(0)
        again(other, a_job())
        assert runs(other) == 1


@on_a_loop
async def test_a_job_handed_back_is_nobodys() -> None:
    async with team(2) as two:
        stopping, other = two.ready().workers
        sealed = a_job()
        deliver(stopping, sealed)
        hand_back(stopping, sealed)
        again(other, sealed)
        two.talk()
        assert runs(other) == 1


@on_a_loop
async def test_what_was_handed_back_just_now_is_started_by_one_that_has_just_come() -> None:
    async with team(2) as two:
        stopping, newcomer = two.workers
        sealed = a_job()
        deliver(stopping, sealed)
        hand_back(stopping, sealed)
        two.talk()
        again(newcomer, sealed, count=1)
        assert runs(newcomer) == 1
        # the next return is another matter: it may have been lost with the one that has it
        again(two.workers[0], sealed, count=2)
        assert runs(stopping) == 1


@on_a_loop
async def test_what_came_too_late_for_its_slot_is_nobodys_if_it_was_so_before() -> None:
    async with team(2) as two:
        late, other = two.workers
        first, second = a_job(), a_job()
        late.worker.handle(HandedBack(delivery=late.delivery(first)))
        late.worker.handle(HandedBack(delivery=late.delivery(second, redelivered=True, delivery_count=1)))
        two.talk()
        again(other, first, count=1)
        assert runs(other) == 1
        finish(other, first, Succeeded())
        again(other, second, count=2)
        assert runs(other) == 1


@on_a_loop
async def test_a_second_message_of_a_run_that_came_too_late_is_not_nobodys() -> None:
    async with team(2) as two:
        owner, other = two.ready().workers
        sealed = a_job()
        deliver(owner, sealed)
        owner.worker.handle(HandedBack(delivery=owner.delivery(sealed)))
        two.talk()
        again(other, sealed, count=1)
        two.talk()
        assert runs(owner, other) == 1


@on_a_loop
async def test_what_was_only_asked_for_is_not_told_as_nobodys_when_it_goes_back() -> None:
    async with team(3) as three:
        owner, stopping, other = three.ready().workers
        sealed, channel = a_job(), Standing()
        deliver(owner, sealed, channel=channel)
        three.deaf.add(0)
        lost(owner, channel)
        again(stopping, sealed, count=1)
        stopping.worker.handle(inbox.StopRequested(15))
        three.talk()
        again(other, sealed, count=2)
        three.wait(1)
        assert runs(*three.workers) == 1


@on_a_loop
async def test_of_two_that_ask_for_one_run_one_has_it() -> None:
    async with team(2) as two:
        one, other = two.workers
        sealed = a_job()
        again(one, sealed)
        again(other, sealed.as_lease())
        two.wait(PATIENCE_S + 1)
        confirm(one)
        confirm(other)
        ran_or_next = runs(one, other) + len(copies(one, "jobrunner.v1.jobs")) + len(copies(other, "jobrunner.v1.jobs"))
        assert ran_or_next == 1
        assert len(copies(one, "jobrunner.v1.delay.07") + copies(other, "jobrunner.v1.delay.08")) == 1


def copies(one: Bench, exchange: str) -> list[Any]:
    return [message for message in one.publishes.seen if message.exchange == exchange]


@on_a_loop
async def test_a_copy_whose_owner_died_becomes_a_copy_that_counts_it() -> None:
    async with team(1) as one:
        worker = one.ready().workers[0]
        sealed = a_job(copy=2, crashes=1, lease=4)
        delivery = deliver(worker, sealed)
        assert not worker.pool.started
        [successor] = copies(worker, "jobrunner.v1.jobs")
        assert {"jr-copy": 3, "jr-crashes": 2}.items() <= successor.headers.items()
        assert "jr-lease" not in successor.headers
        assert worker.publishes.kinds()[-1] == "retrying"
        confirm(worker)
        assert ("ack", delivery.tag) in worker.wire


@on_a_loop
async def test_a_copy_whose_owner_was_stopped_in_good_order_runs_and_counts_nothing() -> None:
    async with team(2) as two:
        owner, other = two.ready().workers
        sealed = cut_off(owner)
        hand_back(owner, sealed)
        two.talk()
        deliver(other, sealed.as_lease())
        two.talk()
        assert runs(other) == 1
        assert not copies(other, "jobrunner.v1.jobs")


@on_a_loop
async def test_the_fifth_owner_that_died_under_a_job_is_the_last() -> None:
    async with team(1) as one:
        worker = one.ready().workers[0]
        deliver(worker, a_job(crashes=4, lease=1))
        assert worker.publishes.kinds()[-1] == "dead"


@on_a_loop
async def test_while_nothing_can_be_said_silence_proves_nothing() -> None:
    async with team(2) as two:
        other = two.ready().workers[1]
        two.deaf.add(0)
        again(other, a_job())
        two.wait(PATIENCE_S - 1)
        other.worker.settler.connection.blocked = "memory"
        two.wait(60)
        other.worker.settler.connection.blocked = None
        two.wait(PATIENCE_S - 1)
        assert not other.pool.started
        two.wait(3)
        assert runs(other) == 1


@on_a_loop
async def test_a_worker_that_was_stopped_for_a_while_listens_again_first() -> None:
    async with team(2) as two:
        other = two.ready().workers[1]
        two.deaf.add(0)
        again(other, a_job())
        two.now += 60
        two.wait(PATIENCE_S - 1)
        assert not other.pool.started


@on_a_loop
async def test_a_lost_connection_takes_the_question_along() -> None:
    async with team(2) as two:
        other = two.workers[1]
        channel = Standing()
        sealed = a_job()
        deliver(other, sealed, channel=channel, redelivered=True, delivery_count=1)
        lost(other, channel)
        assert not other.worker.runs
        two.wait(2 * PATIENCE_S)
        assert not other.pool.started
        again(other, sealed)
        two.talk()
        assert runs(other) == 1


@on_a_loop
async def test_a_stop_hands_a_question_back_by_nack_whatever_its_count() -> None:
    async with team(2) as two:
        other = two.workers[1]
        delivery = again(other, a_job(), count=4)
        other.worker.handle(inbox.StopRequested(15))
        await asyncio.gather(*other.worker.slots._pausing.values())
        await asyncio.sleep(0)
        assert ("nack", delivery.tag) in other.wire
        assert not other.worker.runs


@on_a_loop
async def test_a_worker_of_an_older_version_is_understood() -> None:
    async with team(1) as one:
        worker = one.workers[0]
        sealed = a_job()
        again(worker, sealed)
        running = RunningJob(id=sealed.job.id, attempt=1, started_at=1.0, pid=7, slot=1)
        facts: dict[str, Any] = {"host": "h", "pid": 1, "version": "0.1.0", "slots": 1, "busy": 1, "queues": []}
        worker.worker.handle(inbox.Answered(Reply(worker="w0", started_at=1.0, running=[running], **facts)))
        assert worker.publishes.seen[-1].headers == {"jr-lease": 1}


@on_a_loop
async def test_a_foreign_message_without_an_id_can_be_asked_for_by_nobody() -> None:
    async with team(2) as two:
        worker = two.workers[0]
        worker.worker.policy.raw_handler = "tasks:handle"
        delivery = worker.delivery(a_job(), redelivered=True, delivery_count=1)
        delivery.body, delivery.message_id = b"Hello...", None
        worker.worker.handle(Delivered(delivery=delivery))
        assert runs(worker) == 1


@on_a_loop
async def test_both_messages_of_one_run_are_acked_with_it() -> None:
    async with team(1) as one:
        worker = one.ready().workers[0]
        sealed = a_job()
        first, second = deliver(worker, sealed), again(worker, sealed)
        finish(worker, sealed, Succeeded())
        assert {("ack", first.tag), ("ack", second.tag)} <= set(worker.wire)


@pytest.mark.parametrize("is_busy", [False, True])
@on_a_loop
async def test_of_two_messages_of_one_run_one_is_enough_and_whoever_gets_the_lost_one_is_told(*, is_busy: bool) -> None:
    async with team(2) as two:
        one, other = two.ready().workers
        if is_busy:
            deliver(one, a_job())
        sealed, channel = a_job(), Standing()
        standing = deliver(one, sealed)
        deliver(one, sealed, slot=1, channel=channel)
        channel.usable = False
        one.worker.handle(ConsumerLost(1, "task_queue", None, missing=False))
        assert one.worker.runs[sealed.key].delivery is standing
        one.worker.slots.ready.add(0)
        one.worker.start_held()
        finish(one, sealed, Succeeded())
        assert ("ack", standing.tag) in one.wire
        two.talk()
        again(other, sealed)
        assert runs(other) == 0


@on_a_loop
async def test_a_job_that_is_asked_for_while_its_queue_is_paused_goes_back() -> None:
    async with team(2) as two:
        one, other = two.ready().workers
        two.deaf = {0}
        delivery = again(other, a_job())
        other.worker.pauses.take(events.Pause(at=time.time(), queue="task_queue"))
        other.worker.listen()
        two.wait(PATIENCE_S + 1)
        await asyncio.gather(*other.worker.slots._pausing.values())
        await asyncio.sleep(0)
        assert other.wire[-1] == ("nack", delivery.tag)
        assert runs(one, other) == 0


@on_a_loop
async def test_a_broker_that_flaps_does_not_make_a_job_poison() -> None:
    """Each loss counts as a delivery; nobody died. Who lost it says so, also to the worker that has it then."""
    async with team(2) as two:
        one, other = two.ready().workers
        sealed = a_job()
        for count in range(1, 8):
            two.deaf = {0, 1}
            channel = Standing()
            again(one, sealed, count, channel=channel)
            assert runs(one) == 0
            lost(one, channel)
        two.deaf = set()
        two.wait(PATIENCE_S + 1)
        again(other, sealed, count=8)
        two.wait(PATIENCE_S + 1)
        assert runs(other) == 1


def old_job() -> Envelope:
    """Queued before any of these workers came."""
    return seal(msgspec.structs.replace(new_job(queue="task_queue", task="tasks:add"), iat=time.time() - 3600))


def dead_letters(one: Bench) -> int:
    return sum(message.exchange == "jobrunner.v1.dlx" for message in one.publishes.seen)


@on_a_loop
async def test_returns_in_good_order_do_not_make_a_job_poison() -> None:
    """Up to RabbitMQ 4.2 each counts as a delivery, also that of what came too late for its slot."""
    async with team(2) as two:
        late, other = two.ready().workers
        sealed = old_job()
        late.worker.handle(HandedBack(late.delivery(sealed)))
        for count in range(1, 6):
            late.worker.handle(HandedBack(late.delivery(sealed, redelivered=True, delivery_count=count)))
        two.talk()
        again(other, sealed, count=6)
        assert (runs(other), dead_letters(other)) == (1, 0)


@on_a_loop
async def test_on_a_classic_queue_a_return_in_good_order_excuses_one_delivery() -> None:
    async with team(2) as two:
        busy, other = two.ready().workers
        deliver(busy, a_job())
        sealed, channel = a_job(), Standing()
        deliver(busy, sealed)
        busy.worker.runs[sealed.key].started -= PATIENCE_S
        busy.worker.handle(inbox.Tick(0.0))
        two.talk()
        deliver(other, a_job())
        deliver(other, sealed, redelivered=True, channel=channel)
        two.wait(PATIENCE_S + 1)
        assert sealed.key in other.worker.slots.held
        lost(other, channel)
        deliver(other, sealed, redelivered=True)
        two.wait(2 * PATIENCE_S)
        copies = [message for message in other.publishes.seen if message.type == "jobrunner.job"]
        assert [(one.message_id, one.headers["jr-crashes"]) for one in copies] == [(sealed.job.id, 1)]


@on_a_loop
async def test_a_job_whose_workers_died_is_poison_whoever_else_lives() -> None:
    async with team(2) as two:
        _, other = two.ready().workers
        again(other, old_job(), count=5)
        two.wait(PATIENCE_S + 1)
        assert (runs(other), dead_letters(other)) == (0, 1)


@pytest.mark.parametrize(("gone", "poison"), [(0, False), (4, False), (5, True)])
@on_a_loop
async def test_no_more_workers_can_have_died_of_a_job_than_have_gone_without_a_word(gone: int, *, poison: bool) -> None:
    async with team(2) as two:
        _, other = two.ready().workers
        sealed = a_job()
        for number in range(gone):
            hear(other, msgspec.json.encode(Request(verb="hello", nonce=f"gone{number}", at=time.time())))
        hear(other, msgspec.json.encode(Request(verb="hello", nonce="ended", at=time.time())))
        hear(other, msgspec.json.encode(Request(verb="bye", nonce="ended", at=time.time())))
        again(other, sealed, count=8)
        two.wait(PATIENCE_S + 1)
        assert (runs(other), dead_letters(other)) == (int(not poison), int(poison))


@on_a_loop
async def test_what_a_worker_has_told_of_a_loss_is_known_after_its_death() -> None:
    async with team(2) as two:
        one, other = two.ready().workers
        sealed = old_job()
        deliver(other, a_job())  # its only process is busy
        two.deaf = {0, 1}
        for count in range(1, 4):
            channel = Standing()
            again(one, sealed, count, channel=channel)
            lost(one, channel)
        two.talk()
        two.deaf = set()
        channel = Standing()
        again(other, sealed, count=4, channel=channel)
        two.talk()
        lost(other, channel)
        two.deaf = {0}  # dead
        two.wait(PATIENCE_S + 1)
        again(other, sealed, count=8)
        two.wait(PATIENCE_S + 1)
        assert (list(other.worker.slots.held), dead_letters(other)) == ([sealed.key], 0)


@on_a_loop
async def test_a_message_that_comes_back_faster_than_it_can_be_asked_for_is_replaced_by_a_copy() -> None:
    """RabbitMQ would make a dead letter of it after 20 deliveries, though nobody has said that it is poison."""
    async with team(2) as two:
        one, other = two.ready().workers
        sealed = old_job()
        for count in range(1, 12):
            channel = Standing()
            again(one, sealed, count, channel=channel)
            lost(one, channel)
        delivery = again(one, sealed, count=12)
        confirm(one)
        assert ("ack", delivery.tag) in one.wire
        copies = [message for message in one.publishes.seen if message.type == "jobrunner.job"]
        assert [(message.message_id, state_of(message.headers).lease) for message in copies] == [(sealed.job.id, 1)]
        assert state_of(copies[0].headers).copy == sealed.state.copy
        assert (runs(one, other), dead_letters(one)) == (0, 0)


@on_a_loop
async def test_one_loss_is_counted_once_however_it_is_noticed() -> None:
    async with team(2) as two:
        one, _ = two.ready().workers
        sealed, channel = a_job(), Standing()
        deliver(one, sealed, channel=channel)
        lost(one, channel)
        lost(one, channel)
        assert dict(one.worker.settler.returned) == {sealed.key: 1}
