"""`jobrunner queues pause` and `resume`: no worker takes a job from a paused queue, and everything says why."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import TestBroker
from tests.support.eventually import eventually
from tests.support.home import Home
from tests.support.world import TASKS

WHO = r"\S+@\S+"


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker) -> Home:
    return Home(tmp_path, url=broker.url, tasks=TASKS)


@pytest.fixture
def queue(home: Home, queue_name: str) -> Iterator[str]:
    home.run("queues", "declare", queue_name)
    yield queue_name
    home.run("queues", "resume", queue_name)


def as_json(home: Home, *args: str) -> Any:
    return json.loads(home.run(*args, "--json").stdout)


def test_what_runs_goes_on_and_what_waits_waits_until_it_is_resumed(home: Home, queue: str) -> None:
    gate = home.folder / "gate"
    with home.worker("-q", queue, "-p", "1"):
        running = home.enqueue("-q", queue, "tasks:hold", str(gate))
        eventually(lambda: _is(home, running, "running"), interval_s=0.1)
        waiting = home.enqueue("-q", queue, "tasks:text")
        assert home.run("queues", "pause", queue, "--reason", "new disks").stdout == f"{queue}\n"
        eventually(lambda: home.has_logged("queue.paused"))
        gate.touch()
        assert home.run("wait", running, "--timeout", "60s").returncode == 0
        assert as_json(home, "show", waiting, "--why")["why"]["code"] == "queue_paused"
        assert home.run("wait", waiting, "--timeout", "0.3s").returncode == 124
        assert home.run("queues", "resume", queue).returncode == 0
        assert home.run("wait", waiting, "--timeout", "60s").returncode == 0
    kinds = [
        line.split("\t")[1] for line in home.run("events", "--since", "10m", "--kind", "pause").stdout.splitlines()
    ]
    assert kinds.count("pause") >= 2
    assert "queue.paused" in home.log()
    assert "queue.resumed" in home.log()


def test_a_worker_that_starts_later_obeys_and_a_pause_with_a_time_ends_by_itself(home: Home, queue: str) -> None:
    document = as_json(home, "queues", "pause", queue, "--for", "4s")
    assert document["paused"]["until"] > document["paused"]["at"]
    job_id = home.enqueue("-q", queue, "tasks:text")
    with home.worker("-q", queue):
        (row,) = as_json(home, "queues", "list", queue)["queues"]
        if row["paused"] is not None:  # a slow machine may come to it too late
            assert row["consumers"] == 0
        assert home.run("wait", job_id, "--timeout", "60s").returncode == 0
        job = as_json(home, "show", job_id)
        assert job["started_at"] >= document["paused"]["until"]


def test_everything_says_that_it_is_paused_by_whom_and_how_to_end_it(home: Home, queue: str) -> None:
    code, text = home.on_terminal("queues", "pause", queue, "--for", "1h", "--reason", "new\x1b[31m disks")
    assert code == 0
    sentence = rf"{queue} is paused by {WHO} until \w{{3}} \d\d:\d\d:\d\d \S+: new\\x1b\[31m disks"
    first, *rest = text.splitlines()
    assert re.fullmatch(f"✓ {sentence}", first), text
    assert rest[-1] == f"  End it:  jobrunner queues resume {queue}"
    job_id = home.enqueue("-q", queue, "tasks:text")
    _, text = home.on_terminal("status", queue)
    assert re.search(rf"! {sentence}; 1 job waits\.  jobrunner queues resume {queue}", text), text
    problems = [each["code"] for each in as_json(home, "status", queue)["problems"]]
    assert "queue_paused" in problems
    assert "no_worker" not in problems
    assert home.run("status", queue, "--check").returncode == 1
    assert as_json(home, "queues", "list", queue)["queues"][0]["paused"]["reason"].startswith("new")
    assert "paused by" in home.run("queues", "list", queue).stdout.split("\t")[-1]
    done = home.run("show", job_id, "--why")
    assert re.match(rf"Its queue '{queue}' is paused by {WHO} until ", done.stdout)
    assert done.stderr == f"  Resume it:  jobrunner queues resume {queue}\n"
    assert as_json(home, "show", job_id, "--why", "--no-sync")["why"]["code"] == "queue_paused"
    with home.worker("-q", queue):
        _, text = home.on_terminal("enqueue", "-q", queue, "tasks:text")
        assert f"  Resume it:  jobrunner queues resume {queue}" in text.splitlines()
    code, text = home.on_terminal("queues", "resume", queue)
    assert (code, text) == (0, f"✓ {queue} is consumed again\n")
    assert as_json(home, "queues", "list", queue)["queues"][0]["paused"] is None


def test_a_queue_that_does_not_exist_cannot_be_paused(home: Home, queue_name: str) -> None:
    for verb in ("pause", "resume"):
        done = home.run("queues", verb, f"{queue_name}-no")
        assert (done.returncode, done.stderr.splitlines()[0]) == (4, f"error: There is no queue '{queue_name}-no'.")
    assert home.run("queues", "pause", queue_name, "--for", "soon").returncode == 2


def test_a_worker_of_several_queues_goes_on_with_the_others_and_stops_in_order(home: Home, queue: str) -> None:
    other = f"{queue}.b"
    home.run("queues", "pause", queue)
    with home.worker("-q", queue, "-q", other) as worker:
        waiting = home.enqueue("-q", queue, "tasks:text")
        assert home.run("enqueue", "-q", other, "tasks:text", "--wait").stdout == '"two words"\n'
        assert as_json(home, "show", waiting)["state"] == "queued"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    home.run("queues", "purge", queue, "--yes")


def _is(home: Home, job_id: str, state: str) -> None:
    assert as_json(home, "show", job_id)["state"] == state
