"""`jobrunner enqueue` against a real broker: what it prints on a terminal and piped, and what it waits for."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner.broker import declare
from jobrunner.broker.topology import Queue
from jobrunner.ids import new_id
from tests.broker.lab import lab
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
        f"error: Still not ended after 0 s: {SHORT}\\. It goes on\\.\nhint:  jobrunner show --why \\w{{4}}\n",
        done.stderr,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_wait_that_is_stopped_says_that_the_job_goes_on(
    number: signal.Signals, code: int, home: Home, queue_name: str
) -> None:
    with home.started("enqueue", "-q", queue_name, "tasks:long", "--wait") as process:
        eventually(lambda: _is_queued(home, queue_name), timeout_s=60)
        process.send_signal(number)
        assert process.wait(60) == code
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
    with home.piped("enqueue", "-q", queue_name, "--from", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write('{"shell":"true"}\n')
            process.stdin.flush()
            assert ID.fullmatch(process.stdout.readline().strip())
        process.stdin.close()
        assert process.wait(60) == 0


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


# --- an id that is known, priorities --------------------------------------------------------------------------------


def test_the_same_id_again_is_shown_waited_for_and_followed_and_queued_once(
    home: Home, queue_name: str, job_id: str
) -> None:
    again = ("enqueue", "-q", queue_name, "--id", job_id, "tasks:add", "2", "3")
    done = [home.run(*again) for _ in range(2)]
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == [(0, f"{job_id}\n", "")] * 2
    document = json.loads(home.run(*again, "--json").stdout)
    assert (document["id"], document["duplicate"], document["state"]) == (job_id, True, "queued")
    code, text = home.on_terminal(*again)
    assert (code, text.splitlines()) == (
        0,
        [
            f"✓ {job_id[:8]}  tasks.add(2, 3)  → {queue_name}, known already: queued",
            f"  Nothing was queued. Look:  jobrunner show {job_id[:4]}",
        ],
    )
    eventually(lambda: _is_queued(home, queue_name))
    assert home.run(*again, "--wait", "--wait-timeout", "0.2s").returncode == 124
    with home.worker("-q", queue_name):
        assert home.run(*again, "--wait").stdout == "5\n"
    for wish in ("--wait", "--follow"):
        document = json.loads(home.run(*again, wish, "--json").stdout)
        assert (document["duplicate"], document["result"]) == (True, 5)
    assert home.run(*again, "--follow", "--wait").stdout == "5\n"
    kinds = [line.split("\t")[1] for line in home.run("events", job_id).stdout.splitlines()]
    assert kinds == ["queued", "succeeded"]


def test_a_known_id_for_another_job_is_warned_of(home: Home, queue_name: str, job_id: str) -> None:
    home.run("enqueue", "-q", queue_name, "--id", job_id, "tasks:add", "2", "3")
    other = home.run("enqueue", "-q", queue_name, "--id", job_id, "tasks:add", "2", "4")
    assert (other.returncode, other.stdout) == (0, f"{job_id}\n")
    assert other.stderr == f"! {job_id[:8]} is another job: tasks.add(2, 3). Nothing was queued.\n"


@pytest.fixture
def job_id() -> str:
    return new_id()


def test_a_priority_without_effect_is_warned_of(home: Home, broker: TestBroker, queue_name: str) -> None:
    def warned(*words: str) -> list[str]:
        done = home.run("enqueue", "-q", queue_name, "--json", "tasks:add", "1", "1", *words)
        return [warning["code"] for warning in json.loads(done.stdout)["warnings"]]

    assert warned("--priority", "normal") == ["no_worker"]
    expected = ["priority_ignored"] if broker.major < 4 else []
    assert warned("--priority", "high") == ["no_worker", *expected]
    _, text = home.on_terminal("enqueue", "-q", queue_name, "tasks:add", "1", "1", "--priority", "9")
    sentence = f"! RabbitMQ {broker.version} ignores priorities on '{queue_name}'."
    assert (sentence in text.splitlines()) == bool(expected)


def test_a_full_queue_is_named_by_who_is_refused_and_by_what_waits_before_it(
    home: Home, broker: TestBroker, queue_name: str
) -> None:
    limited = Queue(queue_name, {"x-queue-type": "quorum", "x-max-length": 2, "x-overflow": "reject-publish"})

    async def declare_it() -> None:
        async with lab(broker.url) as made:
            await declare.declare(await made.connect(), [limited])

    asyncio.run(declare_it())
    enqueue = ("enqueue", "-q", queue_name, "--connect-timeout", "1s", "tasks:add", "1", "1")
    delayed = home.run(*enqueue, "--delay", "0.5s").stdout.strip()
    assert [home.run(*enqueue).returncode for _ in range(2)] == [0, 0]
    refused = home.run(*enqueue)
    assert refused.returncode == 3
    assert "is full or down" in refused.stderr

    def waits() -> None:
        why = json.loads(home.run("show", delayed, "--why", "--json").stdout)["why"]
        assert (why["code"], why["fix"]) == ("queue_full", f"jobrunner worker -q {queue_name}")

    eventually(waits, timeout_s=60, interval_s=0.2)
    status = json.loads(home.run("status", queue_name, "--json").stdout)
    assert "queue_full" in [problem["code"] for problem in status["problems"]]
    home.run("queues", "purge", queue_name, "--yes")


ASK = """
import sys
from jobrunner.cli.app import run
code = run(sys.argv[1:])
sys.stdout.flush()
print(code, *sorted({"rich", "sqlite3"} & set(sys.modules)), file=sys.stderr)
"""


def test_the_view_is_read_only_for_an_id_that_was_given(home: Home, queue_name: str, job_id: str) -> None:
    for given, imported in (((), "0"), (("--id", job_id), "0 sqlite3")):
        call = [sys.executable, "-c", ASK, "enqueue", "-q", queue_name, "tasks:add", "1", "2", "--json", *given]
        done = subprocess.run(call, env=home.environ, cwd=home.folder, capture_output=True, text=True, check=True)
        assert done.stderr.splitlines()[-1] == imported
