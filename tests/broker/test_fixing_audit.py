"""Audit against real brokers: what is lost is named, what is not is not, and repair puts it right, once."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from jobrunner import envelope as envelopes
from jobrunner import events
from jobrunner.broker import declare, places, topology
from jobrunner.broker.browse import Browser
from jobrunner.broker.connection import Connection
from jobrunner.broker.publisher import Message, Stored, event_message, job_message
from jobrunner.brokerurl import BrokerUrl, parse_url
from jobrunner.client import Client
from jobrunner.envelope import Envelope, State, state_of
from jobrunner.fixing import auditing, census, looking
from jobrunner.fixing.auditing import Auditor
from jobrunner.fixing.findings import Report
from jobrunner.fixing.looking import SEEN_BEFORE, SEEN_UNROUTED, look
from jobrunner.fixing.repairing import Repairer
from tests.broker.lab import delayed, in_loop, lab, on_channel, to_queue
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.made import (
    a_job,
    cancelled_event,
    dead_event,
    letter,
    make_dead,
    publish,
    queued_event,
    synced,
)
from tests.support.proxy import Proxy
from tests.support.worker import WorkerProcess
from tests.support.world import own_vhost

QUEUE = "work.1"
AGO_S = 60.0
PAUSE_S = 0.2


@pytest.fixture(scope="module")
def own(broker: TestBroker) -> Iterator[str]:
    """A virtual host of these tests. To make one takes seconds, so they share it."""
    with own_vhost(broker, f"audit-{uuid4().hex[:6]}") as url:
        yield url


@pytest.fixture
def empty(own: str) -> str:
    """It, with no queue of jobs, no message and no ledger."""

    @in_loop
    async def clear() -> None:
        async with Client(parse_url(own)) as client:
            for queue in (QUEUE, topology.LEDGER, topology.CANCELS, topology.DEAD, topology.UNROUTED):
                with contextlib.suppress(declare.Missing):
                    await declare.delete_queue(client.connection, queue)
            if await declare.queue_depth(client.connection, topology.level(0)) is not None:
                for number in range(topology.LEVELS):
                    level = topology.level(number)
                    await on_channel(client.connection, lambda ch, done, q=level: ch.queue_purge(q, callback=done))

    clear()
    return own


async def audited(url: BrokerUrl, folder: Path, *, may_look: bool = True, repair: bool = False) -> Report:
    with await synced(folder / "view.sqlite", url) as store:
        async with Client(url) as client:
            report = await Auditor(store, client, may_look=may_look, pause_s=PAUSE_S).run()
            if repair:
                repairer = Repairer(store, client)
                await repairer.run(report)
                assert all(one.is_good for one in repairer.told), repairer.told
    places = report.ready + report.running + report.later + report.moving + report.unproven + report.unnamed
    assert report.open == places + len(report.findings)
    return report


def found(report: Report, kind: str) -> set[str]:
    return {one.id for one in report.findings if one.kind == kind}


async def store_in(url: BrokerUrl, *jobs: Envelope) -> None:
    """Put jobs into their queue, without a word to the ledger."""
    async with Client(url) as client:
        for queue in {job.job.queue for job in jobs}:
            if any(job.state.not_before_ms for job in jobs):
                await places.ensure_ladder(client.connection, queue)
            await places.ensure_user_queue(client.connection, queue)
    messages = [delayed(job, 3600) if job.state.not_before_ms else to_queue(job) for job in jobs]
    await publish(url, messages)


def later_job() -> Envelope:
    job = a_job(QUEUE)
    return msgspec.structs.replace(job, state=State(not_before_ms=int((time.time() + 3600) * 1000)))


def some(count: int) -> list[Envelope]:
    return [a_job(QUEUE) for _ in range(count)]


@in_loop
async def test_where_nothing_is_lost_the_numbers_agree(empty: str, tmp_path: Path) -> None:
    url = parse_url(empty)
    waiting, later, cancelled = some(3), [later_job(), later_job()], a_job(QUEUE)
    await store_in(url, *waiting, *later)
    await make_dead(url, a_job(QUEUE))
    await publish(url, [queued_event(*waiting, *later, cancelled, ago_s=AGO_S), cancelled_event(cancelled)])
    report = await audited(url, tmp_path)
    assert (report.lost, report.findings, report.unproven, report.notes) == (0, [], 0, [])
    assert (report.accepted, report.open, report.ready, report.later, report.letters) == (7, 5, 3, 2, 1)
    assert report.ended == {"succeeded": 0, "dead": 1, "cancelled": 1, "expired": 0}
    fresh = a_job(QUEUE)
    await publish(url, [queued_event(fresh)])
    assert (await audited(url, tmp_path)).moving == 1


@in_loop
async def test_what_is_missing_from_a_queue_is_named_and_repaired_once(empty: str, tmp_path: Path) -> None:
    url = parse_url(empty)
    there, lost = some(5), some(2)
    await store_in(url, *there)
    await publish(url, [queued_event(*there, *lost, ago_s=AGO_S)])
    counted = await audited(url, tmp_path, may_look=False)
    assert (counted.lost, counted.unproven, counted.findings) == (0, 2, [])
    report = await audited(url, tmp_path, repair=True)
    assert found(report, "lost") == {job.job.id for job in lost}
    assert all("not in its queue, at no worker" in one.text for one in report.findings)
    again = await audited(url, tmp_path)
    assert (again.lost, again.unproven, again.accepted) == (0, 0, 7)
    async with lab(str_of(url)) as here:
        for slot in range(7):
            await here.consumer(QUEUE, slot=slot)
        came = [await here.inbox.delivery() for _ in range(7)]
    assert [one.message_id for one in came][:5] == [job.job.id for job in there]
    chains = {one.message_id: state_of(dict(one.headers)).chain for one in came}
    assert chains == {job.job.id: 0 for job in there} | {job.job.id: 1 for job in lost}


@in_loop
async def test_of_two_repairs_that_found_the_same_only_one_queues_it(empty: str, tmp_path: Path) -> None:
    url = parse_url(empty)
    there, lost = a_job(QUEUE), a_job(QUEUE)
    await store_in(url, there)
    await publish(url, [queued_event(there, lost, ago_s=AGO_S)])
    report = await audited(url, tmp_path)
    assert found(report, "lost") == {lost.job.id}
    async with Client(url) as client:
        with await synced(tmp_path / "view.sqlite", url) as store:
            told = []
            for repairer in (Repairer(store, client), Repairer(store, client)):
                await repairer.run(report)
                told += [one.done for one in repairer.told]
        assert await declare.queue_depth(client.connection, QUEUE) == (2, 0)
    assert told == ["queued again from the ledger", "was queued again or runs meanwhile; nothing was done"]


def str_of(url: BrokerUrl) -> str:
    return f"amqp://{url.user}:{url.password}@{url.address}/{url.vhost}"


@in_loop
async def test_an_empty_queue_proves_by_itself_and_delayed_jobs_are_counted(empty: str, tmp_path: Path) -> None:
    url = parse_url(empty)
    waiting, later = some(2), [later_job(), later_job()]
    await publish(url, [queued_event(*waiting, *later, ago_s=AGO_S)])
    report = await audited(url, tmp_path, may_look=False)
    assert found(report, "lost") == {job.job.id for job in [*waiting, *later]}
    await store_in(url, later[0])
    report = await audited(url, tmp_path, may_look=False)
    assert (found(report, "lost"), report.unnamed, report.lost) == ({job.job.id for job in waiting}, 1, 3)
    repaired = await audited(url, tmp_path, repair=True)
    assert found(repaired, "lost") == {job.job.id for job in waiting}


@in_loop
async def test_a_silent_worker_that_could_have_the_job_leaves_it_unproven(empty: str, tmp_path: Path) -> None:
    url = parse_url(empty)
    (job,) = some(1)
    worker = events.Worker(
        at=time.time(),
        phase="online",
        name="w9",
        host="h",
        pid=1,
        version="1",
        python="3",
        slots=1,
        busy=0,
        queues=[QUEUE],
        started_at=time.time(),
    )
    await publish(url, [queued_event(job, ago_s=AGO_S), event_message(worker)])
    report = await audited(url, tmp_path)
    assert (report.lost, found(report, "unproven")) == (0, {job.job.id})
    assert "worker w9 does not answer and may have it" in report.findings[0].text


@in_loop
async def test_what_the_broker_gave_up_and_what_had_no_queue_is_named_and_put_right(empty: str, tmp_path: Path) -> None:
    url = parse_url(empty)
    given_up, unrouted, gone_on = some(3)
    by_broker = Message(topology.DLX, QUEUE, given_up.body, given_up.job.id, envelopes.JOB_TYPE, 4)
    nowhere = job_message(unrouted, topology.JOBS, "no-such-queue")
    again = msgspec.structs.replace(gone_on, state=State(chain=1, copy=2))
    await store_in(url, again)
    await publish(
        url,
        [
            by_broker,
            nowhere,
            queued_event(given_up, unrouted, gone_on, ago_s=AGO_S),
            letter(gone_on),
            dead_event(gone_on),
            queued_event(again, ago_s=AGO_S),
        ],
    )
    # of three that wait, one message is in the queue: that of the job that went on
    report = await audited(url, tmp_path, repair=True)
    assert (report.lost, report.unrouted, report.letters) == (0, 1, 2)
    assert (found(report, "given_up"), found(report, "unrouted")) == ({given_up.job.id}, {unrouted.job.id})
    assert report.stale_letters == 1
    after = await audited(url, tmp_path)
    assert (after.lost, after.findings, after.unrouted, after.stale_letters, after.letters) == (0, [], 0, 0, 1)
    assert (after.ended["dead"], after.open) == (1, 2)


@in_loop
async def test_a_dead_job_without_a_letter_is_noted_and_not_lost(empty: str, tmp_path: Path) -> None:
    url = parse_url(empty)
    (job,) = some(1)
    await publish(url, [queued_event(job, ago_s=AGO_S), dead_event(job)])
    report = await audited(url, tmp_path)
    assert (report.lost, report.findings) == (0, [])
    assert report.notes == ["Dead jobs without a dead letter: 1; `retry` queues them from the ledger."]


@in_loop
async def test_what_had_no_queue_is_not_called_lost_however_often_it_was_looked_at(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = parse_url(empty)
    jobs = some(400)
    await publish(url, [queued_event(*jobs, ago_s=AGO_S), *(job_message(job, topology.JOBS, "gone") for job in jobs)])
    async with Client(url) as client:
        for _ in range(SEEN_BEFORE + 1):
            await look(client.connection, topology.UNROUTED, seen=SEEN_UNROUTED)
    report = await audited(url, tmp_path)
    assert (report.lost, len(found(report, "unrouted"))) == (0, 400)
    monkeypatch.setattr(auditing, "SEEN_UNROUTED", SEEN_BEFORE)  # as many looks later
    report = await audited(url, tmp_path)
    assert report.lost == 0
    assert report.unproven > 0
    await audited(url, tmp_path, repair=True)
    after = await audited(url, tmp_path)
    assert (after.lost, after.findings, after.unrouted, after.open) == (0, [], 0, 400)


@in_loop
async def test_a_queue_whose_leader_is_too_busy_to_count_is_not_empty(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, jobs = parse_url(empty), some(3)
    await store_in(url, *jobs)
    await publish(url, [queued_event(*jobs, ago_s=AGO_S)])
    depth = declare.queue_depth

    async def not_counted(connection: Connection, queue: str) -> tuple[int, int] | None:
        # Source: rabbit_quorum_queue.erl: a leader that does not answer within 250 ms has no messages
        return (0, 0) if queue == QUEUE else await depth(connection, queue)

    monkeypatch.setattr(declare, "queue_depth", not_counted)
    report = await audited(url, tmp_path)
    assert (report.findings, report.ready) == ([], 3)


@in_loop
async def test_a_broker_that_stands_still_for_a_moment_has_not_given_all(
    broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # larger than what the wire holds: so the rest of them is still to come when it stops
    jobs = [a_job(queue_name, args=msgspec.Raw(b'["%b"]' % (b"x" * 200_000))) for _ in range(60)]
    async with Proxy(broker.url) as proxy, lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        for one in jobs:
            assert isinstance(await publisher.publish_confirmed(to_queue(one)), Stored)
        consuming = Browser._consuming

        def stalled(browser: Browser, frame: object) -> None:
            proxy.stall("down")
            asyncio.get_running_loop().call_later(1.0, proxy.flow)
            consuming(browser, frame)

        monkeypatch.setattr(looking, "HOLD_S", 30.0)
        monkeypatch.setattr(Browser, "_consuming", stalled)
        sighting = await look(await made.connect(url=proxy.url), queue_name)
        assert (sighting.reason, len(sighting.deliveries)) == ("", len(jobs))


def test_a_job_that_a_new_worker_asks_about_is_not_lost(
    empty: str, tmp_path: Path, make_commands: Callable[..., Commands], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was killed. The next one has the message, and waits for whom it may still be with."""
    monkeypatch.setattr(census, "GRACE_S", 0.0)
    witness, gate = tmp_path / "witness", tmp_path / "gate"
    cli = make_commands(JOBRUNNER_URL=empty)
    options = ("-q", QUEUE, "-p", "1", "--name", "w1")
    with WorkerProcess(cli, *options) as worker:
        cli.run("enqueue", "-q", QUEUE, "tasks:until", str(witness), str(gate))
        worker.wait_for("job.started")
        worker.kill()
    with WorkerProcess(cli, *options, "--lost-after", "1h") as worker:
        worker.wait_for("job.asking")
        report = asyncio.run(audited(parse_url(empty), tmp_path))
        assert (found(report, "lost"), report.unproven) == (set(), 0)
        gate.touch()
