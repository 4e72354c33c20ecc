"""The worker, driven by its inbox: whatever happens, publish, confirm and ack come in this order."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from jobrunner import attempts, events
from jobrunner.broker import topology
from jobrunner.broker.connection import ConnectionBlocked, ConnectionDown, ConnectionUnblocked, ConnectionUp
from jobrunner.broker.consumer import ConsumerLost, ConsumerReady, Delivered
from jobrunner.broker.control import Reply, Request
from jobrunner.broker.message import properties_of
from jobrunner.broker.publisher import Refused, Stored, Unknown
from jobrunner.broker.stream import Record
from jobrunner.envelope import Envelope, State, new_job, seal
from jobrunner.errors import BrokerLost
from jobrunner.execution.output import KEPT_BYTES, HeadTail
from jobrunner.execution.pool import Finished, Found, SlotReady
from jobrunner.outcome import Crashed, Error, Failed, Interrupted, Outcome, Rejected, RetryAsked, Succeeded, clip
from jobrunner.registry import FunctionSpec
from jobrunner.worker import inbox, settling, slots, steering, stopping, tombstones
from jobrunner.worker.pauses import Pauses
from tests.support.edges import Bench, Standing, on_a_loop

ERROR = Error(reason="error", message="boom")
RAN = attempts.Run(worker="w1", host="h", pid=1, started_at=1.0, ended_at=2.0)
LOST = ConnectionDown("consume", 1, BrokerLost(address="h:1", reason="reset"), 0.5)


@contextlib.asynccontextmanager
async def bench(procs: int = 2, **settings: Any) -> AsyncIterator[Bench]:
    one = Bench(procs, **settings)
    for slot in range(procs):
        ready(one, slot)
    assert one.publishes.kinds() == ["worker"]
    one.publishes.seen.clear()
    one.publishes.answer()
    yield one
    await asyncio.gather(*one.worker.slots._pausing.values())


def ready(one: Bench, slot: int) -> None:
    one.worker.handle(SlotReady(slot=slot, functions=[FunctionSpec(name="tasks:add")]))


@on_a_loop
async def test_a_worker_that_stops_speaks_of_waiting_only_if_something_runs() -> None:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping.journal, "say", lambda _level, _action, text, **_facts: told.append(text))
        for runs in (False, True):
            async with bench() as one:
                if runs:
                    deliver(one, job())
                one.worker.handle(inbox.StopRequested(15))
    nothing, one_job = [text for text in told if text.startswith("Stopping")]
    assert nothing == "Stopping."
    assert one_job.startswith("Stopping. 1 job running, waiting up to ")


@on_a_loop
async def test_a_worker_tells_its_functions_again_once_a_reload_has_changed_them() -> None:
    async with bench() as one:
        ready(one, 0)
        assert one.publishes.kinds() == []
        for slot in range(2):
            one.worker.handle(SlotReady(slot=slot, functions=[FunctionSpec(name="tasks:sub")]))
        (message,) = one.publishes.seen
        told = events.decode(message.body)
        assert (told.phase, told.functions) == ("online", ["tasks:sub"])
        assert one.worker.steering.presence.reply({}, {}, None).functions == ["tasks:sub"]


def job(**fields: Any) -> Envelope:
    return seal(new_job(queue="task_queue", task="tasks:add", **fields))


def deliver(one: Bench, sealed: Envelope, slot: int = 0, **facts: Any) -> Any:
    delivery = one.delivery(sealed, slot, **facts)
    one.worker.handle(Delivered(delivery=delivery))
    return delivery


def finish(one: Bench, sealed: Envelope, outcome: Outcome, slot: int = 0) -> None:
    one.worker.handle(Finished(slot=slot, key=sealed.key, outcome=outcome, ran=RAN, ready=True))


def with_route(one: Bench) -> None:
    one.worker.settler._routes.add("task_queue")


@on_a_loop
async def test_a_success_is_recorded_and_confirmed_before_its_ack() -> None:
    async with bench() as one:
        sealed = job()
        delivery = deliver(one, sealed)
        assert [work.id for _, work in one.pool.started] == [sealed.job.id]
        finish(one, sealed, Succeeded())
        assert one.publishes.kinds() == ["succeeded"]
        assert ("ack", delivery.tag) not in one.wire
        one.publishes.answer()
        one.handle_all()
        assert one.wire[-1] == ("ack", delivery.tag)
        assert not one.worker.runs


@pytest.mark.parametrize(
    ("outcome", "published"),
    [
        (Failed(error=ERROR), ["job to jobrunner.v1.delay", "retrying"]),
        (Crashed(error=ERROR), ["job to jobrunner.v1.delay", "retrying"]),
        (Rejected(error=ERROR), ["job to jobrunner.v1.dlx", "dead"]),
    ],
)
@on_a_loop
async def test_both_the_copy_and_its_record_are_confirmed_before_the_ack(
    outcome: Outcome, published: list[str]
) -> None:
    async with bench() as one:
        with_route(one)
        sealed = job()
        delivery = deliver(one, sealed)
        finish(one, sealed, outcome)
        kinds = one.publishes.kinds()
        assert [kind.partition(".delay.")[0] + (".delay" if ".delay." in kind else "") for kind in kinds] == published
        one.publishes.open.pop(0)[1](Stored())
        one.handle_all()
        assert ("ack", delivery.tag) not in one.wire
        one.publishes.answer()
        one.handle_all()
        assert one.wire[-1] == ("ack", delivery.tag)


@pytest.mark.parametrize("answer", [Unknown("cut"), Refused("full")])
@on_a_loop
async def test_what_is_not_confirmed_is_published_again_with_the_same_ids_and_never_acked_meanwhile(
    answer: Unknown | Refused,
) -> None:
    async with bench() as one:
        sealed = job()
        delivery = deliver(one, sealed)
        finish(one, sealed, Succeeded())
        one.publishes.answer(answer)
        one.handle_all()
        assert ("ack", delivery.tag) not in one.wire
        one.worker.settler.connection.is_open = True
        one.worker.settler.connected()
        assert [message.message_id for message in one.publishes.seen] == [f"{sealed.job.id}.0.succeeded"] * 2
        one.publishes.answer()
        one.handle_all()
        assert one.wire[-1] == ("ack", delivery.tag)


@on_a_loop
async def test_a_redelivery_of_a_running_job_is_adopted_and_the_newest_delivery_is_acked() -> None:
    async with bench() as one:
        sealed, channel = job(), Standing()
        deliver(one, sealed, channel=channel)
        channel.usable = False
        one.worker.handle(LOST)
        again = deliver(one, sealed, slot=1, redelivered=True, delivery_count=1)
        assert len(one.pool.started) == 1
        finish(one, sealed, Succeeded())
        one.publishes.answer()
        one.handle_all()
        assert one.wire[-1] == ("ack", again.tag)
        assert len(one.pool.started) == 1


@on_a_loop
async def test_a_redelivery_of_a_settled_job_is_acked_and_not_run_again() -> None:
    async with bench() as one:
        sealed = job()
        deliver(one, sealed)
        finish(one, sealed, Succeeded())
        one.publishes.answer()
        one.handle_all()
        again = deliver(one, sealed, redelivered=True, delivery_count=1)
        assert one.wire[-1] == ("ack", again.tag)
        assert one.publishes.kinds() == ["succeeded", "suppressed"]
        assert len(one.pool.started) == 1


@on_a_loop
async def test_after_a_lost_connection_only_as_many_channels_consume_as_processes_are_free() -> None:
    async with bench(procs=2) as one:
        sealed, channel = job(), Standing()
        deliver(one, sealed, channel=channel)
        channel.usable = False
        one.worker.handle(LOST)
        await asyncio.gather(*one.worker.slots._pausing.values())
        assert one.wire[-1] == ("pause", 0)
        finish(one, sealed, Succeeded())
        assert one.wire[-1] == ("resume", 0)


@on_a_loop
async def test_a_lost_lease_leaves_the_run_alone_and_keeps_its_channel_quiet() -> None:
    async with bench() as one:
        sealed, channel = job(), Standing()
        deliver(one, sealed, channel=channel)
        channel.usable = False
        one.worker.handle(ConsumerLost(0, "task_queue", None, missing=False))
        await asyncio.gather(*one.worker.slots._pausing.values())
        assert ("pause", 0) in one.wire
        assert not one.pool.interrupted
        finish(one, sealed, Succeeded())
        one.publishes.answer()
        one.handle_all()
        assert [entry for entry in one.wire if entry[0] == "ack"] == []


@on_a_loop
async def test_the_way_to_a_queue_that_was_lost_is_made_once_more_when_it_is_consumed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was declared between the end of the consumer and that of the queue is gone with the queue."""
    declared: list[asyncio.Future[None]] = []

    async def ensure_ladder(_connection: object, _queue: str) -> None:
        declared.append(asyncio.get_running_loop().create_future())
        await declared[-1]

    async def answered(number: int) -> None:
        declared[number].set_result(None)
        await one.worker.settler._preparing["task_queue"]
        one.handle_all()
        await asyncio.sleep(0)

    monkeypatch.setattr(settling.places, "ensure_ladder", ensure_ladder)
    async with bench() as one:
        one.worker.settler.connection = SimpleNamespace(is_open=True, known=set())  # type: ignore[assignment]
        with_route(one)
        one.worker.handle(ConsumerLost(0, "task_queue", None, missing=False))
        await asyncio.sleep(0)
        one.worker.handle(ConsumerReady(1))
        one.worker.handle(ConsumerReady(0))
        sealed = job()
        deliver(one, sealed)
        finish(one, sealed, Failed(error=ERROR))
        await answered(0)
        assert one.publishes.kinds() == []
        await answered(1)
        assert len(declared) == 2
        assert one.publishes.kinds()[-1] == "retrying"


