"""A map against real brokers: how much is on its way, and that nothing is lost or given twice whatever happens."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobrunner.brokerurl import parse_url
from jobrunner.client import Client
from jobrunner.envelope import Envelope
from jobrunner.errors import JobrunnerError
from jobrunner.mapping import halting
from jobrunner.mapping.engine import Mapper
from jobrunner.mapping.halt import Halt
from jobrunner.mapping.inputs import Input
from jobrunner.mapping.items import Ended
from jobrunner.mapping.plan import Listener, Plan
from jobrunner.mapping.recipe import Recipe
from jobrunner.mapping.template import Call
from jobrunner.wishes import Wishes
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.proxy import Proxy
from tests.support.worker import WorkerProcess


class Inputs:
    """Numbers, and how many of them were read."""

    def __init__(self, count: int, piece: int = 100) -> None:
        self.count = count
        self.piece = piece
        self.read = 0

    async def chunks(self) -> AsyncGenerator[Sequence[Input], None]:
        for start in range(0, self.count, self.piece):
            yield [Input(str(number)) for number in range(start, min(self.count, start + self.piece))]
            self.read = min(self.count, start + self.piece)


class Seen(Listener):
    """The results, and what made queueing slow."""

    def __init__(self) -> None:
        self.results: list[Ended] = []
        self.troubles: list[str] = []
        self._more = asyncio.Event()

    def result(self, ended: Ended) -> None:
        self.results.append(ended)
        self._more.set()

    async def reached(self, count: int) -> None:
        """Until there are so many results."""
        async with asyncio.timeout(60):
            while len(self.results) < count:
                self._more.clear()
                await self._more.wait()

    def trouble(self, error: JobrunnerError) -> None:
        self.troubles.append(error.code)

    @property
    def values(self) -> list[int]:
        return [int(bytes(ended.result or b"-1")) for ended in self.results]


def recipe(queue: str, words: Iterable[str] = ("{}", "0"), **fields: Any) -> Recipe:
    wishes = Wishes(queue=queue, backoff=(0.1, 0.2))
    call = Call(list(words), has_keys=False)
    return Recipe(**{"run": queue, "wishes": wishes, "user": "me@here", "task": "tasks:add", "call": call, **fields})


async def _cancel(_jobs: dict[str, int]) -> None:
    """Nothing is halted here."""


@contextlib.asynccontextmanager
async def mapper(url: str, made: Recipe, seen: Seen, **plan: Any) -> AsyncIterator[Mapper]:
    async with Client(parse_url(url), timeout_s=10) as client:
        yield Mapper(client, made, Plan(**{"limit": 100, **plan}), seen, _cancel)


def work(broker: TestBroker, folder: Path, queue: str, *args: str) -> WorkerProcess:
    commands = Commands(folder, {"JOBRUNNER_URL": broker.url})
    return WorkerProcess(commands, "--app", "tasks", "-q", queue, "--procs", "2", "--log-level", "warning", *args)


async def run(url: str, made: Recipe, inputs: Inputs, seen: Seen, **plan: Any) -> Mapper:
    async with mapper(url, made, seen, **plan) as one:
        await one.run(inputs.chunks())
        return one


@pytest.mark.parametrize("ordered", [True, False])
def test_each_input_has_one_result(broker: TestBroker, queue_name: str, tmp_path: Path, ordered: bool) -> None:
    seen = Seen()
    with _quiet(work(broker, tmp_path, queue_name)):
        asyncio.run(run(broker.url, recipe(queue_name), Inputs(1500), seen, ordered=ordered))
    assert sorted(seen.values) == list(range(1500))
    assert not ordered or seen.values == list(range(1500))


@contextlib.contextmanager
def _quiet(worker: WorkerProcess) -> Any:
    """A worker that says nothing of its start; it ends with the block."""
    try:
        yield worker
    finally:
        worker.__exit__(None, None, None)


def test_without_a_worker_no_more_is_read_and_queued_than_may_be_on_its_way(
    broker: TestBroker, queue_name: str
) -> None:
    async def scene() -> tuple[int, int, int]:
        inputs, seen = Inputs(100_000), Seen()
        async with mapper(broker.url, recipe(queue_name), seen, limit=250) as one:
            running = asyncio.create_task(one.run(inputs.chunks()))
            async with Client(broker.parsed, timeout_s=10) as client:
                ready = await _until(client, queue_name, 250)
            await asyncio.sleep(0.5)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return inputs.read, one.counts.added, ready

    read, added, ready = asyncio.run(scene())
    assert (added, ready) == (250, 250)
    assert read <= 300


async def _until(client: Client, queue: str, ready: int) -> int:
    async with asyncio.timeout(20):
        while True:
            depth = await client.depth(queue)
            if depth is not None and depth[0] >= ready:
                return depth[0]
            await asyncio.sleep(0.05)


def test_a_broken_wire_loses_no_result_and_gives_none_twice(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    seen, inputs = Seen(), Inputs(3000)

    async def scene() -> None:
        async with Proxy(broker.url) as proxy, mapper(proxy.url, recipe(queue_name), seen, limit=400) as one:
            running = asyncio.create_task(one.run(inputs.chunks()))
            for at in (200, 900, 1800):
                await seen.reached(at)
                proxy.cut(reset=at == 900)
            await asyncio.wait_for(running, 100)

    with _quiet(work(broker, tmp_path, queue_name)):
        asyncio.run(scene())
    assert seen.values == list(range(3000))


def test_a_batch_is_one_job_and_each_input_has_its_result(broker: TestBroker, queue_name: str, tmp_path: Path) -> None:
    seen = Seen()
    with _quiet(work(broker, tmp_path, queue_name)):
        made = recipe(queue_name, batch=300)
        asyncio.run(run(broker.url, made, Inputs(1000, piece=70), seen, limit=3000))
    assert seen.values == list(range(1000))
    assert len({ended.id for ended in seen.results}) == 4


BAD = Input("", problem="it is bad")


async def _chunks(*chunks: Sequence[Input]) -> AsyncGenerator[Sequence[Input], None]:
    for chunk in chunks:
        yield chunk


def test_a_call_of_a_batch_that_is_not_full_does_not_keep_those_behind_it_from_being_read(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    seen = Seen()

    async def scene() -> None:
        async with asyncio.timeout(60), mapper(broker.url, recipe(queue_name, batch=5), seen, limit=10) as one:
            await one.run(_chunks([Input("7"), *[BAD] * 30, Input("8")]))

    with _quiet(work(broker, tmp_path, queue_name)):
        asyncio.run(scene())
    assert [ended.state for ended in seen.results] == ["succeeded", *["dead"] * 30, "succeeded"]


NOW = Halt(is_now=True, what="fail", count=1)


def test_what_was_read_with_the_input_that_halts_is_not_queued(broker: TestBroker, queue_name: str) -> None:
    async def scene() -> tuple[Seen, int]:
        seen, inputs = Seen(), [Input(str(number)) for number in range(50)]
        async with Client(broker.parsed, timeout_s=10) as client:
            await Mapper(client, recipe(queue_name), Plan(limit=100, halt=NOW), seen, _cancel).run(
                _chunks([*inputs, BAD], inputs)
            )
            depth = await client.depth(queue_name)
            return seen, 0 if depth is None else depth[0]

    seen, ready = asyncio.run(scene())
    assert [ended.state for ended in seen.results] == [*["cancelled"] * 50, "dead"]
    assert ready == 0


def test_what_was_being_queued_when_it_halted_is_cancelled_once_it_is_queued(
    broker: TestBroker, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halting, "CANCELLED_S", 0.1)
    happened: list[str] = []
    first_cancel = asyncio.Event()

    class Slow(Client):
        async def enqueue_batch(self, envelopes: Sequence[Envelope]) -> list[JobrunnerError | None]:
            await first_cancel.wait()
            answers = await super().enqueue_batch(envelopes)
            happened.append("queued")
            return answers

    async def cancel(jobs: dict[str, int]) -> None:
        happened.append(f"cancel {len(jobs)}")
        first_cancel.set()

    async def scene() -> None:
        async with Slow(broker.parsed, timeout_s=10) as client:
            await Mapper(client, recipe(queue_name), Plan(limit=100, halt=NOW), Seen(), cancel).run(
                _chunks([Input("7")], [BAD])
            )

    asyncio.run(scene())
    assert happened == ["cancel 1", "queued", "cancel 1"]


def test_memory_does_not_grow_with_the_inputs(broker: TestBroker, queue_name: str, tmp_path: Path) -> None:
    class Counting(Listener):
        count = 0
        at_first = 0

        def result(self, _ended: Ended) -> None:
            self.count += 1
            if self.count == 10_000:
                self.at_first = tracemalloc.get_traced_memory()[0]

    counting = Counting()

    async def scene() -> int:
        async with Client(broker.parsed, timeout_s=10) as client:
            one = Mapper(client, recipe(queue_name, batch=500), Plan(limit=5000), counting, _cancel)
            await one.run(Inputs(60_000, piece=500).chunks())
            return tracemalloc.get_traced_memory()[0]

    with _quiet(work(broker, tmp_path, queue_name)):
        tracemalloc.start()
        try:
            at_last = asyncio.run(scene())
        finally:
            tracemalloc.stop()
    assert counting.count == 60_000
    # of an input that is done ten bytes are kept, to number equal ones, in 65,536 arrays; all else would be over 20 MB
    assert at_last - counting.at_first < 8_000_000
