"""Keys and all that changes jobs: with one shared secret for each of three, and with pairs of a class each."""

import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pika
import pytest

from jobrunner.broker.control import Request, request_message
from jobrunner.broker.message import properties_of
from jobrunner.broker.topology import CONTROL
from jobrunner.brokerurl import parse_url
from jobrunner.keyring import new_lines, read_ring
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.keys import write_key
from tests.support.worker import WorkerProcess, starts, wait_for_start

ROLES = ("producer", "worker", "operator")
CANNOT = "None of the keys from JOBRUNNER_AUTHKEY_FILE may sign"


def rings(folder: Path, *, is_pair: bool) -> dict[str, Path]:
    """A file for each: its own line first, and the others'."""
    made = {role: new_lines(role, role if is_pair else None, None, is_pair=is_pair) for role in ROLES}
    files = {}
    for role in ROLES:
        others = [public or own for name, (own, public) in made.items() if name != role]
        files[role] = write_key(folder / f"ring-{role}", made[role][0], *others)
    return files


def as_(files: Mapping[str, Path], role: str) -> dict[str, str]:
    return {"JOBRUNNER_AUTHKEY_FILE": str(files[role])}


def say(url: str, ring: Path, key: str, request: Request) -> None:
    """A signed word to workers, with the signature of the key `all`."""
    message = request_message("all", request)
    properties = properties_of(message, msgspec.structs.replace(parse_url(url), ring=read_ring(ring, "test")))
    connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.channel().basic_publish(CONTROL, key, message.body, properties)
    connection.close()


@pytest.mark.parametrize("is_pair", [False, True], ids=["shared", "pairs"])
def test_each_may_do_its_part_and_what_a_revoked_key_has_signed_is_dead(
    make_vhost: Callable[..., str], tmp_path: Path, is_pair: bool
) -> None:
    files, url = rings(tmp_path, is_pair=is_pair), make_vhost(quorum=True)
    cli = Commands(tmp_path, {"JOBRUNNER_URL": url} | as_(files, "operator"))
    producer = as_(files, "producer")
    witness, gate = tmp_path / "witness", tmp_path / "gate"

    def enqueue(*words: str) -> str:
        return cli.run("enqueue", *words, env=producer).stdout.strip()

    def is_(job_id: str, state: str) -> None:
        assert cli.json("show", job_id, env=producer)["state"] == state  # everybody may look

    with WorkerProcess(cli, "--procs", "1", **as_(files, "worker")) as worker:
        dead = enqueue("tasks:hopeless", str(witness))
        worker.wait_for("job.dead")
        running = enqueue("tasks:until", str(witness), str(gate))
        wait_for_start(witness, 2)
        assert cli.run("workers", "ping", "--self", env=as_(files, "worker")).stdout != ""  # a container's health check
        if is_pair:
            for role, words in (
                ("worker", ("enqueue", "tasks:add", "1", "2")),
                ("producer", ("cancel", running)),
                ("producer", ("queues", "pause", "task_queue")),
                ("producer", ("dead", "purge", "all", "--yes")),
            ):
                assert CANNOT in cli.run(*words, code=2, env=as_(files, role)).stderr
            assert cli.run("status", env=producer).stdout.startswith("task_queue\t")
            seen = cli.run("doctor", env=producer, code=None).stdout
            assert "\tledger\tok\t" in seen
            assert "\tworkers\tunknown\tnone of the keys here may ask workers" in seen
        # words to workers count for a minute, and only as they were addressed
        word = Request(verb="cancel", nonce="n", at=time.time(), jobs={running: 0})
        say(url, files["operator"], "all", msgspec.structs.replace(word, at=time.time() - 61))
        say(url, files["operator"], "queue.task_queue", word)
        assert cli.run("workers", "ping").stdout != ""
        is_(running, "running")
        say(url, files["operator"], "all", word)
        eventually(lambda: is_(running, "cancelled"))
        cli.run("retry", dead)
        wait_for_start(witness, 3)
        worker.wait_for("job.dead", 2)
        cli.run("dead", "purge", "all", "--yes")
        is_(dead, "cancelled")
        assert cli.run("audit").stdout.startswith("lost 0\n")
        # the key gets into wrong hands: what it has signed is dead, and not even read
        cli.run("queues", "pause", "task_queue")
        worker.wait_for("queue.paused")
        enqueue("tasks:add", "1", "2")
        lines = files["worker"].read_text().splitlines()
        write_key(files["worker"], *[f"{line} revoked" if line.startswith("producer ") else line for line in lines])
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for("keys.reloaded")
        cli.run("queues", "resume", "task_queue")
        worker.wait_for("job.dead", 3)
        assert starts(witness) == 3
        told = json.dumps([record for record in worker.records() if "revoked" in json.dumps(record)])
        assert "bad_signature" in told
        assert "the job was signed with key producer, which is revoked" in told
