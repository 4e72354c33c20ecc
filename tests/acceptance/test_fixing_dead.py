"""`jobrunner dead` on real jobs: grouped by cause, listed, thrown away on the record."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.home import Home

TASKS = """
from jobrunner import job

@job(retries=0)
def fetch(number): raise TimeoutError(f"read timed out after {number} s")

@job(retries=0)
def parse(): raise ValueError("no such luck")
"""
CAUSE = "[0-9a-f]{4}"


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker, queue_name: str) -> Iterator[Home]:
    """Three dead fetches, one dead parse and one dead command in the queue of the test."""
    home = Home(tmp_path, url=broker.url, tasks=TASKS)
    jobs: list[dict[str, object]] = [{"call": "tasks:fetch", "args": [number]} for number in range(3)]
    jobs += [{"call": "tasks:parse"}, {"run": ["sh", "-c", "echo corrupt file 17 >&2; exit 1"], "retries": 0}]
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    with home.worker("-q", queue_name, "-A", "tasks", "--allow-commands"):
        done = home.run("enqueue", "-q", queue_name, "--from", "-", "--wait", stdin=lines.encode())
        assert done.returncode == 1, done
        yield home


def causes(home: Home, queue: str) -> list[dict[str, object]]:
    document = json.loads(home.run("dead", f"queue:{queue}", "--json").stdout)
    assert document["total"] == sum(one["count"] for one in document["causes"])
    return list(document["causes"])


def test_groups_say_how_many_what_and_where(home: Home, queue_name: str) -> None:
    found = {str(one["task"]): one for one in causes(home, queue_name)}
    assert {task: one["count"] for task, one in found.items()} == {"tasks.fetch": 3, "tasks.parse": 1, "sh": 1}
    assert re.fullmatch(CAUSE, str(found["tasks.fetch"]["cause"]))
    assert found["tasks.parse"]["error"] == "ValueError: no such luck"
    assert str(found["tasks.parse"]["place"]).startswith("tasks.py:")
    assert "corrupt file 17" in str(found["sh"]["error"])
    piped = home.run("dead", "causes", f"queue:{queue_name}").stdout.splitlines()
    assert sorted(line.split("\t")[4] for line in piped) == ["sh", "tasks.fetch", "tasks.parse"]
    code, text = home.on_terminal("dead", f"queue:{queue_name}")
    head, *rows, hint = text.splitlines()
    assert (code, head.split()) == (0, ["CAUSE", "COUNT", "NEWEST", "OLDEST", "TASK", "ERROR"])
    assert len([row for row in rows if re.match(CAUSE, row)]) == 3
    assert re.fullmatch(f"Look:  jobrunner list cause:{CAUSE}    Again:  jobrunner retry cause:{CAUSE}", hint)


def test_a_group_can_be_listed_and_a_filter_without_matches_says_so(home: Home, queue_name: str) -> None:
    fetch = next(one for one in causes(home, queue_name) if one["task"] == "tasks.fetch")
    listed = home.run("dead", "list", f"cause:{fetch['cause']}", f"queue:{queue_name}")
    assert len(listed.stdout.splitlines()) == 3
    _, text = home.on_terminal("dead", "list", f"cause:{fetch['cause']}", f"queue:{queue_name}")
    assert text.count("✗ dead") == 3
    listed = home.run("dead", "list", f"cause:{fetch['cause']}", f"queue:{queue_name}", "--json")
    assert {one["state"] for one in json.loads(listed.stdout)["jobs"]} == {"dead"}
    _, text = home.on_terminal("dead", f"queue:{queue_name}-none")
    assert text == "Nothing is dead.\n"


def test_purged_jobs_read_as_cancelled_and_no_filter_brings_them_back(home: Home, queue_name: str) -> None:
    where = ["task:fetch", f"queue:{queue_name}"]
    refused = home.run("dead", "purge", *where)
    assert refused.returncode == 2
    assert "This would remove 3 dead jobs for good on " in refused.stderr
    dry = home.run("dead", "purge", *where, "-n")
    assert (dry.returncode, len(dry.stdout.split())) == (0, 3)
    done = home.run("dead", "purge", *where, "-y")
    assert (done.returncode, sorted(done.stdout.split())) == (0, sorted(dry.stdout.split())), done
    rows = json.loads(home.run("list", *where, "--json").stdout)["jobs"]
    assert {(row["state"], row["error"]["message"].split(" by ")[0]) for row in rows} == {("cancelled", "purged")}
    assert [one["task"] for one in causes(home, queue_name) if one["task"] == "tasks.fetch"] == []
    none = home.run("retry", *where)
    assert (none.returncode, none.stderr) == (0, "Nothing to retry.\n")
    by_id = home.run("retry", rows[0]["id"])
    assert (by_id.returncode, by_id.stdout) == (0, f"{rows[0]['id']}\n")
    again = home.run("dead", "purge", *where, "-y", "--json")
    assert again.returncode == 0
    assert all(one["purged"] for one in json.loads(again.stdout)["jobs"])  # of the one that died anew, if it has


def test_on_a_terminal_the_filter_is_typed_again(home: Home, queue_name: str) -> None:
    def is_asked(text: str) -> bool:
        return "to do it" in text

    for typed, code, shown in (("y\n", 130, "Stopped."), (f"queue:{queue_name}\n", 0, "✓ removed 5 dead jobs")):
        ended, text = home.on_terminal("dead", "purge", f"queue:{queue_name}", until=is_asked, typed=typed)
        assert (ended, shown in text) == (code, True), text
