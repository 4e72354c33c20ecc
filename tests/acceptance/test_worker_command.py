"""`jobrunner worker`, `dev` and `queues` as people run them."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.eventually import eventually
from tests.support.home import Home

TASKS = """
import time
from jobrunner import job

@job(retries=0)
def hello(name): return f"hello {name}"

@job(retries=0)
def fail(secret): raise ValueError("no good")

@job(retries=0)
def nap(): time.sleep(30)
"""


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker) -> Home:
    return Home(tmp_path, url=broker.url, tasks=TASKS)


def test_a_burst_worker_ends_with_its_queue_and_says_what_it_did(home: Home, queue_name: str) -> None:
    for name in ("a", "b"):
        home.run("enqueue", "-q", queue_name, "tasks:hello", name)
    done = home.run("worker", "--burst", "-q", queue_name, "--procs", "1", "--name", "w1")
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO worker.started .*worker=w1 .*functions=3 ", lines[0])
    assert len([line for line in lines if " INFO job.succeeded " in line]) == 2
    assert lines[-1].endswith('message="Stopped: 2 done, 0 handed back."')


def test_json_log_lines_are_documents_and_hold_no_argument(home: Home, queue_name: str) -> None:
    home.run("enqueue", "-q", queue_name, "tasks:fail", "canary-argument")
    done = home.run("worker", "--burst", "-q", queue_name, "--procs", "1", "--log-format", "json")
    documents = [json.loads(line) for line in done.stderr.splitlines()]
    dead = next(document for document in documents if document["event.action"] == "job.dead")
    assert (dead["log.level"], dead["labels"]["task"]) == ("error", "tasks:fail")
    assert dead["labels"]["error"].startswith("ValueError: no good")
    assert "canary" not in done.stderr


def test_on_a_terminal_banner_lines_and_the_last_word(home: Home, queue_name: str, broker: TestBroker) -> None:
    home.run("enqueue", "-q", queue_name, "tasks:hello", "you")
    code, text = home.on_terminal("worker", "--burst", "-q", queue_name, "--procs", "1", "--name", "w1")
    assert code == 0
    assert re.fullmatch(
        rf"jobrunner \S+  worker w1  pid \d+  1 process\n"
        rf"broker  {re.escape(broker.parsed.masked)}  RabbitMQ {re.escape(broker.version)}\n"
        rf"queues  {queue_name}    runs  3 functions in tasks, no commands    signed  no\n"
        rf"\d\d:\d\d:\d\d ✓ \w{{8}} tasks\.hello  [\d.]+ m?s  \[1\]\n"
        rf"(Stopping\..*\n)?"
        rf"Stopped: 1 done, 0 handed back\.\n",
        text,
    ), text


def test_a_first_signal_drains_and_a_second_hands_back(home: Home, queue_name: str) -> None:
    with home.started("worker", "-q", queue_name, "--procs", "1", "--grace", "60s") as process:
        eventually(lambda: home.has_logged("worker.started"), timeout_s=60)
        home.run("enqueue", "-q", queue_name, "tasks:nap")
        eventually(lambda: home.has_logged("job.started"), timeout_s=60)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: home.has_logged("worker.stopping"), timeout_s=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert "job.handed_back" in home.log()
    eventually(lambda: _has_one(home, queue_name))


def test_an_app_that_cannot_be_imported_is_exit_code_2(home: Home, queue_name: str) -> None:
    (home.folder / "broken.py").write_text("import no_such_module_anywhere\n")
    done = home.run("worker", "-q", queue_name, "--procs", "1", "-A", "broken")
    assert done.returncode == 2
    assert "error: Cannot import 'broken': No module named 'no_such_module_anywhere'" in done.stderr


def test_with_a_list_of_programs_only_those_run(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name, "--procs", "1", "--allow-command", "echo"):
        call = ("enqueue", "-q", queue_name, "--wait")
        assert home.run(*call, "--", "echo", "a; b").stdout == "a; b\n"
        for refused, why in (
            (("--", "sh", "-c", "touch gone"), "runs only these commands: echo."),
            (("--env", "PATH=/nowhere", "--", "echo", "x"), "runs echo only without variables of the job's own: PATH."),
        ):
            done = home.run(*call, *refused)
            assert done.returncode == 1
            assert why in done.stderr
    assert not (home.folder / "gone").exists()


def test_a_second_worker_of_one_name_is_refused_until_the_first_is_gone(home: Home, queue_name: str) -> None:
    args = ("-q", queue_name, "-A", "tasks", "--name", f"{queue_name}-one")
    with home.worker(*args) as first:
        refused = home.run("worker", *args)
        assert refused.returncode == 2
        assert f"A worker named '{queue_name}-one' already runs (pid {first.pid})." in refused.stderr
        assert f"{queue_name}-one" in home.run("workers", "list").stdout
    with home.worker(*args):
        pass


def test_a_worker_without_a_broker_is_exit_code_3(home: Home) -> None:
    done = home.run("worker", "--procs", "1", "--url", "amqp://127.0.0.1:1")
    assert done.returncode == 3
    assert done.stderr.startswith("error: Cannot reach the broker at 127.0.0.1:1: connection refused.\n")


def test_queues_are_declared_listed_and_purged_on_the_record(home: Home, queue_name: str) -> None:
    done = home.run("queues", "declare", queue_name)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, queue_name)
    assert home.run("queues", "declare", queue_name).stdout == ""
    report = json.loads(home.run("queues", "declare", f"{queue_name}-j", "--json").stdout)
    assert (report["created"], report["differ"]) == ([f"{queue_name}-j"], [])
    code, text = home.on_terminal("queues", "declare", f"{queue_name}-t")
    assert (code, text.splitlines()[0]) == (0, f"✓ created {queue_name}-t")
    job_id = home.run("enqueue", "-q", queue_name, "tasks:hello", "x").stdout.strip()
    assert home.run("queues", "purge", queue_name, "-n").stdout == f"would remove 1 job from {queue_name}\n"
    done = home.run("queues", "purge", queue_name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: This would remove 1 job on '{queue_name}' (")
    code, text = home.on_terminal("queues", "purge", queue_name, until=lambda told: "Type its name:" in told)
    assert code == 130
    assert text.startswith(f"  {job_id[:8]}  hello('x')\nThis removes 1 job of '{queue_name}'. Type its name: ")
    assert home.run("queues", "purge", queue_name, "-y").stdout == "1\n"
    home.run("enqueue", "-q", queue_name, "tasks:hello", "x")
    assert json.loads(home.run("queues", "purge", queue_name, "-y", "--json").stdout)["purged"] == 1
    # nothing to lose, nothing to ask
    assert home.on_terminal("queues", "purge", queue_name) == (0, f"✓ removed 0 from {queue_name}\n")
    assert home.run("queues", "list", queue_name).stdout.split("\t")[:3] == [queue_name, "0", "0"]
    assert len(job_id) == 16


def test_a_purged_job_ends_the_wait_for_it(home: Home, queue_name: str) -> None:
    with home.started("enqueue", "-q", queue_name, "tasks:hello", "x", "--wait") as process:
        eventually(lambda: _has_one(home, queue_name), timeout_s=60)
        home.run("queues", "purge", queue_name, "-y")
        assert process.wait(60) == 1
    assert home.log().endswith(" was cancelled.\n")


def _has_one(home: Home, queue: str) -> None:
    assert home.run("queues", "list", queue).stdout.split("\t")[:3] == [queue, "1", "0"]


def test_a_queue_that_is_not_there_is_exit_code_4(home: Home, queue_name: str) -> None:
    for args in (("list", queue_name), ("purge", queue_name, "-y")):
        done = home.run("queues", *args)
        assert done.returncode == 4
        assert done.stderr.startswith(f"error: There is no queue '{queue_name}'.\n")


def test_one_of_ours_is_made_anew_only_if_it_is_empty(home: Home) -> None:
    done = home.run("queues", "declare", "--replace", "jobrunner.v1.delay.27")
    assert (done.returncode, done.stdout) == (0, "jobrunner.v1.delay.27\n")
    done = home.run("queues", "declare", "--replace", "task_queue")
    assert done.returncode == 2
    done = home.run("queues", "declare", "--replace", "jobrunner.v1.ledger")
    assert done.returncode == 2


def test_dev_runs_what_it_receives_on_the_broker_in_force(home: Home, queue_name: str) -> None:
    with home.started("dev", "-q", queue_name, "-p", "1") as process:
        eventually(lambda: home.has_logged("worker.started"), timeout_s=60)
        done = home.run("enqueue", "-q", queue_name, "--wait", "--", "echo", "hi")
        assert done.stdout == "hi\n"
        done = home.run("enqueue", "-q", queue_name, "--wait", "tasks:hello", "you")
        assert done.stdout == '"hello you"\n'
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_dev_starts_a_private_broker_and_with_once_stops_it(tmp_path: Path) -> None:
    home = Home(tmp_path, tasks=TASKS)
    with home.started("dev", "-p", "1", "--once") as process:
        eventually(lambda: home.has_logged("worker.started"), timeout_s=90)
        assert home.run("enqueue", "--wait", "tasks:hello", "you").stdout == '"hello you"\n'
        shown = home.run("config", "show", "--origin").stdout
        assert re.match(r"url\tamqp://127\.0\.0\.1:\d+/jobrunner\tlocal broker\n", shown)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    done = home.run("broker", "status")
    assert done.returncode == 1


def test_a_worker_leaves_no_process_behind(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name) as process:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
        )
        children = [int(pid) for pid in listed.stdout.split()]
        assert len(children) >= 2
    for pid in children:
        eventually(lambda pid=pid: _is_gone(pid), timeout_s=60)


def _is_gone(pid: int) -> None:
    assert not Path(f"/proc/{pid}").exists()