@on_a_loop
async def test_a_wait_that_a_job_asks_for_is_kept_and_a_backoff_is_told_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for outcome in (RetryAsked(error=ERROR, after_s=62.5), Failed(error=ERROR)):
        async with bench() as one:
            with_route(one)
            sealed = job()
            deliver(one, sealed)
            finish(one, sealed, outcome)
            retrying = events.decode(one.publishes.seen[-1].body)
            assert isinstance(retrying, events.Retrying)
            wait_s = round(retrying.due_at - retrying.at, 3)
            if isinstance(outcome, RetryAsked):
                assert wait_s == 62.5
            units = round(wait_s * 10)
            assert one.publishes.seen[-2].key.startswith(".".join(f"{units:028b}"))
            one.publishes.answer()
            one.handle_all()
            assert round(caplog.records[-1].due_in_s, 3) == wait_s  # type: ignore[attr-defined]


@on_a_loop
async def test_an_unreadable_message_is_dead_lettered_with_its_body_and_the_worker_goes_on() -> None:
    async with bench() as one:
        sealed = job()
        delivery = one.delivery(sealed)
        delivery.body, delivery.message_id = b"Hello...", None
        one.worker.handle(Delivered(delivery=delivery))
        letter = one.publishes.seen[0]
        assert (letter.exchange, letter.body) == ("jobrunner.v1.dlx", b"Hello...")
        assert letter.headers["jr-reason"] == "malformed"
        one.publishes.answer()
        one.handle_all()
        assert one.wire[-1] == ("ack", delivery.tag)
        deliver(one, sealed)
        assert len(one.pool.started) == 1


