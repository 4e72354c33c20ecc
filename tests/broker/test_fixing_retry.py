"""Retry against a real broker: a dead letter goes only after its job is in its queue, and never makes two."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from jobrunner.broker import topology
from jobrunner.broker.consumer import Delivery
from jobrunner.broker.publisher import Message
from jobrunner.client import Client
from jobrunner.envelope import Envelope, State, decode, state_of
from jobrunner.errors import LettersInUse
from jobrunner.fixing import letters as fixing_letters
from jobrunner.fixing.changes import COPY_STEP, parse_changes
from jobrunner.fixing.letters import Letter, Letters
from jobrunner.fixing.purging import LetterPurge
from jobrunner.fixing.retrying import Retried, Retrier
from jobrunner.ids import id_of
from jobrunner.view.recorder import sync
from jobrunner.view.store import Store
from tests.broker.lab import in_loop, lab
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_is
from tests.support.made import (
    FAILED,
    a_job,
    cancelled_event,
    dead_event,
    letter,
    make_dead,
    publish,
    queued_event,
    synced,
)


async def retried(store: Store, client: Client, ids: Sequence[str], **options: object) -> dict[str, Retried]:
    done: list[Retried] = []
    rows = [store.job(job_id) for job_id in ids]
    await Retrier(store, client, done.append, **options).run([row for row in rows if row])  # type: ignore[arg-type]
    assert len({one.id for one in done}) == len(done)
    return {one.id: one for one in done}


async def letters_of(broker: TestBroker, ids: Sequence[str]) -> list[Letter]:
    """The dead letters of these jobs, left where they are, in their order.

    A broker that counts late makes the reading begin again with a wider window: then they come once more.
    """
    found: dict[str, Letter] = {}
    async with Client(broker.parsed) as client, Letters(client.connection, wanted=1, timeout_s=10) as letters:
        async for batch in letters.batches(lambda one: one.id in ids):
            for letter in batch:
                found.pop(letter.id, None)
                found[letter.id] = letter
    return list(found.values())


@asynccontextmanager
async def a_client(broker: TestBroker, tmp_path: Path) -> AsyncIterator[tuple[Client, Store]]:
    with await synced(tmp_path / "view.sqlite", broker.parsed) as store:
        async with Client(broker.parsed) as client:
            yield client, store


async def taken(broker: TestBroker, queue: str, count: int) -> list[Delivery]:
    """What lies in a queue."""
    async with lab(broker.url) as here:
        for slot in range(count):
            await here.consumer(queue, slot=slot)
        return [await here.inbox.delivery() for _ in range(count)]


@in_loop
async def test_a_dead_job_returns_with_its_next_chain_and_its_letter_is_gone(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    job, other = a_job(queue_name), a_job(queue_name)
    await make_dead(broker.parsed, job, other)
    async with a_client(broker, tmp_path) as (client, store):
        assert await retried(store, client, [job.job.id]) == {job.job.id: Retried(id=job.job.id, chain=1)}
    (delivery,) = await taken(broker, queue_name, 1)
    state = state_of(dict(delivery.headers))
    assert (state.attempt, state.crashes, state.chain, state.copy) == (0, 0, 1, 2)
    assert delivery.body == job.body
    assert not [name for name in delivery.headers if name.startswith(("x-", "jr-reason", "jr-error"))]
    assert [one.id for one in await letters_of(broker, [job.job.id, other.job.id])] == [other.job.id]
    with await synced(tmp_path / "view2.sqlite", broker.parsed) as store:
        row = store.job(job.job.id)
        assert row is not None
        assert (row.state, row.chain, row.attempt, row.error) == ("queued", 1, 0, None)


@in_loop
async def test_letters_that_stay_keep_their_order_whatever_is_taken_from_between(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    jobs = [a_job(queue_name) for _ in range(1200)]
    await make_dead(broker.parsed, *jobs)
    chosen = [job.job.id for job in jobs[::3]]
    async with a_client(broker, tmp_path) as (client, store):
        done = await retried(store, client, chosen)
        assert {one.error for one in done.values()} == {None}
        await eventually_is(lambda: client.depth(queue_name), (400, 0))
    left = [job.job.id for job in jobs if job.job.id not in set(chosen)]
    assert [one.id for one in await letters_of(broker, [job.job.id for job in jobs])] == left


@in_loop
async def test_two_retries_at_once_make_one_copy_and_the_other_says_so(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    jobs = [a_job(queue_name) for _ in range(20)]
    gone = [a_job(queue_name) for _ in range(5)]
    await make_dead(broker.parsed, *jobs)
    await publish(broker.parsed, [queued_event(*gone), *map(cancelled_event, gone)])
    ids = [job.job.id for job in [*jobs, *gone]]
    async with (
        a_client(broker, tmp_path / "a") as (first, one),
        a_client(broker, tmp_path / "b") as (second, two),
    ):
        answers = await asyncio.gather(retried(one, first, ids), retried(two, second, ids))
        await eventually_is(lambda: first.depth(queue_name), (25, 0))
    for job_id in ids:
        errors = [answer[job_id].error for answer in answers]
        assert sorted(error or "" for error in errors) == ["", "was retried by somebody else, and is queued"]


@in_loop
async def test_while_others_hold_the_letters_a_command_waits_and_then_says_so(
    broker: TestBroker, queue_name: str
) -> None:
    await make_dead(broker.parsed, a_job(queue_name))
    async with (
        Client(broker.parsed) as client,
        Client(broker.parsed) as other,
        Letters(other.connection, wanted=1, timeout_s=10),
    ):
        with pytest.raises(LettersInUse):
            async with Letters(client.connection, wanted=1, timeout_s=0.5):
                pass


@in_loop
async def test_a_cancelled_job_returns_from_the_ledger_with_a_copy_that_no_old_message_has(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    job = a_job(queue_name, kwargs=msgspec.Raw(b'{"a":1}'))
    await publish(broker.parsed, [queued_event(job), cancelled_event(job)])
    async with a_client(broker, tmp_path) as (client, store):
        done = await retried(store, client, [job.job.id])
        assert done[job.job.id].error is None
    (delivery,) = await taken(broker, queue_name, 1)
    state = state_of(dict(delivery.headers))
    assert (state.chain, state.copy) == (1, COPY_STEP)
    assert delivery.body == job.body


@in_loop
async def test_a_dead_job_whose_letter_somebody_purged_returns_from_the_ledger_and_that_is_said(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    job = a_job(queue_name)

    await publish(broker.parsed, [queued_event(job), dead_event(job)])
    async with a_client(broker, tmp_path) as (client, store):
        done = await retried(store, client, [job.job.id])
        assert done[job.job.id].note == "its dead letter was gone; queued from the ledger"
        await eventually_is(lambda: client.depth(queue_name), (1, 0))


@in_loop
async def test_a_job_that_goes_on_is_left_alone_and_a_second_letter_of_it_goes(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    job = a_job(queue_name)
    await make_dead(broker.parsed, job)
    await publish(broker.parsed, [letter(job)])
    async with a_client(broker, tmp_path) as (client, store):
        assert (await retried(store, client, [job.job.id]))[job.job.id].chain == 1
        await sync(store, broker.parsed, timeout_s=10)
        again = await retried(store, client, [job.job.id])
        assert again[job.job.id].error == "is queued"
        await eventually_is(lambda: client.depth(queue_name), (1, 0))


@in_loop
async def test_a_purge_takes_the_second_letter_of_a_job_and_its_own(
    broker: TestBroker, queue_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixing_letters, "BATCH", 1)  # as if hundreds of others lay between them
    job = a_job(queue_name)
    await publish(broker.parsed, [letter(job)])
    await make_dead(broker.parsed, msgspec.structs.replace(job, state=State(chain=1, copy=2)))
    told: dict[str, bool] = {}
    async with a_client(broker, tmp_path) as (client, store):
        row = store.job(job.job.id)
        assert row is not None
        await LetterPurge(store, client, told.__setitem__).run([row])
    assert told == {job.job.id: True}
    assert await letters_of(broker, [job.job.id]) == []


@in_loop
async def test_set_rewrites_the_body_and_keeps_the_rest(broker: TestBroker, queue_name: str, tmp_path: Path) -> None:
    target = f"{queue_name}-b"
    job: Envelope = a_job(queue_name, kwargs=msgspec.Raw(b'{"a":1}'), timeout_s=5.0, tags=["t"], expires_at=1.0)
    await make_dead(broker.parsed, job)
    changes = parse_changes([f"queue={target}", "timeout=", "retries=7", "priority=high", "backoff=1s..5s"])
    async with a_client(broker, tmp_path) as (client, store):
        assert (await retried(store, client, [job.job.id], changes=changes))[job.job.id].error is None
    (delivery,) = await taken(broker, target, 1)
    changed = decode(delivery.body, job.job.id)
    assert delivery.priority == 8
    assert (changed.queue, changed.timeout_s, changed.max_attempts) == (target, None, 8)
    assert (changed.backoff_s, changed.backoff_max_s, changed.expires_at) == (1.0, 5.0, None)
    assert (bytes(changed.kwargs), changed.tags, changed.iat) == (b'{"a":1}', ["t"], job.job.iat)


@in_loop
async def test_with_a_delay_it_waits_in_the_ladder(broker: TestBroker, queue_name: str, tmp_path: Path) -> None:
    job = a_job(queue_name)
    await make_dead(broker.parsed, job)
    async with a_client(broker, tmp_path) as (client, store):
        await retried(store, client, [job.job.id], delay_s=60)
        assert await client.depth(queue_name) == (0, 0)
    with await synced(tmp_path / "view2.sqlite", broker.parsed) as store:
        row = store.job(job.job.id)
        assert row is not None
        assert row.state == "scheduled"


@in_loop
async def test_a_rate_spreads_the_jobs(broker: TestBroker, queue_name: str, tmp_path: Path) -> None:
    jobs = [a_job(queue_name) for _ in range(6)]
    await make_dead(broker.parsed, *jobs)
    async with a_client(broker, tmp_path) as (client, store):
        began = asyncio.get_running_loop().time()
        await retried(store, client, [job.job.id for job in jobs], rate=10.0)
        assert asyncio.get_running_loop().time() - began >= 0.5


@in_loop
async def test_a_letter_that_is_no_job_stays_and_that_is_said(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:

    body = f"not a job {queue_name}".encode()
    job_id = id_of(body)
    headers: dict[str, int | str] = {"jr-reason": "malformed", "jr-queue": queue_name}
    foreign = Message(topology.DLX, "malformed", body, job_id, "jobrunner.unreadable", None, headers)
    job = a_job(queue_name, job_id=job_id)
    await publish(broker.parsed, [foreign, dead_event(job, FAILED)])
    async with a_client(broker, tmp_path) as (client, store):
        done = await retried(store, client, [job_id])
        assert done[job_id].error == "cannot be queued again: the ledger has no longer what it was"
    assert len(await letters_of(broker, [job_id])) == 1
