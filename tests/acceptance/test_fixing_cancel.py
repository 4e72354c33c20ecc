"""`jobrunner cancel` on real jobs: queued, delayed, retrying, running, ended; on a terminal, piped, as JSON."""

import json
import re
import signal
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.eventually import eventually
from tests.support.home import Home
from tests.support.worker import alive

TASKS = """
import signal, subprocess, sys, time
from pathlib import Path
from jobrunner import job

@job(retries=0)
def tree(witness):
    kids = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    Path(witness).write_text(" ".join(str(kid.pid) for kid in kids))
    signal.pause()

@job(retries=0)
def stubborn(witness):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Path(witness).write_text("ready")
    time.sleep(600)

@job(retries=5, backoff=600)
def fails(witness):
    Path(witness).write_text("ran")
    raise ValueError("no such luck")

@job
def add(a, b): return a + b
"""


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker) -> Home:
    return Home(tmp_path, url=broker.url, tasks=TASKS)


def written(path: Path) -> str:
    def look() -> None:
        assert path.exists()
        assert path.read_text()

    eventually(look, timeout_s=60)
    return path.read_text()


def test_jobs_that_no_worker_has_are_cancelled_before_they_start_and_a_later_worker_obeys(
    home: Home, queue_name: str
) -> None:
    queued = home.enqueue("-q", queue_name, "tasks:tree", "ran-queued")
    delayed = home.enqueue("-q", queue_name, "--delay", "1s", "tasks:tree", "ran-delayed")
    done = home.run("cancel", queued, delayed, "--reason", "not needed")
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [f"{one}\tcancelled\t\tcancelled before it started" for one in (queued, delayed)]
    assert [home.state_of(job_id) for job_id in (queued, delayed)] == ["cancelled", "cancelled"]
    with home.worker("-q", queue_name, "-A", "tasks"):
        assert home.run("enqueue", "-q", queue_name, "--delay", "2s", "tasks:add", "1", "1", "--wait").stdout == "2\n"
    assert not (home.folder / "ran-queued").exists()
    assert not (home.folder / "ran-delayed").exists()
    assert [home.state_of(job_id) for job_id in (queued, delayed)] == ["cancelled", "cancelled"]


def test_a_running_job_is_killed_with_all_its_processes_and_how_is_said(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name, "-A", "tasks"):
        job_id = home.enqueue("-q", queue_name, "tasks:tree", "kids")
        kids = [int(word) for word in written(home.folder / "kids").split()]
        code, text = home.on_terminal("cancel", job_id)
        assert code == 0
        assert re.fullmatch(f"{job_id[:8]}  ⊘ cancelled: SIGTERM, gone after \\d\\.\\d s\n", text)
        eventually(lambda: _assert_gone(kids))
        assert home.state_of(job_id) == "cancelled"
        again = home.run("cancel", job_id)
        assert (again.returncode, again.stdout) == (
            0,
            f"{job_id}\tcancelled\t\thad already been cancelled\n",
        )


def _assert_gone(pids: list[int]) -> None:
    assert not [pid for pid in pids if alive(pid)]


def test_another_signal_is_sent_and_one_that_ignores_it_is_killed_later(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name, "-A", "tasks"):
        first, second = (home.enqueue("-q", queue_name, "tasks:stubborn", ready) for ready in ("ready-1", "ready-2"))
        written(home.folder / "ready-1")
        late = home.run("cancel", first, "--signal", "int", "--wait", "60s", "--json")
        (job,) = json.loads(late.stdout)["jobs"]
        assert (late.returncode, job["outcome"], job["signal"]) == (0, "killed", "SIGKILL")
        assert 4 < job["took_s"] < 30
        written(home.folder / "ready-2")
        soon = json.loads(home.run("cancel", second, "--signal", "int", "--wait", "1s", "--json").stdout)
        assert soon["jobs"][0]["outcome"] == "pending"
        assert soon["jobs"][0]["text"].startswith("pending: it is still running on worker ")