@on_a_loop
async def test_two_equal_unreadable_messages_are_two_dead_letters() -> None:
    async with bench() as one:
        for slot in (0, 1):
            delivery = one.delivery(job(), slot)
            delivery.body, delivery.message_id = b"Hello...", None
            one.worker.handle(Delivered(delivery=delivery))
        one.publishes.answer()
        one.handle_all()
        assert [entry[0] for entry in one.wire[-2:]] == ["ack", "ack"]
        assert one.publishes.kinds().count("dead") == 2


@on_a_loop
async def test_a_dead_letter_carries_the_whole_story() -> None:
    async with bench() as one:
        sealed = job(max_attempts=1)
        deliver(one, sealed)
        error = Error(reason="error", message="no disk", class_name="OSError", traceback="Traceback: tasks.py, line 3")
        finish(one, sealed, Failed(error=error))
        letter, event = one.publishes.seen
        assert letter.body == sealed.body
        assert letter.headers["jr-error"] == "OSError: no disk"
        assert letter.headers["jr-attempt"] == 1
        assert letter.headers["jr-worker"] == "w1"
        assert "line 3" in str(letter.headers["jr-traceback"])
        dead = events.decode(event.body)
        assert isinstance(dead, events.Dead)
        assert (dead.error, dead.attempt, dead.ran) == (error, 1, RAN)


