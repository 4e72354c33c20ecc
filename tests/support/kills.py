"""Children killed at random instants: each job has one end all the same, and each slot its next child."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter

from jobrunner.execution.pool import Finished, PoolBroken, SlotReady
from jobrunner.outcome import Crashed, Interrupted, Succeeded
from tests.process.harness import Harness, running

JOBS = (("noop", []), ("add", [2, 3]), ("say", ["words", "more"]), ("give", ["large"]))
LATEST_S = 0.02
"""A kill comes within this time after its job was handed over: before, within or after the run, or while it tells."""

PROCS = 4


async def kill_at_random(kills: int, seed: int) -> Counter[str]:
    """How the jobs ended, by kind of outcome. Fails when a job has no end, or two, or an end that no kill explains."""
    chance = random.Random(seed)
    ends: Counter[str] = Counter()
    async with running(procs=PROCS) as harness:
        open_jobs: dict[tuple[str, int], int] = {}
        for slot in range(PROCS):
            _start(harness, slot, chance, open_jobs)
        started = PROCS
        while open_jobs or started < kills:
            slot = await _next_free(harness, open_jobs, ends)
            if slot is not None and started < kills:
                _start(harness, slot, chance, open_jobs)
                started += 1
    assert sum(ends.values()) == kills
    return ends


def _start(harness: Harness, slot: int, chance: random.Random, open_jobs: dict[tuple[str, int], int]) -> None:
    task, args = chance.choice(JOBS)
    work = harness.give(slot, task=task, args=args)
    assert work.key not in open_jobs
    open_jobs[work.key] = slot
    pid = harness.pid(slot)
    asyncio.get_running_loop().call_later(chance.uniform(0, LATEST_S), _kill, pid)


def _kill(pid: int) -> None:
    # gone by then at the latest a few milliseconds ago: its number is nobody else's yet
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def _next_free(harness: Harness, open_jobs: dict[tuple[str, int], int], ends: Counter[str]) -> int | None:
    """Take in what was told next; a slot, once it can be given a job."""
    async with asyncio.timeout(30):
        while not harness.told:
            harness._changed.clear()
            await harness._changed.wait()
    match harness.told.pop(0):
        case SlotReady(slot=slot):
            return slot if slot not in open_jobs.values() else None
        case Finished(key=key, slot=slot, outcome=outcome, ready=ready):
            assert open_jobs.pop(key) == slot, "an end of a job that has one already"
            assert isinstance(outcome, Succeeded | Crashed | Interrupted), outcome
            if isinstance(outcome, Crashed):
                assert outcome.error.word == "crash:SIGKILL", outcome
            ends[type(outcome).__name__] += 1
            return slot if ready else None
        case PoolBroken() as broken:
            raise AssertionError(broken)
        case _:
            return None
