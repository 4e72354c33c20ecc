"""Hundreds of short jobs, several of them here at once: a worker killed among them loses none."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from jobrunner.worker.slots import AHEAD
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import WorkerProcess

JOBS = 300
PROCS = 2


BROKEN = ("consume.after_deliver:kill:150", "settle.after_publish:kill:150", "settle.after_confirm:kill:150")
IN_GROUPS = ("settle.group_published:kill:3", "settle.group_confirmed:kill:3", "settle.after_ack:kill:151")


@pytest.mark.parametrize("failpoint", [*BROKEN, *IN_GROUPS])
def test_a_worker_killed_among_short_jobs_loses_none_and_repeats_only_what_it_held(
    cli: Commands, queue_name: str, tmp_path: Path, failpoint: str
) -> None:
    witness, jobs = tmp_path / "witness", tmp_path / "jobs.jsonl"
    call = {"call": "tasks:slow", "args": [str(witness), 0]}
    jobs.write_text("".join(f"{json.dumps(call)}\n" for _ in range(JOBS)))
    cli.run("enqueue", "-q", queue_name, "--from", str(jobs))
    first = WorkerProcess(cli, "-q", queue_name, "-p", str(PROCS), JOBRUNNER_FAILPOINT=failpoint)
    assert first.process.wait(timeout=60) == -signal.SIGKILL
    with WorkerProcess(cli, "-q", queue_name, "-p", str(PROCS)):

        def ended() -> None:
            assert len(cli.json("list", f"queue:{queue_name}", "state:succeeded", "--limit", "1000")["jobs"]) == JOBS

        eventually(ended, 60)
    ran = Counter(line.split()[1] for line in witness.read_text().splitlines() if line.startswith("start"))
    assert len(ran) == JOBS
    again = [count - 1 for count in ran.values() if count > 1]
    assert sum(again) <= PROCS * (1 + AHEAD)
    assert set(again) <= {1}
