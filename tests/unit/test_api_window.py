"""Between an input and its results: what is read when, and in which order ends are given. No broker."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from jobrunner import AsyncClient, call
from jobrunner.api import reading
from jobrunner.api.call import Call
from jobrunner.api.ends import Ticket
from jobrunner.api.reading import AsyncReader, Reader
from jobrunner.api.window import Answer, Window
from jobrunner.errors import BadValue, JobrunnerError
from jobrunner.ids import new_id
from jobrunner.watch import End


class Jobs:
    """Stands for the broker: takes calls, and ends them when it is told to."""

    def __init__(self, refuse: Sequence[int] = ()) -> None:
        self.tickets: list[Ticket] = []
        self._refuse = refuse

    async def put(self, calls: Sequence[Call[object]], number: int) -> list[tuple[Ticket, Answer]]:
        assert number == len(self.tickets)
        found: list[tuple[Ticket, Answer]] = []
        for seq, _ in enumerate(calls, start=number):
            self.tickets.append(Ticket(new_id()))
            found.append((self.tickets[-1], BadValue(problem="no", hint="") if seq in self._refuse else None))
        return found

    def end(self, *numbers: int) -> None:
        for number in numbers:
            ticket = self.tickets[number]
            ticket.settle(End(id=ticket.id, state="succeeded", attempt=1))

    def numbers(self, batch: Sequence[Ticket | JobrunnerError]) -> list[object]:
        return [self.tickets.index(one) if isinstance(one, Ticket) else str(one) for one in batch]


def calls(count: int) -> Iterator[Call[object]]:
    return (call("tasks:add", number) for number in range(count))


def collect(jobs: Jobs, script: list[list[int]], *, ordered: bool, limit: int, count: int) -> list[object]:
    """What a window gives while the jobs end as the script says: the next line whenever nothing moves any more."""

    async def main() -> list[object]:
        window = Window(Reader(calls(count)).source, jobs.put, ordered=ordered, limit=limit)
        found: list[object] = []

        async def drain() -> None:
            async for batch in window.run():
                found.extend(jobs.numbers(batch))

        draining = asyncio.create_task(drain())
        for line in script:
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(jobs.tickets) - len(found) <= limit
            jobs.end(*line)
        await draining
        return found

    return asyncio.run(main())


def test_in_order_a_slow_head_holds_back_what_came_after_it() -> None:
    found = collect(Jobs(), [[2], [1], [0], [3, 4]], ordered=True, limit=10, count=5)
    assert found == [0, 1, 2, 3, 4]


def test_without_order_ends_are_given_as_they_come() -> None:
    found = collect(Jobs(), [[2], [1], [0], [4], [3]], ordered=False, limit=10, count=5)
    assert found == [2, 1, 0, 4, 3]


@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_are_under_way_than_allowed(ordered: bool) -> None:
    script = [[0], [1], [2], [3], [4], [5]]
    assert collect(Jobs(), script, ordered=ordered, limit=1, count=6) == list(range(6))
    assert collect(Jobs(), [[0, 1], [2, 3], [4, 5]], ordered=ordered, limit=2, count=6) == list(range(6))


def test_what_could_not_be_queued_stands_in_its_place() -> None:
    assert collect(Jobs(refuse=[1]), [[2], [0]], ordered=True, limit=9, count=3) == [0, "no", 2]


def test_an_empty_input_gives_nothing() -> None:
    assert collect(Jobs(), [], ordered=True, limit=9, count=0) == []


def test_what_an_input_raises_comes_after_the_results_of_what_it_gave() -> None:
    def inputs() -> Iterator[Call[object]]:
        yield from calls(3)
        raise ZeroDivisionError

    async def ended_at_once() -> list[object]:
        jobs = Jobs()
        put = jobs.put

        async def put_and_end(some: Sequence[Call[object]], number: int) -> list[tuple[Ticket, Answer]]:
            found = await put(some, number)
            jobs.end(*range(number, number + len(some)))
            return found

        window = Window(Reader(inputs()).source, put_and_end, ordered=True, limit=9)
        found: list[object] = []
        with pytest.raises(ZeroDivisionError):
            async for batch in window.run():
                found.extend(jobs.numbers(batch))
        return found

    assert asyncio.run(ended_at_once()) == [0, 1, 2]


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_quick_input_is_read_in_growing_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "QUICK_S", 60.0)
    reader = Reader(calls(40))
    assert [len(reader.read(16)) for _ in range(7)] == [1, 2, 4, 8, 16, 9, 0]


def test_an_input_that_fails_gives_first_what_it_had() -> None:
    def inputs() -> Iterator[Call[object]]:
        yield from calls(2)
        raise ZeroDivisionError

    reader = Reader(inputs())
    assert [len(reader.read(9)), len(reader.read(9))] == [1, 1]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            reader.read(9)


def test_an_asynchronous_input_never_holds_back_what_has_come() -> None:
    async def main() -> None:
        more = asyncio.Event()

        async def inputs() -> AsyncIterator[Call[object]]:
            for one in calls(2):
                yield one
            await more.wait()
            for one in calls(1):
                yield one

        reader = AsyncReader(inputs())
        found = [*await reader.source(9)]
        while len(found) < 2:
            found += await reader.source(9)
        waiting = asyncio.create_task(reader.source(9))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert not waiting.done()
        more.set()
        assert len(await waiting) == 1
        assert list(await reader.source(9)) == []
        assert list(await reader.source(9)) == []
        reader.stop()

    asyncio.run(main())


def test_a_client_that_was_not_opened_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with AsyncClient"):
        asyncio.run(AsyncClient().enqueue("tasks:add", 1))
