"""Views of real ledgers: nothing missed, nothing twice, whatever becomes of the stream, the file or the wire."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobrunner import events
from jobrunner.broker import declare, topology
from jobrunner.broker.batch import all_answers
from jobrunner.broker.connection import Connection
from jobrunner.broker.message import message_id_of
from jobrunner.broker.publisher import Message, Stored, event_message
from jobrunner.broker.stream import Record
from jobrunner.brokerurl import BrokerUrl, parse_url
from jobrunner.cli import viewing
from jobrunner.errors import BrokerRefused, BrokerTimeout
from jobrunner.ids import new_id
from jobrunner.view.recorder import _Recorder, follow, sync
from jobrunner.view.store import Store
from tests.broker.lab import Lab, in_loop, lab, on_channel
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_async
from tests.support.history import queued, words
from tests.support.proxy import Proxy

PATIENCE_S = 30.0


def some(count: int) -> list[events.Event]:
    """That many new jobs."""
    return [queued(new_id(), time.time()) for _ in range(count)]


async def publish(made: Lab, told: Sequence[events.Event]) -> None:
    """All of them, confirmed."""
    publisher = await made.publisher()
    for start in range(0, len(told), 5_000):
        answers = await all_answers(publisher, [event_message(each) for each in told[start : start + 5_000]])
        assert all(isinstance(answer, Stored) for answer in answers)
    await publisher.connection.close()


async def declare_ledger(made: Lab) -> None:
    """What a worker declares."""
    publisher = await made.publisher()
    await declare.declare_startup(publisher.connection, publisher)
    await publisher.connection.close()


async def delete_ledger(made: Lab) -> None:
    connection = await made.connect("admin")
    await on_channel(connection, lambda channel, done: channel.queue_delete(topology.LEDGER, callback=done))
    await connection.close()


def ids_of(told: Sequence[events.Event]) -> set[str]:
    return {message_id_of(each).partition(".")[0] for each in told}


def known(store: Store) -> set[str]:
    return {row.id for row in store.jobs(words(now=time.time()), limit=None)}


async def rebuilt(url: BrokerUrl, path: Path) -> list[Any]:
    """What a new view tells."""
    with Store.open(path) as store:
        await sync(store, url, timeout_s=PATIENCE_S)
        return everything(store)


def everything(store: Store) -> list[Any]:
    rows = store.jobs(words(now=time.time()), limit=None)
    return sorted((row.id, row.state, len(store.attempts(row.id))) for row in rows)


@contextlib.asynccontextmanager
async def following(store: Store, url: BrokerUrl, on_fold: Callable[[list[Record]], None]) -> AsyncIterator[None]:
    task = asyncio.create_task(follow(store, url, on_fold))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@in_loop
async def test_a_view_knows_what_was_confirmed_before_it_was_asked(broker: TestBroker, tmp_path: Path) -> None:
    async with lab(broker.url) as made:
        await declare_ledger(made)
        with Store.open(tmp_path / "view") as store:
            await sync(store, broker.parsed, timeout_s=PATIENCE_S)
            for count in [1] * 40 + [700, 1, 2500, 3, 1]:
                told = some(count)
                await publish(made, told)
                await sync(store, broker.parsed, timeout_s=PATIENCE_S)
                assert ids_of(told) <= known(store)


@in_loop
async def test_a_long_ledger_is_read_whole_and_says_how_far_it_is(
    make_vhost: Callable[..., str], tmp_path: Path
) -> None:
    url = make_vhost()
    told = some(30_000)
    seen: list[tuple[int, float | None]] = []
    async with lab(url) as made:
        await declare_ledger(made)
        await publish(made, told)
        with Store.open(tmp_path / "view") as store:
            await sync(store, parse_url(url), timeout_s=PATIENCE_S, on_progress=lambda *step: seen.append(step))
            assert ids_of(told) <= known(store)
            assert store.holes == []
    assert [records for records, _ in seen] == sorted(records for records, _ in seen)
    fractions = [fraction for _, fraction in seen if fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0.9


@in_loop
async def test_where_no_worker_ever_started_a_view_is_empty_and_waits_for_the_first(
    broker: TestBroker, make_vhost: Callable[..., str], tmp_path: Path
) -> None:
    url = make_vhost()
    del broker
    async with lab(url) as made:
        with Store.open(tmp_path / "view") as store:
            await sync(store, parse_url(url), timeout_s=PATIENCE_S)
            assert (store.anchor, known(store)) == (None, set())
            told = some(2)
            async with following(store, parse_url(url), lambda _: None):
                await declare_ledger(made)
                await publish(made, told)

                def seen() -> None:
                    assert known(store) == ids_of(told)

                await eventually_async(seen, timeout_s=PATIENCE_S)
            assert store.genesis is not None


@in_loop
async def test_a_stream_made_anew_begins_the_view_anew_be_it_shorter_longer_or_empty(
    broker: TestBroker, make_vhost: Callable[..., str], tmp_path: Path
) -> None:
    url = make_vhost()
    del broker
    async with lab(url) as made:
        with Store.open(tmp_path / "view") as store:
            for count in (30, 5, 90, 0, 3):
                await declare_ledger(made)
                told = some(count)
                await publish(made, told)
                await sync(store, parse_url(url), timeout_s=PATIENCE_S)
                assert known(store) == ids_of(told)
                assert store.holes == []
                await delete_ledger(made)
            await sync(store, parse_url(url), timeout_s=PATIENCE_S)
            assert known(store) == ids_of(told)  # no ledger: what is known stays


@in_loop
async def test_what_retention_took_before_it_was_seen_is_marked_as_a_hole(
    broker: TestBroker, make_vhost: Callable[..., str], tmp_path: Path
) -> None:
    url = make_vhost()
    del broker
    arguments = {
        "x-queue-type": "stream",
        "x-max-length-bytes": 300_000,
        "x-stream-max-segment-size-bytes": 100_000,
    }
    async with lab(url) as made:
        connection = await made.connect("admin")
        exchange = topology.Exchange(topology.EVENTS, "topic")
        ledger = topology.Queue(topology.LEDGER, arguments)
        await declare.declare(connection, [exchange, ledger, topology.Binding(topology.EVENTS, topology.LEDGER, "#")])
        with Store.open(tmp_path / "view") as store:
            before = some(10)
            await publish(made, before)
            await sync(store, parse_url(url), timeout_s=PATIENCE_S)
            anchor = store.anchor
            assert anchor is not None
            lost, last = some(6_000), some(10)
            await publish(made, lost)
            await publish(made, last)
            await sync(store, parse_url(url), timeout_s=PATIENCE_S)
            (hole,) = store.holes
            assert hole.first_offset == anchor[0] + 1
            assert ids_of(before) | ids_of(last) <= known(store)
            assert len(known(store)) < len(before) + len(lost) + len(last)
            await sync(store, parse_url(url), timeout_s=PATIENCE_S)
            assert store.holes == [hole]


@in_loop
async def test_two_at_once_on_one_file_tell_what_a_new_view_tells(
    make_vhost: Callable[..., str], tmp_path: Path
) -> None:
    url = make_vhost()
    told = some(4_000)
    async with lab(url) as made:
        await declare_ledger(made)
        with Store.open(tmp_path / "view") as one, Store.open(tmp_path / "view") as other:
            publishing = asyncio.create_task(publish(made, told))
            for _ in range(3):
                await asyncio.gather(*(sync(store, parse_url(url), timeout_s=PATIENCE_S) for store in (one, other)))
            await publishing
            await asyncio.gather(*(sync(store, parse_url(url), timeout_s=PATIENCE_S) for store in (one, other)))
            assert ids_of(told) <= known(one)
            assert everything(one) == everything(other) == await rebuilt(parse_url(url), tmp_path / "anew")


DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from jobrunner.brokerurl import parse_url
from jobrunner.view.anchor import Anchor
from jobrunner.view.recorder import sync
from jobrunner.view.store import Store

moves = 0
def move(self, record):
    global moves
    moves += 1
    if moves == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # rows are written, the transaction is open
    put(self, record)

put, Anchor.move = Anchor.move, move
with Store.open(Path(sys.argv[1])) as store:
    asyncio.run(sync(store, parse_url(sys.argv[2]), timeout_s=30.0))
"""


