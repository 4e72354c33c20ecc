"""What a worker runs, whoever asks: refusals against a real broker, with modules that leave a trace when imported."""

import json
from pathlib import Path

import msgspec

from jobrunner import envelope
from jobrunner.client import Client
from tests.broker.lab import in_loop
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import WorkerProcess

TRACE = "import os\nopen(os.environ['TRACE'], 'a').write(__name__ + '\\n')\n"
MODULES = {
    "secrets_of_ours.py": TRACE + "def go(*_): return 'ran'\n",
    "shop/__init__.py": TRACE,
    "shop/jobs.py": TRACE + "from os import system\ndef pay(n): return n + 1\ndef _hidden(n): return n\nRATE = 3\n",
    "shop2.py": TRACE + "def go(*_): return 'ran'\n",
}
FUNCTIONS = [
    "os:system",
    "posix:system",
    "subprocess:run",
    "builtins:eval",
    "secrets_of_ours:go",
    "shop2:go",  # not below the prefix `shop`
    "shop.jobs:_hidden",
    "shop.jobs:__class__",
    "shop.jobs:pay.__globals__",
    "shop.jobs.pay:__call__",
    "shop.jobs:pay:go",
    "sh\u043ep.jobs:pay",  # a Cyrillic o
    "shop.jobs:p\u0430y",
    "\uff53hop.jobs:pay",  # full width: Python itself would take it for `shop`
    "shop..jobs:pay",
    ".shop.jobs:pay",
    "..shop:pay",
    "shop/jobs:pay",
    "/tmp/shop:pay",
    "shop.jobs:pay\n",
    "shop.jobs:pay\x00",
    "shop.jobs",
    ":pay",
    "shop:",
    "s" * 300 + ":pay",
]
COMMANDS = [["ls"], ["/usr/bin/wc"], ["sh", "-c", "wc"], ["./wc"], ["bin/wc"], ["wc -c"], ["w\u0441"]]


@in_loop
async def test_what_was_not_allowed_is_dead_and_never_imported(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    cli = Commands(tmp_path, {"JOBRUNNER_URL": broker.url, "TRACE": str(trace)})
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    never = tmp_path / "never"
    allowed = ("--allow-import", "shop", "--allow-command", "wc", "--allow-command", "/bin/echo")
    with WorkerProcess(cli, "-q", queue_name, "--procs", "1", *allowed) as worker:
        to_queue = ("enqueue", "-q", queue_name, "--wait")
        arguments = msgspec.json.encode([f"touch {never}"])
        jobs = [{"task": task, "args": msgspec.Raw(arguments)} for task in FUNCTIONS]
        jobs += [{"argv": argv} for argv in COMMANDS]
        jobs += [{"argv": ["wc"], "env": {"PATH": str(tmp_path)}}]
        refused = {}
        async with Client(broker.parsed) as client:
            for fields in jobs:
                sealed = envelope.seal(envelope.new_job(queue=queue_name, **fields))  # type: ignore[arg-type]
                refused[sealed.job.id] = fields
                await client.enqueue(sealed)

        def all_dead() -> None:
            dead = worker.told("job.dead")
            assert [fields for job_id, fields in refused.items() if job_id not in json.dumps(dead)] == []
            assert sum("not_allowed" in json.dumps(record) for record in dead) == len(dead) == len(jobs)

        eventually(all_dead, timeout_s=60)
        assert not never.exists()
        assert not trace.exists()  # neither here nor in the child
        # and what was allowed runs
        assert cli.run(*to_queue, "--stdin", "--", "wc", "-c", stdin="four").stdout.strip() == "4"
        assert cli.run(*to_queue, "--", "/bin/echo", "hi").stdout == "hi\n"
        assert cli.run(*to_queue, "shop.jobs:pay", "1").stdout == "2\n"
        assert trace.read_text().split() == ["shop", "shop.jobs"]
        # what a module has only imported, and what is no function, is not its
        async with Client(broker.parsed) as client:
            for task in ("shop.jobs:system", "shop.jobs:RATE"):
                job = envelope.new_job(queue=queue_name, task=task, args=msgspec.Raw(arguments))
                await client.enqueue(envelope.seal(job))
        worker.wait_for("job.parked", 2)
        assert not never.exists()