@on_a_loop
async def test_a_dead_letter_can_be_sent_whatever_the_alphabet_of_its_error() -> None:
    """What has more than 8 KiB of headers cannot be sent, so the job would be neither dead nor run again."""
    async with bench() as one:
        submitted_by = msgspec.structs.replace(State(), submitted_by="\N{GRINNING FACE}" * 255, attempt=1)
        signed = dict.fromkeys(("jr-kid", "jr-sig", "jr-state-kid", "jr-state-sig"), "x" * 128)
        sealed = msgspec.structs.replace(job(max_attempts=1), state=submitted_by)
        deliver(one, sealed)
        one.worker.runs[sealed.key].envelope = msgspec.structs.replace(sealed, signature=signed)
        text = "\N{GRINNING FACE}" * 2000
        finish(one, sealed, Failed(error=Error(reason="error", message=clip(text), traceback=f"{text} end")))
        headers = properties_of(one.publishes.seen[0]).headers or {}
        assert str(headers["jr-traceback"]).endswith("\N{GRINNING FACE} end")


@on_a_loop
async def test_a_wait_beyond_the_ladder_is_its_longest() -> None:
    """No header holds the time that it would have been."""
    async with bench() as one:
        with_route(one)
        sealed = job()
        deliver(one, sealed)
        finish(one, sealed, RetryAsked(error=ERROR, after_s=1e300))
        headers = properties_of(one.publishes.seen[0]).headers or {}
        longest_ms = (time.time() + topology.MAX_DELAY_S) * 1000
        assert longest_ms - 60_000 < int(headers["jr-not-before"]) < longest_ms + 1


@on_a_loop
async def test_an_interrupted_job_is_handed_back_with_the_channel_quiet_and_no_attempt_counted() -> None:
    async with bench() as one:
        sealed = job()
        delivery = deliver(one, sealed)
        one.worker.handle(inbox.StopRequested(15))
        one.worker.handle(inbox.StopRequested(15))
        assert one.pool.interrupted == [0]
        finish(one, sealed, Interrupted())
        assert one.publishes.kinds() == ["interrupted"]
        one.publishes.answer()
        one.handle_all()
        await asyncio.gather(*one.worker.slots._pausing.values())
        one.handle_all()
        assert one.wire.index(("pause", 0)) < one.wire.index(("nack", delivery.tag))
        assert one.worker.stopping.is_over(runs=False)
        assert one.worker.stopping.exit_code == 143


@on_a_loop
async def test_a_job_whose_process_was_lost_before_it_began_goes_back_and_no_interruption_is_told() -> None:
    async with bench() as one:
        sealed = job()
        delivery = deliver(one, sealed)
        nowhere = msgspec.structs.replace(RAN, pid=0)
        one.worker.handle(Finished(slot=0, key=sealed.key, outcome=Interrupted(), ran=nowhere, ready=False))
        assert one.publishes.kinds() == []
        await asyncio.gather(*one.worker.slots._pausing.values())
        await asyncio.sleep(0)
        assert one.wire[-1] == ("nack", delivery.tag)


@on_a_loop
async def test_a_job_that_was_returned_twice_is_handed_back_as_a_new_copy() -> None:
    async with bench() as one:
        with_route(one)
        sealed = job()
        delivery = deliver(one, sealed, redelivered=True, delivery_count=2)
        one.worker.handle(inbox.StopRequested(15))
        one.worker.handle(inbox.GraceOver())
        finish(one, sealed, Interrupted())
        assert one.publishes.kinds() == ["interrupted", "job to jobrunner.v1.jobs"]
        assert one.publishes.seen[1].headers == {"jr-copy": 1}
        one.publishes.answer()
        one.handle_all()
        assert ("ack", delivery.tag) in one.wire


