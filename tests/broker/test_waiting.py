"""Jobs that wait for other jobs, with real workers, some of them killed at the worst moment."""

import signal
from contextlib import ExitStack
from pathlib import Path

from tests.support.command import Commands
from tests.support.worker import WorkerProcess, starts


def test_how_the_others_ended_decides_whether_it_runs(cli: Commands, queue_name: str, witness: Path) -> None:
    with WorkerProcess(cli, "-q", queue_name):
        dead = cli.enqueue("-q", queue_name, "tasks:hopeless", str(witness))
        after = {
            when: cli.enqueue("-q", queue_name, "tasks:add", "1", "2", "--after", dead, "--when", when)
            for when in ("success", "failure", "end")
        }
        follower = cli.enqueue("-q", queue_name, "tasks:add", "1", "2", "--after", after["success"])
        cli.run("wait", *after.values(), follower, "--timeout", "60s", code=1)
    assert {when: cli.state_of(job_id) for when, job_id in after.items()} == {
        "success": "cancelled",
        "failure": "succeeded",
        "end": "succeeded",
    }
    error = cli.json("show", after["success"])["error"]
    assert error["message"] == f"it waited for the success of {dead[:8]}, which died"
    assert cli.json("show", follower)["error"]["message"].endswith("which was cancelled")


KILLED_AT = (
    "waiting.before_record",
    "waiting.before_renewal",
    "settle.after_publish",
    "waiting.after_record",
    "waiting.after_release",
)


def test_it_runs_once_whenever_workers_that_look_after_it_are_killed(
    cli: Commands, queue_name: str, witness: Path
) -> None:
    gate, elsewhere = cli.folder / "gate", f"{queue_name}-other"
    with ExitStack() as stack:
        holders = [
            # each is the one in its turn, from the moment on at which the one before it is gone
            stack.enter_context(WorkerProcess(cli, "-q", elsewhere, "-p", "1", JOBRUNNER_FAILPOINT=f"{name}:kill"))
            for name in KILLED_AT
        ]
        stack.enter_context(WorkerProcess(cli, "-q", queue_name))
        first = cli.enqueue("-q", queue_name, "tasks:until", str(cli.folder / "first"), str(gate))
        second = cli.enqueue("-q", queue_name, "tasks:slow", str(witness), "0", "--after", first)
        gate.touch()
        cli.run("wait", second, "--timeout", "60s", timeout_s=80)
        for holder in holders:
            assert holder.process.wait(60) == -signal.SIGKILL
        found = {job["id"] for job in cli.json("audit", code=None)["jobs"]}  # other tests leave what they leave
        assert not found & {first, second}
    assert starts(witness) == 1
