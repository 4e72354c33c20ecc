"""Names, arguments, errors and output that would take over a terminal: shown there, never obeyed."""

import json
from pathlib import Path

import pika

from jobrunner.ids import new_id
from tests.support.broker import TestBroker
from tests.support.eventually import eventually
from tests.support.foreign import publish
from tests.support.home import Home

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
ACTS = ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e")
"""What a terminal would act on."""

SHOWN = "\\x1b[2J"
TASKS = f"""
from pathlib import Path
import time

from jobrunner import context, job

EVIL = {EVIL!r}


@job(retries=0)
def talk(gate, *_, **__):
    print(EVIL)
    context.progress(0.5, EVIL)
    while not Path(gate).exists():
        time.sleep(0.02)
    raise type(f"E{{EVIL}}", (RuntimeError,), {{}})(EVIL)
"""


def foreign(url: str, queue: str) -> None:
    """A job as only another program would write it."""
    job_id = new_id()
    fields = {"v": 1, "id": job_id, "queue": queue, "iat": 1.0, "task": f"{EVIL}:x", "user": EVIL, "run": EVIL}
    body = json.dumps({**fields, "tags": [EVIL], "label": EVIL, "kwargs": {EVIL: EVIL}}, ensure_ascii=False).encode()
    publish(url, queue, body, pika.BasicProperties(message_id=job_id, content_type=EVIL))


def test_no_command_lets_a_terminal_obey_what_came_from_jobs(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    home = Home(tmp_path, broker.url, TASKS)
    queue, gate, worker = f"{EVIL}{queue_name[-9:]}", tmp_path / "gate", f"w{EVIL}{queue_name[-9:]}"
    said: dict[tuple[str, ...], str] = {}

    def on_terminal(*args: str, shows: bool = True) -> None:
        said[args] = home.on_terminal(*args)[1]
        assert SHOWN in said[args] or not shows, (args, said[args])

    options = ("--allow-commands", "--app", "tasks", "--name", worker, "-q", queue)
    with home.started("worker", "--procs", "2", "--grace", "5s", *options) as process:
        eventually(lambda: home.has_logged(SHOWN), timeout_s=60)
        on_terminal("enqueue", "-q", queue, "--tag", EVIL, "--label", EVIL, "tasks:talk", str(gate), EVIL)
        foreign(broker.url, queue)
        command = home.run("enqueue", "-q", queue, "--retries", "0", "--", "sh", "-c", f"printf '{EVIL}'; exit 3", EVIL)
        fine = home.run("enqueue", "-q", queue, "--", "printf", f"%s{EVIL}")
        assert (command.returncode, fine.returncode) == (0, 0)
        eventually(lambda: _runs(home, queue), timeout_s=60)
        on_terminal("status", queue)
        on_terminal("list", f"queue:{queue}")
        gate.touch()
        assert home.run("wait", f"queue:{queue}", "--timeout", "60s").returncode == 1
        on_terminal("map", "-q", queue, "--run", EVIL, "--", "printf", "%s", ":::", EVIL)
        columns = "id,state,task,queue,error,worker,user,run,tags,label,note,progress"
        for args in (
            *(("list", f"queue:{queue}", "--columns", columns), ("dead",), ("dead", "list", f"queue:{queue}")),
            *(("show", command.stdout.strip()), ("logs", command.stdout.strip()), ("result", fine.stdout.strip())),
            *(("events",), ("queues", "list"), ("workers", "list"), ("workers", "ping"), ("list", f"queue:{EVIL}")),
            *(("retry", "-n", f"queue:{queue}"), ("cancel", "-n", f"queue:{queue}")),
        ):
            on_terminal(*args, shows=False)
        on_terminal("doctor", "-q", queue, shows=False)
        process.terminate()
        process.wait(60)
    # another worker, with a terminal of its own
    home.run("enqueue", "-q", queue, "--retries", "0", "--", "sh", "-c", f"printf '{EVIL}' >&2; exit 3", EVIL)
    foreign(broker.url, queue)
    burst = ("worker", "--burst", "--procs", "1", *options)
    on_terminal(*burst)
    assert said[burst].count(SHOWN) >= 4, said[burst]  # its banner, and what it says of both jobs
    on_terminal("queues", "pause", queue)
    piped = {args: home.run(*args).stdout for args in (("list", f"queue:{queue}"), ("events",))}
    log = home.log()
    assert SHOWN in log
    said |= piped | {("worker",): log}
    obeyed = [(args, line) for args, text in said.items() for line in text.split("\n") if any(map(line.count, ACTS))]
    assert not obeyed


def _runs(home: Home, queue: str) -> None:
    states = home.run("list", f"queue:{queue}", "--columns", "state").stdout.split()
    assert sorted(states) == ["dead", "dead", "running", "succeeded"], states
