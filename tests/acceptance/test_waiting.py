"""Jobs that wait for other jobs, as a person sees them."""

import json
from pathlib import Path
from typing import Any

from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import WorkerProcess, starts, wait_for_start


def test_a_job_runs_after_those_that_it_waits_for(cli: Commands, queue_name: str, witness: Path) -> None:
    gate = cli.folder / "gate"
    with WorkerProcess(cli, "-q", queue_name):
        first = cli.enqueue("-q", queue_name, "tasks:until", str(witness), str(gate))
        wait_for_start(witness)
        second = cli.enqueue("-q", queue_name, "tasks:slow", str(witness), "0", "--after", first)
        third = cli.enqueue("-q", queue_name, "tasks:add", "1", "2", "--after", f"{second[:8]},{first}")
        assert [cli.state_of(job_id) for job_id in (second, third)] == ["waiting", "waiting"]
        why = cli.json("show", "--why", second)["why"]
        assert (why["code"], why["text"]) == ("waits", f"it waits for {first[:8]} (running).")
        gate.touch()
        cli.run("wait", third, "--timeout", "60s")
        assert cli.run("result", third).stdout == "3\n"
    late = cli.enqueue("-q", queue_name, "tasks:add", "2", "2", "--after", first)
    assert "no live worker" in cli.json("show", "--why", late)["why"]["text"]
    with WorkerProcess(cli, "-q", queue_name):
        cli.run("wait", late, "--timeout", "60s")


def test_lines_of_a_file_wait_for_lines_before_them_and_for_known_jobs(cli: Commands, queue_name: str) -> None:
    before = cli.enqueue("-q", queue_name, "tasks:add", "1", "1")
    ids = ["k7f2m9xq4tzd8w1r", "h4m2x0v81srqn5k3", "p3h8w2acp3h8w2ac"]
    lines = [
        {"call": "tasks:add", "args": [1, 2], "id": ids[0]},
        {"call": "tasks:add", "args": [3, 4], "id": ids[1], "after": ids[0]},
        {"call": "tasks:add", "args": [5, 6], "after": [ids[1], before[:8]], "when": "end"},
        {"run": ["true"], "id": ids[2], "queue": "amq.reserved"},
        {"run": ["true"], "after": ids[2]},
        {"run": ["true"], "after": "0000"},
    ]
    done = cli.run("enqueue", "-q", queue_name, "--from", "-", stdin="\n".join(map(json.dumps, lines)), code=5)
    queued = done.stdout.split()
    assert (queued[:2], len(queued)) == (ids[:2], 3)
    told = done.stderr.splitlines()
    assert told[0].startswith("line 4: ")
    assert told[1].startswith(f"line 5: No job starts with '{ids[2]}'.")
    assert told[2].startswith("line 6: No job starts with '0000'.")
    assert [cli.state_of(each) for each in queued] == ["queued", "waiting", "waiting"]
    with WorkerProcess(cli, "-q", queue_name, "--burst") as worker:
        assert worker.process.wait(60) == 0
    assert [cli.run("result", each).stdout for each in queued] == ["3\n", "7\n", "11\n"]


def test_a_job_that_waits_can_be_cancelled_with_and_without_workers(cli: Commands, queue_name: str) -> None:
    first = cli.enqueue("-q", queue_name, "tasks:add", "1", "1")
    second = cli.enqueue("-q", queue_name, "tasks:add", "1", "2", "--after", first)
    assert cli.json("cancel", second)["jobs"][0]["outcome"] == "cancelled"
    with WorkerProcess(cli, "-q", f"{queue_name}-other"):
        third = cli.enqueue("-q", queue_name, "tasks:add", "1", "3", "--after", first)
        assert cli.json("cancel", third)["jobs"][0]["outcome"] == "cancelled"
    with WorkerProcess(cli, "-q", queue_name, "--burst") as worker:
        assert worker.process.wait(60) == 0
    assert [cli.state_of(each) for each in (first, second, third)] == ["succeeded", "cancelled", "cancelled"]


def test_what_is_to_run_after_a_map_runs_once_though_starter_and_workers_are_killed(
    cli: Commands, queue_name: str, witness: Path
) -> None:
    members = cli.folder / "members"
    settings = ("-q", queue_name, "-p", "2", "--lost-after", "1s")
    with WorkerProcess(cli, *settings) as first:
        line = ("-q", queue_name, "--run", queue_name, "--then", f"tasks:slow {witness} 0", "--range", "1-300")
        starter = cli.start("map", *line, "tasks:slow", str(members), "0.05", "{}")
        wait_for_start(members, 2)

        def found() -> dict[str, Any]:
            jobs = cli.json("list", "state:waiting", f"queue:{queue_name}")["jobs"]
            assert len(jobs) == 1
            return dict(jobs[0])

        waiting = eventually(found, 60)

        def sealed() -> None:
            assert "of 300 have ended" in cli.json("show", "--why", waiting["id"])["why"]["text"]

        eventually(sealed, 60)
        starter.kill()
        with WorkerProcess(cli, *settings) as second:
            first.kill()
            wait_for_start(members, 60)
            with WorkerProcess(cli, *settings):
                second.kill()
                cli.run("wait", waiting["id"], "--timeout", "90s", timeout_s=100)
    assert starts(witness) == 1
    assert cli.json("list", f"run:{queue_name}", "state:succeeded", "--limit", "1")["total"] == 300


def test_which_end_of_a_map_is_waited_for(cli: Commands, queue_name: str) -> None:
    """An input that is no number fails: function and word cannot be added."""
    ends = {
        "success": ("1 2", True),
        "success-not": ("1 x", False),
        "failure": ("1 x", True),
        "failure-not": ("1 2", False),
        "end": ("1 x", True),
        "failure-batch": ("1 x", True),
        "failure-batch-detach": ("1 x", True),
    }
    with WorkerProcess(cli, "-q", queue_name, "-p", "2"):
        for name, (inputs, _) in ends.items():
            when, *more = name.removesuffix("-not").split("-")
            options = ["--batch=2" if word == "batch" else f"--{word}" for word in more]
            run = ["map", "-q", queue_name, "--run", f"{queue_name}-{name}", "--retries", "0", *options]
            then = ["--then", f"tasks:add {name} !", "--when", when]
            cli.run(*run, *then, "tasks:add", "1", ":::", *inputs.split(), code=None)
        for name, (_, runs) in ends.items():
            (job,) = cli.json("list", f"args.0:{name}")["jobs"]
            cli.run("wait", job["id"], "--timeout", "60s", code=None)
            assert (name, cli.state_of(job["id"])) == (name, "succeeded" if runs else "cancelled")


def test_a_map_that_is_taken_up_again_has_what_comes_after_it_once(cli: Commands, queue_name: str) -> None:
    line = ("-q", queue_name, "--run", queue_name, "--retries", "0", "--then", "tasks:add 1 2", "--detach")
    inputs = ("tasks:add", "1", ":::", "1", "x")
    cli.run("map", *line, *inputs)
    cli.run("map", *line, "--resume", *inputs)
    (job,) = cli.json("list", "state:waiting", f"queue:{queue_name}")["jobs"]
    with WorkerProcess(cli, "-q", queue_name):
        cli.run("wait", job["id"], "--timeout", "60s", code=1)
        assert "of which 1 failed" in cli.json("show", job["id"])["error"]["message"]
        cli.run("map", *line, "--retry-failed", *inputs)

        def both() -> None:
            jobs = cli.json("list", "task:add", f"queue:{queue_name}", "not:run:*")["jobs"]
            assert [each["state"] for each in jobs] == ["cancelled", "cancelled"]

        eventually(both, 60)
