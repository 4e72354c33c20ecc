"""A process that comes near its memory limit has a successor, ready before it retires."""

import asyncio
from pathlib import Path

import pytest

from jobrunner.execution.child import NEARLY
from jobrunner.execution.pool import Finished
from tests.process.harness import Harness, assert_group_gone, result, running
from tests.support.eventually import eventually_async

LIMIT_BYTES = 200 * 1024 * 1024

APP = f"""
import os
from pathlib import Path
from threading import Event
from jobrunner import job
from jobrunner.execution.child import memory_bytes

Path(f"born-{{os.getpid()}}").touch()
kept = []

@job
def grow():
    while memory_bytes() < {(NEARLY + 0.05) * LIMIT_BYTES}:
        kept.append(bytearray(b"x") * 1_000_000)

@job
def wait():
    while not Path("go").exists():
        Event().wait(0.01)

@job
def pid():
    return os.getpid()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_app.py").write_text(APP)
    return tmp_path


def born(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("born-")) for path in folder.glob("born-*")}


async def grown(harness: Harness, app: Path) -> int:
    """Let the process grow; when this returns, its successor has imported the app. Gives the process's pid."""
    first = harness.pid()
    assert (await harness.run(task="my_app:grow")).ready

    def two() -> None:
        assert len(born(app)) == 2

    harness.give(task="my_app:wait")
    await eventually_async(two, 20)
    return first


def test_a_successor_starts_while_the_grown_process_still_works_and_takes_over_when_that_is_free(app: Path) -> None:
    async def story() -> None:
        async with running(apps=("my_app",), max_memory_bytes=LIMIT_BYTES) as harness:
            first = await grown(harness, app)
            assert harness.pid() == first
            (app / "go").touch()
            assert (await harness.expect(Finished)).ran.pid == first
            await harness.ready()
            after = result(await harness.run(task="my_app:pid"))
            assert {first, after} == born(app)
            assert_group_gone(first)

    asyncio.run(story())


def test_a_stop_ends_the_successor_too(app: Path) -> None:
    async def story() -> None:
        async with running(apps=("my_app",), max_memory_bytes=LIMIT_BYTES) as harness:
            await grown(harness, app)

    asyncio.run(story())
    assert len(born(app)) == 2
    for pid in born(app):
        assert_group_gone(pid)


def test_a_renewal_replaces_the_successor_as_well(app: Path) -> None:
    async def story() -> None:
        async with running(apps=("my_app",), max_memory_bytes=LIMIT_BYTES) as harness:
            await grown(harness, app)
            harness.pool.renew()
            (app / "go").touch()
            await harness.expect(Finished)
            await harness.ready()
            assert result(await harness.run(task="my_app:pid")) in born(app)
            assert len(born(app)) == 3

    asyncio.run(story())
