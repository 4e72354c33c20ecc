"""`jobrunner audit` on real jobs in a virtual host of its own: on a terminal, piped, as JSON; jobs that vanish."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.broker import TestBroker
from tests.support.eventually import eventually
from tests.support.home import Home
from tests.support.worker import starts

TASKS = """
import os, time
from pathlib import Path
from jobrunner import context, job

def note(word):
    fd = os.open("witness", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word} {context.id}\\n".encode())

@job
def add(a, b): return a + b

@job(retries=0)
def fail(): raise ValueError("no such luck")

@job
def until(gate):
    note("start")
    while not Path(gate).exists():
        time.sleep(0.01)
"""


def enqueue(home: Home, *jobs: dict[str, object]) -> list[str]:
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    done = home.run("enqueue", "--from", "-", stdin=lines.encode())
    assert done.returncode == 0, done
    return done.stdout.split()


def test_an_audit_says_where_everything_is_and_what_has_vanished(
    tmp_path: Path, broker: TestBroker, make_vhost: Callable[..., str]
) -> None:
    url = make_vhost()
    home = Home(tmp_path, url=url, tasks=TASKS)
    with home.worker("-A", "tasks"):
        enqueue(home, *[{"call": "tasks:add", "args": [1, 2]}] * 3, {"call": "tasks:fail"})
        enqueue(home, {"call": "tasks:add", "args": [1, 2], "delay": "1h"}, {"call": "tasks:until", "args": ["gate"]})
        eventually(lambda: _started(home), timeout_s=60)
        eventually(lambda: _settled(home), timeout_s=60)
        done = home.run("audit")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "lost 0",
            "accepted 6 = succeeded 3, dead 1, cancelled 0, expired 0, open 2",
            "open 2 = ready 0, running 1, later 1",
            "dead letters 1, unrouted messages 0",
        ]
        (home.folder / "gate").touch()
        assert home.run("wait", "task:until", "--timeout", "60s").returncode == 0
    ids = enqueue(home, *[{"call": "tasks:add", "args": [3, 4]}] * 2)
    broker.ctl("purge_queue", "-p", url.rpartition("/")[2], "task_queue")
    eventually(lambda: _lost(home, 2), timeout_s=60)
    piped = home.run("audit")
    assert piped.returncode == 1
    assert sorted(line.split("\t")[0] for line in piped.stdout.splitlines()[4:]) == sorted(ids)
    code, text = home.on_terminal("audit", "--repair")
    assert (code, text.splitlines()[0]) == (0, "✗ lost 2")
    assert "  Queue them again:  jobrunner audit --repair" in text
    assert sorted(line for line in text.splitlines() if "✓" in line) == sorted(
        f"{job_id[:8]}  ✓ queued again from the ledger" for job_id in ids
    )
    with home.worker("-A", "tasks"):
        assert home.run("wait", *ids, "--timeout", "60s").returncode == 0
    _lost(home, 0)


def _started(home: Home) -> None:
    assert starts(home.folder / "witness") == 1


def _settled(home: Home) -> None:
    document = json.loads(home.run("audit", "--json").stdout)
    assert (document["dead"], document["open"]["moving"]) == (1, 0), document


def _lost(home: Home, count: int) -> None:
    document = json.loads(home.run("audit", "--json").stdout)
    assert (document["lost"], len(document["jobs"])) == (count, count), document
