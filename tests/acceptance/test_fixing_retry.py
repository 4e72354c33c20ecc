"""`jobrunner retry` on real jobs: on a terminal, piped, as JSON, with canaries, and killed in the middle."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.eventually import eventually
from tests.support.home import Home

TASKS = """
import os
from pathlib import Path
from jobrunner import job

@job(retries=0)
def needs(path):
    Path("runs").open("a").write("run\\n")
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return "found"
"""
SHORT = "[0-9a-hjkmnp-tv-z]{8}"


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker) -> Home:
    return Home(tmp_path, url=broker.url, tasks=TASKS)


@pytest.fixture
def working(home: Home, queue_name: str) -> Iterator[Home]:
    with home.worker("-q", queue_name, "-A", "tasks"):
        yield home


def dead(home: Home, queue: str, count: int = 1) -> list[str]:
    """Ids of jobs that died."""
    lines = "".join(json.dumps({"call": "tasks:needs", "args": ["gate"]}) + "\n" for _ in range(count))
    done = home.run("enqueue", "-q", queue, "--from", "-", "--wait", stdin=lines.encode())
    ids = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert len(ids) == count, done
    return ids


def runs(home: Home) -> int:
    path = home.folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_piped_the_ids_and_the_jobs_run_again(working: Home, queue_name: str) -> None:
    ids = dead(working, queue_name, 3)
    (working.folder / "gate").touch()
    done = working.run("retry", f"queue:{queue_name}")
    assert (done.returncode, sorted(done.stdout.split()), done.stderr) == (0, sorted(ids), "")
    waited = working.run("wait", *ids, "--timeout", "60s")
    assert waited.returncode == 0, waited
    assert runs(working) == 6
    again = working.run("retry", ids[0])
    assert again.returncode == 5
    assert re.fullmatch(f"{SHORT}  [x✗] has succeeded; left alone\n", again.stderr)
    nothing = working.run("retry", f"queue:{queue_name}")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "Nothing to retry.\n")


def test_on_a_terminal_a_line_for_each_job(working: Home, queue_name: str) -> None:
    ids = dead(working, queue_name, 2)
    code, text = working.on_terminal("retry", *ids)
    assert code == 0
    assert sorted(text.splitlines()) == sorted(f"{job_id[:8]}  ○ queued again" for job_id in ids)


def test_as_json_chain_and_error_of_each(working: Home, queue_name: str) -> None:
    (job_id,) = dead(working, queue_name)
    dry = json.loads(working.run("retry", job_id, "-n", "--json").stdout)
    assert dry["dry_run"] is True
    document = json.loads(working.run("retry", job_id, "--json").stdout)
    assert document == {"schema": 1, "jobs": [{"id": job_id, "chain": 1, "error": None, "note": None}]}
    shown = json.loads(working.run("show", job_id, "--json").stdout)
    assert shown["chain"] == 1


def test_more_than_ten_are_asked_for_and_not_done_where_nobody_is_there(working: Home, queue_name: str) -> None:
    dead(working, queue_name, 11)
    done = working.run("retry", f"queue:{queue_name}")
    assert done.returncode == 2
    assert "error: This would retry 11 jobs on " in done.stderr
    assert done.stderr.endswith("hint:  -n · --yes\n")
    assert runs(working) == 11
    yes = working.run("retry", f"queue:{queue_name}", "--yes")
    assert (yes.returncode, len(yes.stdout.split())) == (0, 11)


def test_a_failed_canary_leaves_the_others_untouched(working: Home, queue_name: str) -> None:
    dead(working, queue_name, 4)
    done = working.run("retry", f"queue:{queue_name}", "--canary", "1")
    assert done.returncode == 1
    assert done.stderr == "canary ✗ FileNotFoundError: gate. Stopped: 3 left untouched.\n"
    assert runs(working) == 5
    (working.folder / "gate").touch()
    good = working.run("retry", f"queue:{queue_name}", "--canary", "2")
    assert (good.returncode, len(good.stdout.split())) == (0, 4), good
    assert good.stderr == "canary ✓ ✓  The others follow.\n"


def test_wrong_words_say_what_is_right(home: Home) -> None:
    for args, words in (
        (["retry"], "Which jobs?"),
        (["retry", "k7f9k7f9"], "No job starts with 'k7f9k7f9'"),
        (["retry", "all", "--set", "speed=9"], "--set does not know 'speed'."),
        (["retry", "all", "--rate", "fast"], "'fast' is not a rate."),
    ):
        done = home.run(*args)
        assert words in done.stderr
        assert done.returncode in (2, 4)


def test_killed_between_confirm_and_ack_nothing_is_lost_and_a_second_copy_has_the_same_key(
    working: Home, queue_name: str
) -> None:
    (job_id,) = dead(working, queue_name)
    (working.folder / "gate").touch()
    killed = working.run("retry", job_id, environ={"JOBRUNNER_FAILPOINT": "retry.after_confirm:kill"})
    assert killed.returncode == -9
    eventually(lambda: _assert_runs(working, 2))
    again = working.run("retry", job_id)
    assert again.returncode == 5, again
    assert "has succeeded; left alone" in again.stderr
    _assert_runs(working, 2)


def _assert_runs(home: Home, count: int) -> None:
    assert runs(home) == count