@on_a_loop
async def test_a_job_that_went_on_as_a_new_copy_has_ended_for_who_gets_the_lost_message_of_the_old_one() -> None:
    async with bench(lost_after_s=15.0) as one:
        with_route(one)
        sealed = job()
        delivery = deliver(one, sealed, delivery_count=2)
        one.worker.handle(inbox.StopRequested(15))
        one.worker.handle(inbox.GraceOver())
        finish(one, sealed, Interrupted())
        delivery.channel.usable = False
        one.publishes.answer()
        one.handle_all()
        assert not one.worker.runs
        said = msgspec.json.decode(one.publishes.seen[-1].body, type=Request)
        assert (said.verb, said.jobs) == ("ended", {sealed.job.id: 0})


@on_a_loop
async def test_a_job_that_ends_while_draining_is_settled_as_ever() -> None:
    async with bench() as one:
        sealed = job()
        delivery = deliver(one, sealed)
        one.worker.handle(inbox.StopRequested(15))
        finish(one, sealed, Succeeded())
        one.publishes.answer()
        one.handle_all()
        assert ("ack", delivery.tag) in one.wire
        assert one.worker.stopping.exit_code == 0


@on_a_loop
async def test_while_the_broker_is_blocked_nothing_new_starts() -> None:
    async with bench() as one:
        one.worker.handle(ConnectionBlocked("publish", "disk alarm"))
        sealed = job()
        deliver(one, sealed)
        assert not one.pool.started
        one.worker.handle(ConnectionUnblocked("publish"))
        assert [work.id for _, work in one.pool.started] == [sealed.job.id]


@on_a_loop
async def test_an_alarm_ends_with_the_connection_that_it_was_told_on() -> None:
    """RabbitMQ says so of an alarm that lasts on each connection, and never of one that was over before."""
    async with bench() as one:
        one.worker.handle(ConnectionBlocked("publish", "disk alarm"))
        one.worker.handle(ConnectionDown("publish", 1, BrokerLost(address="h:1", reason="reset"), 0.5))
        sealed = job()
        deliver(one, sealed)
        assert not one.pool.started
        one.worker.handle(ConnectionUp("publish", 2))
        assert [work.id for _, work in one.pool.started] == [sealed.job.id]
        await asyncio.gather(*one.worker.slots._pausing.values())
        one.worker.slots.balance(one.worker.runs.values())
        assert one.wire[-1] == ("resume", 1)


@on_a_loop
async def test_a_delivery_without_a_free_process_waits_for_one_and_then_goes_back() -> None:
    async with bench(procs=1) as one:
        one.worker.slots.ready.clear()
        sealed = job()
        delivery = deliver(one, sealed)
        assert not one.pool.started
        one.worker.runs[sealed.key].started -= 5
        one.worker.handle(inbox.Tick(0.0))
        await asyncio.gather(*one.worker.slots._pausing.values())
        await asyncio.sleep(0)
        assert one.wire[-2:] == [("pause", 0), ("nack", delivery.tag)]


@on_a_loop
async def test_a_job_that_no_client_of_ours_published_is_told_to_the_ledger() -> None:
    async with bench() as one:
        sealed = job(args=msgspec.Raw(b"[2,3]"))
        deliver(one, sealed, stamped=False)
        (queued,) = [events.decode(message.body) for message in one.publishes.seen]
        assert isinstance(queued, events.Queued)
        assert bytes(queued.jobs[0].job) == sealed.body
        deliver(one, job(), slot=1)
        assert one.publishes.kinds() == ["queued"]


@on_a_loop
async def test_a_foreign_message_becomes_a_job_and_its_redelivery_is_recognised_by_its_body() -> None:
    async with bench(raw_handler="tasks:handle") as one:
        channel = Standing()
        first = one.delivery(job(), channel=channel)
        first.body, first.message_id = b"Hello...", None
        one.worker.handle(Delivered(delivery=first))
        channel.usable = False
        one.worker.handle(LOST)
        again = one.delivery(job(), 1, redelivered=True, delivery_count=1)
        again.body, again.message_id = b"Hello...", None
        one.worker.handle(Delivered(delivery=again))
        assert [work.raw for _, work in one.pool.started] == [b"Hello..."]
        assert one.publishes.kinds() == ["queued"]


