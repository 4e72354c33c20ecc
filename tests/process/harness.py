"""A pool on a loop of its own, for tests: give it work, look at what it tells."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from jobrunner.execution.pool import (
    Finished,
    Found,
    Pool,
    PoolBroken,
    PoolMessage,
    PoolSettings,
    SlotDown,
    SlotReady,
    Work,
)
from tests.support.eventually import eventually, eventually_async

JOBS = "tests.support.jobs"
M = TypeVar("M", SlotReady, SlotDown, Finished, Found, PoolBroken)


class Harness:
    def __init__(self, settings: PoolSettings) -> None:
        self.pool = Pool(settings, self._post)
        self.told: list[PoolMessage] = []
        self._count = 0
        self._changed = asyncio.Event()

    def _post(self, message: PoolMessage) -> None:
        self.told.append(message)
        self._changed.set()

    async def expect(self, kind: type[M], timeout_s: float = 40.0) -> M:
        """The next message of that kind, taken out of what was told."""
        async with asyncio.timeout(timeout_s):
            while True:
                for message in self.told:
                    if isinstance(message, kind):
                        self.told.remove(message)
                        return message
                self._changed.clear()
                await self._changed.wait()

    def give(self, slot: int = 0, **fields: Any) -> Work:
        """Hand over a job and do not wait."""
        self._count += 1
        work = work_of(self._count, **fields)
        self.pool.run(slot, work)
        return work

    async def run(self, slot: int = 0, **fields: Any) -> Finished:
        work = self.give(slot, **fields)
        finished = await self.expect(Finished)
        assert finished.key == work.key
        return finished

    async def ready(self) -> SlotReady:
        return await self.expect(SlotReady)

    def pid(self, slot: int = 0) -> int:
        return self.pool.running(slot).pid


def work_of(number: int, *, task: str | None = None, args: Any = None, kwargs: Any = None, **fields: Any) -> Work:
    job_id = f"{number:016d}"
    return Work(
        key=(job_id, 0),
        id=job_id,
        attempt=fields.pop("attempt", 1),
        max_attempts=4,
        queue="task_queue",
        task=task if task is None or ":" in task else f"{JOBS}:{task}",
        args=args if isinstance(args, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(args or [])),
        kwargs=msgspec.Raw(msgspec.json.encode(kwargs or {})),
        **fields,
    )


@contextlib.asynccontextmanager
async def starting(**settings: Any) -> AsyncIterator[Harness]:
    """A pool whose children are on their way."""
    harness = Harness(PoolSettings(**{"procs": 1, "worker": "w1", "apps": (JOBS,), **settings}))
    try:
        await harness.pool.start()
        yield harness
    finally:
        await harness.pool.stop()


@contextlib.asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Harness]:
    """A pool whose children are ready."""
    async with starting(**settings) as harness:
        for _ in range(settings.get("procs", 1)):
            await harness.ready()
        yield harness


def several(*jobs: dict[str, Any], **settings: Any) -> list[Finished]:
    """The ends of some jobs that ran one after another, in a pool of one."""

    async def run_all() -> list[Finished]:
        ends = []
        async with running(**settings) as harness:
            for fields in jobs:
                ends.append(await harness.run(**fields))
                if not ends[-1].ready:
                    await harness.ready()
        return ends

    return asyncio.run(run_all())


def once(**fields: Any) -> Finished:
    """The end of one job, in a pool of its own."""
    return several(fields)[0]


def result(finished: Finished) -> Any:
    """What the job gave. Fails with the outcome when there is no result."""
    raw = getattr(finished.outcome, "result", None)
    assert raw is not None, finished.outcome
    return msgspec.json.decode(raw)


def group(pgid: int) -> list[int]:
    """The living processes of a group; zombies are not alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == pgid and state != "Z":
                    found.append(int(entry.name))
    return found


def assert_group_gone(pgid: int, timeout_s: float = 20.0) -> None:
    def gone() -> None:
        assert not group(pgid)

    eventually(gone, timeout_s=timeout_s)


async def written(path: Path) -> str:
    """The text of a file that a job writes, once it is there."""

    def look() -> str:
        assert path.exists()
        text = path.read_text()
        assert text
        return text

    return await eventually_async(look)