@in_loop
async def test_a_process_killed_in_the_middle_of_a_fold_leaves_a_view_that_goes_on(
    make_vhost: Callable[..., str], tmp_path: Path
) -> None:
    url = make_vhost()
    told = some(10_000)
    path = tmp_path / "view"
    async with lab(url) as made:
        await declare_ledger(made)
        await publish(made, told)
        died = subprocess.run([sys.executable, "-c", DYING, str(path), url], check=False, timeout=60)  # noqa: ASYNC221
        assert died.returncode == -signal.SIGKILL
        with Store.open(path) as store:
            before = len(known(store))
            await sync(store, parse_url(url), timeout_s=PATIENCE_S)
            assert 0 < before < len(known(store))
            assert ids_of(told) <= known(store)
            assert everything(store) == await rebuilt(parse_url(url), tmp_path / "anew")


@in_loop
async def test_who_follows_gets_each_record_once_and_in_order_also_across_a_lost_connection(
    broker: TestBroker, tmp_path: Path
) -> None:
    told = some(600)
    got: list[Record] = []
    async with lab(broker.url) as made, Proxy(broker.url) as proxy:
        await declare_ledger(made)
        with Store.open(tmp_path / "view") as store, Store.open(tmp_path / "view") as other:
            await sync(store, broker.parsed, timeout_s=PATIENCE_S)
            async with following(store, parse_url(proxy.url), got.extend):
                for start in range(0, len(told), 200):
                    part = told[start : start + 200]
                    await publish(made, part)
                    # another command folds the same records meanwhile
                    await sync(other, broker.parsed, timeout_s=PATIENCE_S)
                    await eventually_async(lambda so_far=start + 200: _came(got, so_far), timeout_s=PATIENCE_S)
                    proxy.cut()
            assert ids_of(told) <= known(store)
    mine = [record for record in got if record.message_id in {message_id_of(each) for each in told}]
    assert [record.message_id for record in mine] == [message_id_of(each) for each in told]
    assert [record.offset for record in got] == sorted({record.offset for record in got})


