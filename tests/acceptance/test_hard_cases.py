"""Hard cases, each with a real broker: what it takes back, refuses or has no room for loses nothing."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pika

from jobrunner.local.files import MAX_MESSAGE_BYTES
from tests.support.broker import TestBroker
from tests.support.command import ROOT, Commands, depth, has_depth
from tests.support.foreign import publish
from tests.support.worker import GatedJob, WorkerProcess, starts
from tests.support.world import own_vhost


def test_a_job_whose_queue_is_deleted_under_it_ends_with_its_result(
    cli: Commands, broker: TestBroker, queue_name: str, witness: Path
) -> None:
    with WorkerProcess(cli, "-q", queue_name, "-p", "1") as worker:
        job = GatedJob(cli, queue_name, witness)
        broker.ctl("delete_queue", "-p", "jobrunner", queue_name)
        worker.wait_for("job.lease_lost")
        job.let_go()
        # the queue is there again, and its worker with it
        assert cli.run("enqueue", "-q", queue_name, "tasks:add", "2", "3", "--wait").stdout == "5\n"
    assert starts(witness) == 1


def test_a_message_as_large_as_the_broker_takes_becomes_a_dead_letter_with_all_its_bytes(
    cli: Commands, broker: TestBroker, queue_name: str
) -> None:
    body = b"\xff" * MAX_MESSAGE_BYTES
    before = depth(cli, "jobrunner.v1.dead")
    with WorkerProcess(cli, "-q", queue_name, "-p", "1") as worker:
        publish(broker.url, queue_name, body)
        worker.wait_for("job.dead")
        assert cli.run("enqueue", "-q", queue_name, "tasks:add", "2", "3", "--wait").stdout == "5\n"
    has_depth(cli, "jobrunner.v1.dead", before + 1)
    assert take_letter(broker.url, hashlib.sha256(body).hexdigest()) == body


def take_letter(url: str, sha256: str) -> bytes | None:
    """The body of the dead letter with that hash, taken out: a letter of this size would be in the way of others."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    found = None
    while found is None:
        method, properties, body = channel.basic_get("jobrunner.v1.dead")
        if method is None:
            break
        if (properties.headers or {}).get("jr-sha256") == sha256:
            channel.basic_ack(method.delivery_tag)
            found = body
    connection.close()
    return found


def test_while_the_brokers_disk_is_full_results_wait_and_nothing_new_is_taken(
    make_commands: Callable[..., Commands], own_broker: TestBroker, queue_name: str, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=own_broker.url)
    with WorkerProcess(cli, "-q", queue_name, "-p", "1") as worker:
        job = GatedJob(cli, queue_name, witness)
        own_broker.ctl("set_disk_free_limit", "90000000MB")
        try:
            worker.wait_for("broker.blocked", timeout_s=60)
            refused = cli.run(
                "enqueue", "-q", queue_name, "tasks:add", "2", "3", env={"JOBRUNNER_CONNECT_TIMEOUT": "3s"}, code=None
            )
            assert refused.returncode in (3, 5), refused.stderr
            job.open_gate()
            assert "job.succeeded" not in worker.actions()
        finally:
            own_broker.ctl("set_disk_free_limit", "50MB")
        worker.wait_for("broker.unblocked", timeout_s=60)
        job.let_go()
        assert cli.run("enqueue", "-q", queue_name, "tasks:add", "2", "3", "--wait").stdout == "5\n"
    assert starts(witness) == starts(witness, "end") == 1


TASKS = """
from jobrunner import job

@job
def fetch(*args, **kwargs): return "fetched"

def handle(body): return len(body)
"""


def test_jobs_that_an_older_version_left_in_its_queues_run_after_the_upgrade(
    make_commands: Callable[..., Commands], broker: TestBroker, queue_name: str
) -> None:
    samples = {job["name"]: job for job in json.loads((ROOT / "tests/compat/v1/jobs.json").read_text())}
    with own_vhost(broker, queue_name[-30:]) as url:
        cli = make_commands(JOBRUNNER_URL=url)
        cli.run("queues", "declare", "high", "task_queue")
        for sample in samples.values():
            properties = pika.BasicProperties(
                message_id=sample["message_id"],
                type=sample["type"],
                priority=sample["priority"],
                headers=sample["headers"],
                delivery_mode=2,
            )
            publish(url, sample["key"], sample["body"].encode(), properties)
        worker = WorkerProcess(cli, "-q", "high", "-q", "task_queue", "-p", "1", "--raw-handler", "tasks:handle")
        (cli.folder / "tasks.py").write_text(TASKS)
        with worker:
            worker.wait_for("job.succeeded", 2)
            worker.wait_for("job.dead")

            def ends() -> dict[str, str]:
                told = {
                    record["labels"]["job_id"]: record for record in worker.records() if "job_id" in record["labels"]
                }
                return {
                    name: told[job["message_id"]]["event.action"]
                    for name, job in samples.items()
                    if job["message_id"] in told
                }

            # the call is due in 2027 and waits in the ladder; commands were not allowed
            assert ends() == {"smallest": "job.succeeded", "foreign": "job.succeeded", "command": "job.dead"}
            assert depth(cli, "high") == depth(cli, "task_queue") == 0