def test_a_retrying_job_does_not_run_again_and_one_that_succeeded_has(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name, "-A", "tasks"):
        failing = home.enqueue("-q", queue_name, "tasks:fails", "ran")
        written(home.folder / "ran")
        good = home.enqueue("-q", queue_name, "tasks:add", "1", "2", "--wait")
        assert good == "3"
        eventually(lambda: _assert_state(home, failing, "retrying"), timeout_s=60)
        (ended,) = json.loads(home.run("list", f"queue:{queue_name}", "state:succeeded", "--json").stdout)["jobs"]
        done = home.run("cancel", failing, ended["id"])
        assert done.returncode == 0
        assert done.stdout.splitlines() == [
            f"{failing}\tcancelled\t\tcancelled before it ran again",
            f"{ended['id']}\tsucceeded\t\thad already succeeded",
        ]


def _assert_state(home: Home, job_id: str, state: str) -> None:
    assert home.state_of(job_id) == state


def test_a_worker_that_does_not_answer_leaves_it_pending_and_obeys_when_it_can(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name, "-A", "tasks", "--name", f"w-{queue_name}") as worker:
        worker.send_signal(signal.SIGSTOP)
        try:
            job_id = home.enqueue("-q", queue_name, "tasks:tree", "ran")
            done = home.run("cancel", job_id, "--wait", "1s")
            assert done.returncode == 5
            assert done.stdout == f"{job_id}\tpending\t\tpending: worker w-{queue_name} has not answered\n"
        finally:
            worker.send_signal(signal.SIGCONT)
        done = home.run("cancel", job_id)
        assert (done.returncode, done.stdout.split("\t")[1]) == (0, "cancelled"), done
        assert not (home.folder / "ran").exists()


def test_a_run_is_cancelled_as_a_whole_and_more_than_ten_are_asked_for(home: Home, queue_name: str) -> None:
    lines = "".join(json.dumps({"call": "tasks:tree", "args": ["x"], "tag": [queue_name]}) + "\n" for _ in range(12))
    assert home.run("enqueue", "-q", queue_name, "--from", "-", stdin=lines.encode()).returncode == 0
    refused = home.run("cancel", f"tag:{queue_name}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "This would cancel 12 jobs on " in refused.stderr
    dry = home.run("cancel", f"tag:{queue_name}", "-n")
    assert (dry.returncode, len(dry.stdout.split())) == (0, 12)
    done = home.run("cancel", f"tag:{queue_name}", "-y", "--json")
    outcomes = [job["outcome"] for job in json.loads(done.stdout)["jobs"]]
    assert (done.returncode, outcomes) == (0, ["cancelled"] * 12)
    none = home.run("cancel", f"tag:{queue_name}")
    assert (none.returncode, none.stderr) == (0, "Nothing to cancel.\n")


def test_ids_come_from_stdin_and_wrong_words_say_what_is_right(home: Home, queue_name: str) -> None:
    ids = [home.enqueue("-q", queue_name, "tasks:add", "1", "1") for _ in range(2)]
    done = home.run("cancel", "-", "--quiet", stdin="\n".join(ids).encode())
    assert (done.returncode, done.stdout.split()) == (0, ids)
    for args, words, code in (
        (["cancel"], "Which jobs?", 2),
        (["cancel", "zzzzzzzz"], "No job starts with 'zzzzzzzz'.", 4),
        (["cancel", ids[0], "--signal", "NOPE"], "'NOPE' is no signal.", 2),
    ):
        wrong = home.run(*args)
        assert words in wrong.stderr
        assert wrong.returncode == code


def test_a_cancelled_job_can_be_retried_and_runs(home: Home, queue_name: str) -> None:
    job_id = home.enqueue("-q", queue_name, "tasks:add", "1", "2")
    assert home.run("cancel", job_id).returncode == 0
    assert home.run("retry", job_id).stdout == f"{job_id}\n"
    with home.worker("-q", queue_name, "-A", "tasks"):
        assert home.run("result", job_id, "--wait", "20s").stdout == "3\n"
    assert home.state_of(job_id) == "succeeded"
