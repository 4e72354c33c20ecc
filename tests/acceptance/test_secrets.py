"""Canaries: a broker password, a key and variables that must be found nowhere, searched for everywhere."""

import base64
import ctypes
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.worker import WorkerProcess

MARK = secrets.token_hex(6)
PASSWORD = f"canary/{MARK}@password"
KEY = base64.b64encode(f"canary-{MARK}-key-of-32-bytes-or-more".encode()).decode()
UNNAMED = f"canary-{MARK}-unnamed"
NAMED = f"canary-{MARK}-named"
ARGUMENT = f"canary-{MARK}-argument"
QUOTED = f"canary-{MARK}-quoted"
NOWHERE = (PASSWORD, quote(PASSWORD, safe=""), KEY, f"canary-{MARK}-key", UNNAMED)
"""What is found in nothing that is written, shown or sent."""

LOOK = """
import json
import os
from pathlib import Path

from jobrunner import job


def readable(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return None


@job(retries=0)
def look(_argument, found, quoted):
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    seen = {
        "mine": readable(os.getpid(), "environ"),
        "parent": "open" if readable(os.getppid(), "environ") else "closed",
        "parents_command": readable(os.getppid(), "cmdline"),
        "variables": dict(os.environ),
        "processes": {f"{pid} {name}": readable(pid, name) for pid in pids for name in ("environ", "cmdline")},
    }
    try:
        with open(f"/proc/{os.getppid()}/mem", "rb") as file:
            seen["memory"] = "open"
    except OSError as exc:
        seen["memory"] = type(exc).__name__
    Path(found).write_text(json.dumps(seen))
    print("looked, and fail now")
    raise RuntimeError(f"no route to amqp://app:{quoted}@elsewhere, password={quoted}")
"""


def drop_capabilities() -> None:
    """Even root is then like any user: it may look into processes as their owner only. Source: capabilities(7)."""
    libc = ctypes.CDLL(None)
    for number in range(64):
        libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.fixture
def url(broker: TestBroker) -> Iterator[str]:
    """Of the shared broker, by a user whose password is a canary."""
    user = f"canary-{MARK}"
    broker.ctl("add_user", user, PASSWORD)
    broker.ctl("set_permissions", "-p", broker.parsed.vhost, user, ".*", ".*", ".*")
    yield broker.url.replace(broker.url.partition("://")[2].rpartition("@")[0], f"{user}:{quote(PASSWORD, safe='')}", 1)
    broker.ctl("delete_user", user)


def texts_below(folder: Path, *but: Path) -> str:
    """All files below a folder, as one text."""
    files = [path for path in folder.rglob("*") if path.is_file() and path not in but]
    assert files
    return "\n".join(f"{path}\n{path.read_bytes().decode(errors='replace')}" for path in files)


def found_in(text: str, *words: str) -> list[str]:
    """Those that are in it, with what stands around."""
    return [f"{word}: {text[max(0, at - 200) : at + 80]}" for word in words if (at := text.find(word)) >= 0]


@pytest.mark.skipif(sys.platform != "linux", reason="looks through /proc")
def test_canaries_are_found_nowhere(url: str, queue_name: str, tmp_path: Path) -> None:
    variables = {"JOBRUNNER_URL": url, "JOBRUNNER_AUTHKEY": KEY}
    (tmp_path / "work").mkdir()
    cli = Commands(tmp_path / "work", variables | {"CANARY_NAMED": NAMED, "CANARY_UNNAMED": UNNAMED})
    of_worker = Commands(cli.folder, variables)
    (cli.folder / "looking.py").write_text(LOOK)
    found = tmp_path / "found"
    said: list[str] = []

    def run(*args: str, code: int | None = None, **env: str) -> str:
        done = cli.run(*args, code=code, env=env)
        said.append(f"{args}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    options = ("-q", queue_name, "--procs", "1", "--app", "looking", "--log-level", "debug")
    with WorkerProcess(of_worker, *options, before=drop_capabilities) as worker:
        enqueue = ("enqueue", "-q", queue_name, "--env", "CANARY_NAMED")
        job_id = run(*enqueue, "looking:look", ARGUMENT, str(found), QUOTED, code=0).strip()
        worker.wait_for("job.dead")
        seen = json.loads(found.read_text())
        ps = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        for args in (
            *(("key", "show"), ("key", "check"), ("config", "show", "--origin"), ("--json", "config", "show")),
            *(
                ("doctor", "--report"),
                ("--json", "doctor", "--report"),
                ("workers",),
                ("queues", "list"),
            ),
            *(("show", job_id), ("--json", "show", job_id), ("logs", job_id), ("result", job_id), ("list",), ("dead",)),
            *(("--json", "events"), ("status",), ("--json", "workers", "list"), ("broker", "status")),
        ):
            run(*args)
        # what fails: another port, a name that is wrong, a key that is none, an error of jobrunner itself
        run("-vv", "list", JOBRUNNER_URL=url.replace(f":{url.rpartition(':')[2]}", ":1/x"))
        run("-vv", "status", JOBRUNNER_URL=url.replace("canary-", "nobody-", 1))
        run("-vv", "status", JOBRUNNER_AUTHKEY=f"{KEY}!")
        run("-vv", "config", "check", JOBRUNNER_URL=url.replace("amqp://", "canary://"))
        run("-vv", "enqueue", "tasks:add", "1", "2", JOBRUNNER_FAILPOINT="enqueue.before_publish:raise")
        bugs = list(cli.state.glob("bug-*"))
    log = worker.log.read_text()

    # no process, no file, no line
    assert not found_in(ps, *NOWHERE, NAMED)
    assert not found_in("\n".join(said), *NOWHERE)
    assert not found_in(texts_below(cli.folder, found), *NOWHERE)
    assert len(bugs) == 1, said[-1]
    # a log has no arguments, no variables, and nothing that an error quotes
    assert "looking:look" in log
    assert not found_in(log, *NOWHERE, ARGUMENT, NAMED, QUOTED)
    # a job sees the variable that was named, and no other; nobody's password, whichever process it looks at
    assert seen["variables"]["CANARY_NAMED"] == NAMED
    assert not found_in(json.dumps(seen["variables"]), *NOWHERE, "JOBRUNNER_URL", "JOBRUNNER_AUTHKEY")
    assert seen["mine"]
    assert "jobrunner" in seen["parents_command"]
    assert (seen["parent"], seen["memory"]) == ("closed", "PermissionError")
    assert not found_in(json.dumps(seen["processes"]), *NOWHERE)
    # its own, and the guardian's, which runs as the same user
    assert sum(text is not None for name, text in seen["processes"].items() if "environ" in name) >= 2
