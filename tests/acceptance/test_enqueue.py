"""`jobrunner enqueue` against a real broker: what it prints on a terminal and piped, and what it waits for."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.command import COMMAND
from tests.support.eventually import eventually
from tests.support.home import Home

TASKS = """
import os, signal
from jobrunner import Permanent, job

@job(retries=0)
def add(a, b): return a + b

@job(retries=0)
def resize(path, width=1024): return None

@job(retries=0)
def fail(): raise TimeoutError("read timed out")

@job(retries=0)
def long(): signal.pause()
"""
ID = re.compile(r"[0-9a-hjkmnp-tv-z]{16}")
SHORT = "[0-9a-hjkmnp-tv-z]{8}"


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker) -> Home:
    return Home(tmp_path, url=broker.url, tasks=TASKS)


def test_piped_the_id_and_nothing_else(home: Home, queue_name: str) -> None:
    done = home.run("enqueue", "-q", queue_name, "tasks:resize", "a.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    assert ID.fullmatch(done.stdout.removesuffix("\n"))


def test_on_a_terminal_the_call_its_queue_and_what_is_missing(home: Home, queue_name: str) -> None:
    code, text = home.on_terminal("enqueue", "-q", queue_name, "tasks:resize", "photo.jpg", "width=800")
    assert code == 0
    assert re.fullmatch(
        f"✓ {SHORT}  tasks\\.resize\\('photo.jpg', width=800\\)  → {queue_name}\n"
        f"! No worker listens on '{queue_name}'\\. The job waits safely\\.\n"
        f"  Start one:  jobrunner worker -q {queue_name}\n",
        text,
    )


def test_on_a_terminal_a_delayed_command(home: Home, queue_name: str) -> None:
    code, text = home.on_terminal("enqueue", "-q", queue_name, "--delay", "5m", "--", "ffmpeg", "-i", "in 1.mov")
    assert code == 0
    first, warning, fix = text.splitlines()
    assert re.fullmatch(
        f"✓ {SHORT}  ffmpeg -i 'in 1.mov'  → {queue_name}, \\w{{3}} \\d\\d:\\d\\d:\\d\\d [+-]\\d\\d:\\d\\d", first
    )
    assert warning.startswith("! No worker listens")
    assert fix == f"  Start one:  jobrunner worker -q {queue_name} --allow-commands"


def test_arguments_of_a_function_that_is_not_here_are_not_checked_and_that_is_said(home: Home, queue_name: str) -> None:
    _, text = home.on_terminal("enqueue", "-q", queue_name, "elsewhere:f", "1")
    assert text.splitlines()[0].endswith(f"  elsewhere.f(1)  → {queue_name}  (arguments not checked)")


def test_as_json_the_whole_story(home: Home, queue_name: str) -> None:
    done = home.run("enqueue", "-q", queue_name, "tasks:add", "2", "3", "--json")
    document = json.loads(done.stdout)
    assert ID.fullmatch(document.pop("id"))
    assert document.pop("warnings")[0]["code"] == "no_worker"
    assert document == {
        "schema": 1,
        "queue": queue_name,
        "task": "tasks:add",
        "argv": None,
        "not_before": None,
        "duplicate": False,
        "consumers": 0,
    }


def test_waiting_gives_the_result_of_functions_and_the_output_of_commands(home: Home, queue_name: str) -> None:
    def enqueue(*args: str) -> "subprocess.CompletedProcess[str]":
        return home.run("enqueue", "-q", queue_name, "--wait", *args)

    with home.worker("-q", queue_name, "--allow-commands"):
        assert enqueue("tasks:add", "2", "3").stdout == "5\n"
        assert enqueue("tasks:add", '"a"', '"b"').stdout == '"ab"\n'
        done = enqueue("--", "printf", "a\\nb")
        assert (done.returncode, done.stdout) == (0, "a\nb")
        done = enqueue("--stdin", "--", "wc", "-c")
        assert done.stdout.strip() == "0"
        done = enqueue("tasks:fail")
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            f"error: {SHORT} died after 1 try: TimeoutError: read timed out.*\nhint:  jobrunner show \\w{{4}}\n",
            done.stderr,
        )
        done = enqueue("--retries", "0", "--exit-code", "--shell", "echo out; echo why >&2; exit 7")
        assert (done.returncode, done.stdout) == (7, "out\n")
        assert done.stderr.startswith("why\nerror: ")
        done = enqueue("tasks:add", "1", "1", "--json")
        document = json.loads(done.stdout)
        assert (document["state"], document["result"], document["error"]) == ("succeeded", 2, None)
        assert document["took_s"] >= 0


def test_a_wait_that_lasts_too_long_ends_with_124_and_the_job_goes_on(home: Home, queue_name: str) -> None:
    done = home.run("enqueue", "-q", queue_name, "tasks:add", "1", "2", "--wait", "--wait-timeout", "0.3s")
    assert (done.returncode, done.stdout) == (124, "")
    assert re.fullmatch(
        f"error: Still running after 0 s: {SHORT}\\. It goes on\\.\nhint:  jobrunner logs -f \\w{{4}}\n", done.stderr
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_wait_that_is_stopped_says_that_the_job_goes_on(
    number: signal.Signals, code: int, home: Home, queue_name: str
) -> None:
    with home.started("enqueue", "-q", queue_name, "tasks:long", "--wait") as process:
        eventually(lambda: _is_queued(home, queue_name), timeout_s=20)
        process.send_signal(number)
        assert process.wait(5) == code
    assert re.fullmatch(f"{SHORT} goes on\\. jobrunner wait \\w{{4}}\n", home.log())


def _is_queued(home: Home, queue: str) -> None:
    assert home.run("queues", "list", queue).stdout.split("\t")[1:2] == ["1"]


def test_many_jobs_from_lines_are_answered_in_order(home: Home, queue_name: str) -> None:
    lines = [
        '{"call":"tasks:add","args":[1,2]}',
        '{"run":["echo","x"],"retries":0}',
        '{"call":"tasks:add" "args":[]}',
        '{"call":"tasks:add","args":[1]}',
        '{"call":"tasks:resize","args":["a"],"delay":"1h"}',
    ]
    done = home.run("enqueue", "-q", queue_name, "--from", "-", stdin="\n".join(lines).encode())
    assert done.returncode == 5
    assert len(ID.findall(done.stdout)) == len(done.stdout.splitlines()) == 3
    assert done.stderr == (
        "line 3: not JSON: Expecting ',' at column 21; skipped\n"
        "line 4: tasks.add() needs the argument 'b'; skipped\n"
        "3 queued, 2 lines skipped (--strict stops at the first)\n"
    )


def test_strict_stops_at_the_first_bad_line(home: Home, queue_name: str) -> None:
    (home.folder / "l.jsonl").write_text('{"shell":"true"}\nnonsense\n{"shell":"true"}\n')
    done = home.run("enqueue", "-q", queue_name, "--from", "l.jsonl", "--strict", "--json")
    assert done.returncode == 5
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["line"] for document in documents] == [1, 2]
    assert documents[1]["error"]["code"] == "bad_line"


def test_the_results_of_many_come_in_the_order_of_the_input(home: Home, queue_name: str) -> None:
    calls = [{"call": "tasks:add", "args": [number, 1]} for number in range(200)]
    calls[50] = {"call": "tasks:fail", "args": []}
    (home.folder / "l.jsonl").write_text("\n".join(map(json.dumps, calls)))
    with home.worker("-q", queue_name):
        done = home.run("enqueue", "-q", queue_name, "--from", "l.jsonl", "--wait", "--wait-timeout", "50s")
    assert done.returncode == 1, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[2] for row in rows if row[1] == "succeeded"] == [str(n + 1) for n in range(200) if n != 50]
    assert rows[50][1] == "dead"
    assert rows[50][2].startswith("TimeoutError: read timed out")
    assert done.stderr == "200 queued, 1 failed\n"


def test_a_slow_pipe_is_answered_line_by_line(home: Home, queue_name: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "enqueue", "-q", queue_name, "--from", "-"],
        cwd=home.folder,
        env=home.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write(b'{"shell":"true"}\n')
            process.stdin.flush()
            assert ID.fullmatch(process.stdout.readline().decode().strip())
        process.stdin.close()
        assert process.wait(20) == 0


def test_many_go_on_when_nobody_reads_their_ids(home: Home, queue_name: str) -> None:
    (home.folder / "l.jsonl").write_text('{"shell":"true"}\n' * 3000)
    line = f"{' '.join(COMMAND)} enqueue -q {queue_name} --from l.jsonl | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=home.folder, env=home.environ, capture_output=True, text=True, check=True
    )
    assert done.stderr == "3,000 queued\n"
    rows = home.run("queues", "list", queue_name).stdout
    assert rows.split("\t")[:3] == [queue_name, "3000", "0"]


def test_a_password_reaches_neither_output_nor_report(home: Home, broker: TestBroker, queue_name: str) -> None:
    url = broker.url.replace(f":{broker.parsed.password}@", ":canary-password@")
    done = home.run("enqueue", "-q", queue_name, "tasks:add", "1", "2", "-vv", environ={"JOBRUNNER_URL": url})
    assert done.returncode == 3
    assert "refused user" in done.stderr
    assert "canary" not in done.stdout + done.stderr