@on_a_loop
async def test_a_foreign_message_that_has_run_goes_back_as_the_job_that_it_has_become() -> None:
    """Delivered again it would be another job, and the first would never end: `audit` would call it lost."""
    async with bench(raw_handler="tasks:handle") as one:
        with_route(one)
        delivery = one.delivery(job())
        delivery.body, delivery.message_id = b"Hello...", None
        one.worker.handle(Delivered(delivery=delivery))
        (run,) = one.worker.runs.values()
        one.worker.handle(inbox.StopRequested(15))
        one.worker.handle(inbox.GraceOver())
        finish(one, run.envelope, Interrupted())
        assert one.publishes.kinds() == ["queued", "interrupted", "job to jobrunner.v1.jobs"]
        assert one.publishes.seen[-1].message_id == run.envelope.job.id
        one.publishes.answer()
        one.handle_all()
        assert ("ack", delivery.tag) in one.wire


def cancel(one: Bench, sealed: Envelope, **fields: Any) -> None:
    request = Request(verb="cancel", nonce="n", at=time.time(), jobs={sealed.job.id: 0}, reason="typo", **fields)
    one.worker.handle(inbox.Asked(request))


def replied(one: Bench) -> Reply:
    return msgspec.json.decode(one.publishes.seen[-1].body, type=Reply)


@on_a_loop
async def test_a_running_job_is_killed_on_request_and_ends_as_cancelled() -> None:
    async with bench() as one:
        sealed = job()
        delivery = deliver(one, sealed)
        cancel(one, sealed, signal="INT", by="ana@mbp")
        assert one.pool.interrupted == [0]
        assert replied(one).jobs == {sealed.job.id: "running"}
        finish(one, sealed, Interrupted())
        event = events.decode(one.publishes.seen[-1].body)
        assert isinstance(event, events.Cancelled)
        assert (event.reason, event.by, event.signal, event.ran) == ("typo", "ana@mbp", "SIGINT", RAN)
        one.publishes.answer()
        one.handle_all()
        assert one.wire[-1] == ("ack", delivery.tag)


@on_a_loop
async def test_thousands_of_cancels_at_once_look_once_through_what_has_ended() -> None:
    class Counted(OrderedDict[tuple[str, int], None]):
        looks = 0

        def __iter__(self) -> Iterator[tuple[str, int]]:
            self.looks += 1
            return super().__iter__()

    async with bench() as one:
        ended = one.worker.settler.settled = Counted()
        sealed = job()
        deliver(one, sealed)
        one.worker.settler.remember(("b" * 16, 3))
        chains = {f"{number:016}": 0 for number in range(1000)} | {sealed.job.id: 0, "b" * 16: 0}
        one.worker.handle(inbox.Asked(Request(verb="cancel", nonce="n", at=time.time(), jobs=chains)))
        noted = {f"{number:016}": "noted" for number in range(1000)}
        assert replied(one).jobs == noted | {sealed.job.id: "running", "b" * 16: "ended"}
        assert ended.looks == 1


@on_a_loop
async def test_a_job_that_succeeds_while_it_is_being_cancelled_has_succeeded() -> None:
    async with bench() as one:
        sealed = job()
        deliver(one, sealed)
        cancel(one, sealed)
        finish(one, sealed, Succeeded())
        assert one.publishes.kinds()[-1] == "succeeded"


@on_a_loop
async def test_a_job_that_fails_while_it_is_being_cancelled_does_not_run_again() -> None:
    async with bench() as one:
        with_route(one)
        sealed = job()
        deliver(one, sealed)
        cancel(one, sealed)
        finish(one, sealed, Failed(error=ERROR))
        assert one.publishes.kinds()[-1] == "cancelled"


@on_a_loop
async def test_a_cancelled_job_that_comes_later_does_not_start_unless_it_was_retried_by_hand() -> None:
    async with bench() as one:
        sealed = job()
        cancel(one, sealed)
        assert replied(one).jobs == {sealed.job.id: "noted"}
        deliver(one, sealed)
        assert not one.pool.started
        assert one.publishes.kinds()[-1] == "cancelled"
        deliver(one, sealed.with_state(chain=1))
        assert [work.id for _, work in one.pool.started] == [sealed.job.id]


