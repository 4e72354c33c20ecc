"""Situations that a storm meets by luck only, brought about step by step. They strike where a run names them.

happened: whether the situation came about; a run in which it did not often enough proves nothing of it (I14).
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.stress.chaos.crew import PROCS, Member
from tests.stress.chaos.faults import Fault, Field, one

STEP_S = 20.0
"""Longest wait for one step. Less than 30 s, after which a worker gives up on a confirm."""

REACH_S = 180.0
"""The queue is kept full here: a job that must run again waits in the ladder, as always, and then behind others."""


async def confirm_after_next_job(field: Field) -> dict[str, object]:
    """A run ends whose channel is gone, and its confirm comes when the next job is on the new channel: the tag of both
    is 1. The worker is killed when it has settled the first and while it runs the second: whoever settles by the tag
    alone has acked a job that is lost now.
    """
    worker = field.worker()
    wire, witness = field.wires[worker.name], field.crew.folder / "witness"
    await _replaced(worker)
    first = await _until(lambda: _open(_lines(witness, worker.pid)), worker)
    second: set[str] = set()
    if first:
        wire.confirms.clear()
        try:
            wire.cut(reset=True)
            second = await _until(
                lambda: _behind(_lines(witness, worker.pid), first) or _adopted(worker, first), worker
            )
        finally:
            wire.confirms.set()
    settled = bool(second) and await _until(lambda: _logged(worker, b"job.succeeded", first), worker)
    await asyncio.sleep(0.2)  # what was said to the log is on the wire
    happened = bool(settled) and worker.lives and bool((second - first) & _open(_lines(witness, worker.pid)))
    if worker.lives:
        os.kill(worker.pid, signal.SIGKILL)
    return one(worker, most=PROCS * 3, happened=happened, reach=REACH_S)


DIRECTED: dict[str, Fault] = {confirm_after_next_job.__name__: confirm_after_next_job}


async def _replaced(worker: Member) -> None:
    """Its successor lives. What a new worker gets first has tag 1 on its channel."""
    starts = worker.starts
    if worker.lives:
        os.kill(worker.pid, signal.SIGKILL)
    while worker.starts == starts:
        await asyncio.sleep(0.05)


async def _until(look: Callable[[], set[str]], worker: Member) -> set[str]:
    """What is seen once there is anything; nothing after `STEP_S`, or when the worker is gone."""
    end = time.monotonic() + STEP_S
    while time.monotonic() < end and worker.lives:
        if found := look():
            return found
        await asyncio.sleep(0.05)
    return set()


def _lines(witness: Path, pid: int) -> list[tuple[str, str]]:
    """Words and ids of that worker's runs, in the order in which they were written."""
    lines = [line.split() for line in witness.read_text().splitlines()] if witness.exists() else []
    return [(word, job_id) for word, job_id, _, _, parent, _ in lines if int(parent) == pid]


def _open(lines: list[tuple[str, str]]) -> set[str]:
    """The jobs that have begun and not ended."""
    last = {job_id: word for word, job_id in lines}
    return {job_id for job_id, word in last.items() if word == "start"}


def _behind(lines: list[tuple[str, str]], first: set[str]) -> set[str]:
    """The jobs that run now, and began after one of the first had ended."""
    ended = next((at for at, (word, job_id) in enumerate(lines) if word == "end" and job_id in first), len(lines))
    return _open(lines[ended:]) - first


def _adopted(worker: Member, ids: set[str]) -> set[str]:
    """All of them, if each has come to its worker again: then no other job will, and no tag can be mistaken."""
    return ids if _logged(worker, b"job.adopted", ids) == ids else set()


def _logged(worker: Member, action: bytes, ids: set[str]) -> set[str]:
    """Those of which its log has that. It says `job.succeeded` when the delivery is settled."""
    lines = [line for line in worker.logged().splitlines() if action in line]
    return {job_id for job_id in ids if any(job_id.encode() in line for line in lines)}
