"""Progress of jobs: functions say it with `context.progress`, commands with `jobrunner progress`."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.command import COMMAND
from tests.support.eventually import eventually
from tests.support.home import Home

TASKS = """
import time
from pathlib import Path
from jobrunner import context, job

@job
def crawl(gate):
    context.progress(0.25, "page 1 of 4")
    while not Path(gate).exists():
        time.sleep(0.01)
    context.progress(1.0, "done")
"""


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker, queue_name: str) -> Iterator[Home]:
    home = Home(tmp_path, url=broker.url, tasks=TASKS)
    with home.worker("-q", queue_name, "-A", "tasks", "--allow-commands"):
        yield home


def shows(home: Home, job_id: str, words: str) -> None:
    def look() -> None:
        assert words in home.on_terminal("show", job_id)[1]

    eventually(look, timeout_s=60)


def test_a_function_is_seen_on_its_way(home: Home, queue_name: str) -> None:
    job_id = home.enqueue("-q", queue_name, "tasks:crawl", "gate")
    shows(home, job_id, "25 % page 1 of 4")
    (home.folder / "gate").touch()
    assert home.run("wait", job_id, "--timeout", "60s").returncode == 0
    events = home.run("events", job_id, "--json").stdout.splitlines()
    assert [event["text"] for event in map(json.loads, events) if event.get("kind") == "progress"] == [
        "page 1 of 4",
        "done",
    ]


def test_a_command_is_seen_on_its_way(home: Home, queue_name: str) -> None:
    os.mkfifo(home.folder / "gate")
    line = f'{" ".join(COMMAND)} progress 40% "second of five" && read -r line < gate'
    job_id = home.enqueue("-q", queue_name, "--shell", line)
    shows(home, job_id, "40 % second of five")
    with (home.folder / "gate").open("w") as gate:
        gate.write("go\n")
    assert home.run("wait", job_id, "--timeout", "60s").returncode == 0


def test_as_json_it_says_what_was_told_and_list_and_show_have_it(home: Home, queue_name: str) -> None:
    os.mkfifo(home.folder / "gate")
    line = (
        f"{' '.join(COMMAND)} --json progress 0.4 second of five; {' '.join(COMMAND)} progress - text; read -r l < gate"
    )
    job_id = home.enqueue("-q", queue_name, "--shell", line)

    def look() -> None:
        document = json.loads(home.run("show", job_id, "--json").stdout)
        assert (document["progress"], document["progress_text"]) == (None, "text")

    eventually(look, timeout_s=60)
    (listed,) = json.loads(home.run("list", job_id, "--json").stdout)["jobs"]
    assert (listed["progress"], listed["progress_text"]) == (None, "text")
    assert "● running" in (shown := home.on_terminal("list", job_id)[1])
    assert shown.splitlines()[1].endswith("  text")
    with (home.folder / "gate").open("w") as gate:
        gate.write("go\n")
    assert home.run("wait", job_id, "--timeout", "60s").returncode == 0
    said = json.loads(home.run("result", job_id).stdout)
    assert said == {"schema": 1, "fraction": 0.4, "text": "second of five"}


def test_outside_of_a_job_a_sentence(home: Home) -> None:
    code, text = home.on_terminal("progress", "40%", "half")
    assert (code, text.splitlines()[0]) == (
        2,
        "error: This is not inside a running job: there is no progress to report.",
    )
    done = home.run("progress", "40%", "half")
    assert done.returncode == 2
    assert done.stderr.startswith("error: This is not inside a running job: there is no progress to report.\nhint:  ")


def test_what_is_no_share_is_refused(home: Home) -> None:
    done = home.run("progress", "forty", environ={"JOBRUNNER_JOB_PROGRESS_FILE": str(home.folder / "file")})
    assert (done.returncode, "'forty' is no share of a whole." in done.stderr) == (2, True)
