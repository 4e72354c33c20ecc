"""Every file of tests/hostile/corpus at live workers, one without a key and one with: none gets in, none gets lost."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from jobrunner.broker.topology import CONTROL, DEAD, EVENTS
from jobrunner.brokerurl import parse_url
from jobrunner.ids import id_of
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.hostile import Hostile, Keys, Place, corpus
from tests.support.keys import write_key
from tests.support.worker import WorkerProcess, starts

Ends = Counter[tuple[str, str, str]]
"""Queue, SHA-256 of the body, reason."""


def throw(url: str, queue: str, messages: list[Hostile]) -> list[Hostile]:
    """Publish them all; those that the broker took. It refuses what is too large, and breaks on what it cannot read."""
    taken = []
    connection = pika.BlockingConnection(pika.URLParameters(url))
    for message in messages:
        try:
            eventually(lambda: _put(connection, queue, message))  # noqa: B023 - called at once
            taken.append(message)
        except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker) as exc:
            if exc.reply_code not in (406, 541):
                raise
            if connection.is_closed:
                connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.close()
    return taken


def _put(connection: pika.BlockingConnection, queue: str, message: Hostile) -> None:
    """Raises: AssertionError where the queue cannot take anything now, as while it elects its leader."""
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("", queue, message.body, message.properties, mandatory=True)
    except pika.exceptions.NackError as exc:
        raise AssertionError("not taken now") from exc
    finally:
        if channel.is_open:
            channel.close()


def lines_of(cli: Commands, *args: str) -> list[Any]:
    """Its JSON documents, with numbers that only some readers of JSON take."""
    return [json.loads(line, parse_int=float) for line in cli.run("--json", *args).stdout.splitlines()]


def forge(url: str) -> None:
    """What is no event, no cancel and no question, to whoever listens to those."""
    deep = b'{"kind":"cancel","verb":"ping","at":1,"x":' + b"[" * 5_000
    bodies = (
        b"",
        b"\xff",
        deep,
        b'{"kind":"cancel","verb":"\xff","reason":"\xff","at":1}',
        b'{"kind":"cancel","at":1e400}',
    )
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for body in bodies:
        for kind in ("cancel", "queued", "succeeded", "dead", "worker"):
            channel.basic_publish(EVENTS, f"{kind}.-.{id_of(body)}", body)
        for key in ("all", "queue.plain", "queue.guarded"):
            channel.basic_publish(CONTROL, key, body)
    connection.close()


class DeadLetters:
    """Takes the dead letters out, one by one."""

    def __init__(self, url: str) -> None:
        self.ends: Ends = Counter()
        self.headers: list[set[str]] = []
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()

    def close(self) -> None:
        self._connection.close()

    def hold(self, wanted: Ends) -> None:
        """Assert that they are these and no others."""
        while True:
            method, properties, body = self._channel.basic_get(DEAD, auto_ack=True)
            if method is None:
                break
            headers = properties.headers or {}
            self.headers.append(set(headers))
            self.ends[str(headers["jr-queue"]), hashlib.sha256(body).hexdigest(), str(headers["jr-reason"])] += 1
        assert self.ends == wanted


def expected(queue: str, messages: list[Hostile], reason: Callable[[Hostile], str]) -> Ends:
    ends = [(queue, hashlib.sha256(one.body).hexdigest(), reason(one)) for one in messages]
    return Counter(end for end in ends if end[2] not in ("succeeded", "parked"))


def with_key(message: Hostile) -> str:
    """Only what is too large is refused before the signature is looked at."""
    return message.expect if message.is_signed or message.expect == "too_large" else "unsigned"


@pytest.mark.timeout(240)
def test_each_is_dead_once_for_its_reason_and_nothing_runs(make_vhost: Callable[..., str], tmp_path: Path) -> None:
    url = make_vhost()
    keys = Keys()
    key_file = write_key(tmp_path / "key", *keys.lines)
    witness, never = tmp_path / "witness", tmp_path / "never"
    cli = Commands(tmp_path, {"JOBRUNNER_URL": url})
    cli.run("queues", "declare", "plain", "guarded")
    keyed = {"JOBRUNNER_AUTHKEY_FILE": str(key_file)}

    def place(queue: str) -> Place:
        return Place(queue, parse_url(url).vhost, str(witness), str(never))

    plain = [one for one in corpus(place("plain"), keys) if not one.is_signed]
    guarded = corpus(place("guarded"), keys)
    with (
        WorkerProcess(cli, "-q", "plain", "--procs", "1") as open_worker,
        WorkerProcess(cli, "-q", "guarded", "--procs", "1", **keyed) as closed_worker,
    ):
        letters = DeadLetters(url)
        forge(url)
        plain, guarded = throw(url, "plain", plain), throw(url, "guarded", guarded)
        wanted = expected("plain", plain, lambda one: one.expect) + expected("guarded", guarded, with_key)
        eventually(lambda: letters.hold(wanted), timeout_s=90)
        # both live, have lost nothing on the way, and run what is good
        assert cli.run("enqueue", "-q", "plain", "tasks:add", "2", "3", "--wait").stdout == "5\n"
        assert cli.run("enqueue", "-q", "guarded", "tasks:add", "3", "4", "--wait", env=keyed).stdout == "7\n"
        for worker in (open_worker, closed_worker):
            assert worker.process.poll() is None
            assert not {"broker.lost", "child.died", "worker.bug"} & set(worker.actions())
            assert "Traceback" not in worker.log.read_text()
        letters.hold(wanted)
        letters.close()
    assert not never.exists()
    assert starts(witness) == 0
    # what was told of them is read as ever, and each line is JSON
    (told,) = lines_of(cli, "list", "--limit", "500")
    dead = [job for job in told["jobs"] if job["state"] == "dead"]
    assert len(dead) == len({body for _, body, _ in wanted})
    records = lines_of(cli, "events")
    assert sum(record.get("kind") == "dead" for record in records) == wanted.total()
    for args in (("list", "args.0:x"), ("events",), ("dead",), ("status",), ("logs", "all"), ("doctor", "--audit")):
        assert "hit a bug" not in cli.run(*args, code=None).stderr
    for job in told["jobs"]:
        if job["task"] == "tasks:hopeless":
            lines_of(cli, "show", job["id"])
            cli.run("show", job["id"])