def _came(got: list[Record], count: int) -> None:
    assert len(got) >= count


@in_loop
async def test_what_another_process_folds_while_a_wait_begins_is_not_missed(
    make_vhost: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_vhost(quorum=True)
    main, may_connect, connect = asyncio.current_task(), asyncio.Event(), Connection.connect_once

    async def held(connection: Connection) -> None:
        if asyncio.current_task() is not main:
            await may_connect.wait()
        await connect(connection)

    monkeypatch.setattr(Connection, "connect_once", held)
    shared: Any = SimpleNamespace(settings=SimpleNamespace(url=parse_url(url)))
    got: list[Record] = []
    told = some(3)
    async with lab(url) as made:
        await declare_ledger(made)
        await publish(made, told[:1])
        with Store.open(tmp_path / "view") as store, Store.open(tmp_path / "view") as other:
            await sync(store, parse_url(url), timeout_s=PATIENCE_S)
            async with viewing.following(shared, store, got.extend):
                await publish(made, told[1:])
                await sync(other, parse_url(url), timeout_s=PATIENCE_S)
                may_connect.set()

                async def has_both() -> None:
                    assert [record.message_id for record in got] == [message_id_of(each) for each in told[1:]]

                await eventually_async(has_both, timeout_s=PATIENCE_S)


@in_loop
async def test_what_happens_is_seen_at_once_by_who_follows(broker: TestBroker, tmp_path: Path) -> None:
    late_s: list[float] = []
    came = asyncio.Event()
    async with lab(broker.url) as made:
        await declare_ledger(made)
        publisher = await made.publisher()
        with Store.open(tmp_path / "view") as store:
            await sync(store, broker.parsed, timeout_s=PATIENCE_S)
            async with following(store, broker.parsed, lambda _: came.set()):
                for _ in range(20):
                    came.clear()
                    event = queued(job_id := new_id(), time.time())
                    await publisher.publish_confirmed(event_message(event))
                    published = time.monotonic()
                    async with asyncio.timeout(PATIENCE_S):
                        while store.job(job_id) is None:
                            came.clear()
                            await came.wait()
                    late_s.append(time.monotonic() - published)
    assert sorted(late_s)[2] < 0.15, late_s  # whoever asks once a second is late each time


@in_loop
async def test_what_others_write_into_the_stream_is_passed_over(broker: TestBroker, tmp_path: Path) -> None:
    forged, real = some(1)[0], some(1)[0]
    async with lab(broker.url) as made:
        await declare_ledger(made)
        publisher = await made.publisher()
        body = events.encode(forged)
        straight = Message(exchange="", key=topology.LEDGER, body=body, message_id="x", type=events.EVENT_TYPE)
        assert isinstance(await publisher.publish_confirmed(straight), Stored)
        await publish(made, [real])
        with Store.open(tmp_path / "view") as store:
            await sync(store, broker.parsed, timeout_s=PATIENCE_S)
            assert ids_of([real]) <= known(store)
            assert not ids_of([forged]) & known(store)


@in_loop
async def test_a_view_damaged_while_it_is_folded_is_built_anew(broker: TestBroker, tmp_path: Path) -> None:
    path = tmp_path / "view"
    notices: list[str] = []
    async with lab(broker.url) as made:
        await declare_ledger(made)
        await publish(made, some(500))
        with Store.open(path) as store:
            await sync(store, broker.parsed, timeout_s=PATIENCE_S)
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(b"\xa5" * (size - 8192))
        with Store.open(path, on_notice=notices.append) as store:
            await publish(made, some(1))
            await sync(store, broker.parsed, timeout_s=PATIENCE_S)
            assert everything(store) == await rebuilt(broker.parsed, tmp_path / "anew")
    assert len(notices) == 1


@in_loop
async def test_the_silence_of_a_stuck_broker_is_not_taken_for_an_empty_ledger(
    broker: TestBroker, tmp_path: Path
) -> None:
    told = some(3)
    async with lab(broker.url) as made, Proxy(broker.url) as proxy:
        await declare_ledger(made)
        await publish(made, told)
        connection = await made.connect("view", url=proxy.url)
        with Store.open(tmp_path / "view") as store:
            await sync(store, broker.parsed, timeout_s=PATIENCE_S)
            proxy.stall("down")
            with pytest.raises(BrokerTimeout):
                await _Recorder(store, connection, 1.0).catch_up()
            proxy.flow()
            assert ids_of(told) <= known(store)
            await _Recorder(store, connection, PATIENCE_S).catch_up()


@in_loop
async def test_a_broker_that_is_not_there_is_told(tmp_path: Path, broker: TestBroker) -> None:
    url = parse_url(broker.url.replace(f":{broker.port}", ":1"))
    with Store.open(tmp_path / "view") as store:
        with pytest.raises(BrokerRefused):
            await sync(store, url, timeout_s=2.0)
        with pytest.raises(BrokerRefused):
            await follow(store, url, lambda _: None, timeout_s=2.0)