@on_a_loop
async def test_cancels_are_read_on_after_a_lost_connection_and_anew_where_only_their_stream_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of a year would be looked through once more, each for all that waits here; a deleted stream begins anew."""
    starts: list[object] = []

    class Reader:
        def __init__(self, *_: object) -> None:
            pass

        def start(self, begin: object, **_: object) -> None:
            starts.append(begin)

    monkeypatch.setattr(tombstones, "StreamReader", Reader)
    connection: Any = SimpleNamespace(is_open=True)
    one = tombstones.Tombstones(connection, lambda _: None, lambda _: None)
    one.connection_up()
    one._take(Record(offset=6, exchange="", key="", message_id=None, body=b""))
    one._ended(LOST.error)
    one.connection_down()
    one.connection_up()
    one._retry()
    assert starts == ["first", 7]
    one._ended(LOST.error)
    one._retry()
    assert starts[2:] == ["first"]


@on_a_loop
async def test_a_cancelled_run_takes_only_the_jobs_that_were_there() -> None:
    async with bench() as one:
        early, late = job(run="crawl"), job(run="crawl")
        late = msgspec.structs.replace(late, job=msgspec.structs.replace(late.job, iat=time.time() + 60))
        late = seal(late.job)
        one.worker.tombstones.add(events.Cancel(at=time.time(), run="crawl"))
        deliver(one, early)
        deliver(one, late, slot=1)
        assert [work.id for _, work in one.pool.started] == [late.job.id]


@on_a_loop
async def test_the_end_does_not_wait_for_a_broker_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(slots, "CLOSE_S", 0.01)
    one = Bench(1)
    monkeypatch.setattr(one.worker.slots.consumers[0], "pause", never)
    ready(one, 0)
    one.worker.handle(inbox.StopRequested(15))
    async with asyncio.timeout(30):
        await one.worker.slots.close()
    assert one.wire[-1] == ("close", 0)


@on_a_loop
async def test_a_function_that_was_imported_on_demand_has_its_own_limits_from_its_first_run_on() -> None:
    async with bench() as one:
        sealed = job()
        deliver(one, sealed)
        wishes = FunctionSpec(name="tasks:add", retries=0, timeout_s=7.0)
        one.worker.policy.functions.clear()
        one.worker.handle(Found(slot=0, function=wishes))
        assert [(work.timeout_s, work.max_attempts) for _, work in one.pool.started] == [(None, 4), (7.0, 1)]
        finish(one, sealed, Failed(error=ERROR))
        assert one.publishes.kinds() == ["job to jobrunner.v1.dlx", "dead"]
        deliver(one, job())
        assert one.pool.started[-1][1].timeout_s == 7.0


@on_a_loop
async def test_a_job_that_is_cancelled_while_its_function_is_imported_does_not_begin() -> None:
    async with bench() as one:
        sealed = job()
        deliver(one, sealed)
        cancel(one, sealed)
        one.worker.handle(Found(slot=0, function=FunctionSpec(name="tasks:add", retries=0)))
        assert len(one.pool.started) == 1
        assert one.publishes.kinds()[-1] == "cancelled"
        assert one.worker.slots.ready == {0, 1}


@on_a_loop
async def test_a_ping_is_answered_with_what_runs() -> None:
    async with bench() as one:
        sealed = job()
        deliver(one, sealed)
        one.worker.handle(inbox.Asked(Request(verb="ping", nonce="n", at=time.time())))
        reply = replied(one)
        assert (reply.worker, reply.slots, reply.busy, reply.queues) == ("w1", 2, 1, ["task_queue"])
        assert [(running.id, running.slot) for running in reply.running] == [(sealed.job.id, 1)]
        assert one.publishes.seen[-1].key == "reply.n"


@on_a_loop
async def test_a_long_run_is_announced_and_what_it_writes_is_told_while_it_runs() -> None:
    async with bench() as one:
        sealed = job()
        deliver(one, sealed)
        one.worker.handle(inbox.Tick(0.0))
        assert one.publishes.kinds() == []
        one.worker.runs[sealed.key].started -= 1
        written = HeadTail()
        written.add("line one\nzwei \u00fc".encode()[:-1])
        one.pool.written[0] = (written, None)
        one.worker.handle(inbox.Tick(0.0))
        written.add("\u00fc".encode()[1:] + b"\n")
        one.worker.handle(inbox.Tick(0.0))
        one.worker.handle(inbox.Tick(0.0))
        assert one.publishes.kinds() == ["started", "log", "log"]
        logs = [events.decode(message.body) for message in one.publishes.seen[1:]]
        assert [(log.offset_bytes, log.text) for log in logs if isinstance(log, events.Log)] == [
            (0, "line one\nzwei "),
            (14, "\u00fc\n"),
        ]


@on_a_loop
async def test_jobs_that_nobody_follows_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "FOLLOWED_S", -1.0)
    async with bench() as one:
        for number in range(100):
            follow = Request(verb="follow", nonce="n", at=time.time(), jobs={f"{number:016}": 0})
            one.worker.handle(inbox.Asked(follow))
        assert len(one.worker.steering._followed) == 1


@on_a_loop
async def test_output_beyond_what_the_ledger_keeps_goes_to_those_who_follow() -> None:
    async with bench() as one:
        sealed = job()
        deliver(one, sealed)
        one.worker.runs[sealed.key].started -= 1
        written = HeadTail()
        written.add(b"x" * KEPT_BYTES)
        one.pool.written[0] = (written, None)
        one.worker.handle(inbox.Tick(0.0))
        written.add(b"not followed\n")
        one.worker.handle(inbox.Tick(0.0))
        assert one.publishes.kinds() == ["started", "log"]
        one.worker.handle(inbox.Asked(Request(verb="follow", nonce="n", at=time.time(), jobs={sealed.job.id: 0})))
        one.worker.handle(inbox.Tick(0.0))
        written.add(b"followed\n")
        one.worker.handle(inbox.Tick(0.0))
        one.worker.handle(inbox.Tick(0.0))
        live = [message for message in one.publishes.seen if message.key == f"log.{sealed.job.id}"]
        assert not any(message.persistent for message in live)
        texts = [(log.offset_bytes, log.text) for log in map(_log_in, live)]
        assert texts == [(KEPT_BYTES, "not followed\n"), (KEPT_BYTES + 13, "followed\n")]


def _log_in(message: Any) -> events.Log:
    event = events.decode(message.body)
    assert isinstance(event, events.Log)
    return event


# --- paused queues --------------------------------------------------------------------------------------------------


def test_a_pause_holds_until_the_newest_word_or_the_clock_ends_it() -> None:
    pauses = Pauses(["high", "low"])
    pauses.take(events.Pause(at=5.0, queue="low", until=20.0))
    pauses.take(events.Pause(at=5.0, queue="of others"))
    assert (pauses.active(10.0), pauses.active(20.0)) == (("high",), ("high", "low"))
    assert [pause.queue for pause in pauses.in_force(10.0)] == ["low"]
    pauses.take(events.Pause(at=4.0, queue="low", paused=False))  # older: it came late
    assert pauses.active(10.0) == ("high",)
    pauses.take(events.Pause(at=6.0, queue="low", paused=False))
    assert pauses.active(10.0) == ("high", "low")


@on_a_loop
async def test_a_job_of_a_paused_queue_that_was_not_started_goes_back_and_one_that_runs_goes_on() -> None:
    async with bench(1) as one:
        running, held = job(), job()
        first = deliver(one, running)
        second = deliver(one, held)
        one.worker.pauses.take(events.Pause(at=1.0, queue="task_queue"))
        one.worker.handle(inbox.Tick(late_s=0.0))
        await asyncio.gather(*one.worker.slots._pausing.values())
        assert ("listen", 0) in one.wire
        assert ("nack", second.tag) in one.wire
        finish(one, running, Succeeded())
        one.publishes.answer()
        one.handle_all()
        assert [each for each in one.wire if each[1] == first.tag][-1] == ("ack", first.tag)
        one.worker.pauses.take(events.Pause(at=2.0, queue="task_queue", paused=False))
        one.worker.handle(inbox.Tick(late_s=0.0))
        assert ("listen", 1) in one.wire
