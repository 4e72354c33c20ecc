"""Keys against real brokers: only what was signed runs, is believed, or is obeyed; rotation strands nothing."""

import json
import signal
import time
from pathlib import Path

import msgspec
import pika
import pytest

from jobrunner import attempts, envelope, events
from jobrunner.broker.message import event_message, job_message, properties_of
from jobrunner.broker.topology import EVENTS
from jobrunner.client import Client
from jobrunner.keyring import new_lines, read_ring
from tests.broker.lab import in_loop
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.foreign import publish
from tests.support.keys import write_key
from tests.support.worker import WorkerProcess, action_of, starts, wait_for_start


def dead_reasons(worker: WorkerProcess) -> list[str]:
    found = [record for record in worker.records() if "job.dead" in json.dumps(record)]
    return [word for record in found for word in REASONS if f'"{word}"' in json.dumps(record)]


def _same(left: object, right: object) -> None:
    assert left == right


REASONS = ("unsigned", "bad_signature", "signature_expired", "not_allowed", "malformed")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "key", new_lines("2026-11", None, None, is_pair=False)[0])


def test_with_a_key_only_what_was_signed_runs(broker: TestBroker, queue_name: str, tmp_path: Path, key: Path) -> None:
    cli = Commands(tmp_path, {"JOBRUNNER_URL": broker.url, "JOBRUNNER_AUTHKEY_FILE": str(key)})
    keyless = {"JOBRUNNER_AUTHKEY_FILE": ""}
    witness = tmp_path / "witness"
    to_queue = ("enqueue", "-q", queue_name)
    with WorkerProcess(cli, "-q", queue_name, "--procs", "1", "--allow-commands") as worker:
        assert cli.run(*to_queue, "tasks:add", "2", "3", "--wait").stdout == "5\n"
        # a retry is signed anew, and the job's own signature still holds
        assert cli.run(*to_queue, "tasks:fails_until", str(witness), "2", "--wait").stdout == "2\n"
        assert cli.run(*to_queue, "--delay", "0.2s", "--wait", "--", "echo", "hi").stdout == "hi\n"
        cli.run(*to_queue, "--", "touch", str(tmp_path / "never"), env=keyless)
        job = envelope.new_job(queue=queue_name, argv=["touch", str(tmp_path / "never")])
        body = msgspec.json.encode(job)
        publish(broker.url, queue_name, body, pika.BasicProperties(message_id=job.id, delivery_mode=2))
        publish(broker.url, queue_name, b"not a job", pika.BasicProperties(delivery_mode=2))
        eventually(lambda: _same(dead_reasons(worker), ["unsigned"] * 3))
        # a copy of a signed one, in another queue or with another body, is not what was signed
        sealed = envelope.seal(envelope.new_job(queue=queue_name, argv=["touch", str(tmp_path / "never")]))
        url = msgspec.structs.replace(broker.parsed, ring=read_ring(key, "test"))
        moved = properties_of(msgspec.structs.replace(job_message(sealed, "", queue_name), queue="elsewhere"), url)
        publish(broker.url, queue_name, sealed.body, moved)
        eventually(lambda: _same(dead_reasons(worker), ["unsigned"] * 3 + ["bad_signature"]))
        # the very same message once more is the job that has run already
        again = envelope.seal(envelope.new_job(queue=queue_name, task="tasks:add", args=msgspec.Raw(b"[1,2]")))
        signed = properties_of(job_message(again, "", queue_name), url)
        for _ in range(2):
            publish(broker.url, queue_name, again.body, signed)
        worker.wait_for("job.suppressed")
        assert [action_of(record) for record in worker.records() if again.job.id in json.dumps(record)] == [
            "job.succeeded",
            "job.suppressed",
        ]
        # a job that died with its signature comes back with another
        done = cli.run(*to_queue, "tasks:hopeless", str(witness), "--wait", "--retries", "0", code=1)
        dead = cli.run("list", "--limit", "1", "--columns", "id", f"queue:{queue_name}", "state:dead", "task:hopeless")
        assert starts(witness) == 3, done.stderr
        cli.run("retry", dead.stdout.strip())
        wait_for_start(witness, 4)
    assert not (tmp_path / "never").exists()


def test_whoever_may_not_sign_it_is_told_so_and_nothing_is_queued(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    key = write_key(tmp_path / "key", new_lines("web3", "worker", None, is_pair=True)[0])
    cli = Commands(tmp_path, {"JOBRUNNER_URL": broker.url, "JOBRUNNER_AUTHKEY_FILE": str(key)})
    lines = tmp_path / "lines"
    lines.write_text('{"call": "tasks:add", "args": [1, 2]}\n' * 3)
    sentence = "None of the keys from JOBRUNNER_AUTHKEY_FILE may sign"
    for words in (("tasks:add", "1", "2"), ("--from", str(lines)), ("--", "true")):
        done = cli.run("enqueue", "-q", queue_name, *words, code=None)
        assert f"{sentence} jobs" in done.stderr
        assert done.returncode in (2, 5)
    done = cli.run("queues", "pause", queue_name, code=2)
    assert sentence in done.stderr
    assert cli.run("list", "all", f"queue:{queue_name}").stdout == ""


def test_what_nobody_signed_is_neither_believed_nor_obeyed(
    broker: TestBroker, queue_name: str, tmp_path: Path, key: Path
) -> None:
    cli = Commands(tmp_path, {"JOBRUNNER_URL": broker.url, "JOBRUNNER_AUTHKEY_FILE": str(key)})
    keyless = {"JOBRUNNER_AUTHKEY_FILE": ""}
    witness, gate = tmp_path / "witness", tmp_path / "gate"
    with WorkerProcess(cli, "-q", queue_name, "--procs", "1"):
        job_id = cli.run("enqueue", "-q", queue_name, "tasks:until", str(witness), str(gate)).stdout.strip()
        wait_for_start(witness)
        ran = attempts.Run(worker="w", host="h", pid=1, started_at=1.0)
        forged = event_message(
            events.Succeeded(at=time.time(), id=job_id, attempt=1, result=msgspec.Raw(b'"forged"'), ran=ran)
        )
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        connection.channel().basic_publish(EVENTS, forged.key, forged.body, properties_of(forged))
        connection.close()
        # whoever has no key sees the forged end, and cannot stop the job
        other_view = keyless | {"JOBRUNNER_STATE_DIR": str(tmp_path / "other")}
        eventually(lambda: _same(cli.json("show", job_id, env=other_view)["state"], "succeeded"))
        cli.run("cancel", job_id, "--yes", "--wait-timeout", "1s", env=keyless, code=None)
        assert cli.state_of(job_id) == "running"
        assert cli.run("wait", job_id, "--timeout", "1s", code=None).returncode == 124
        gate.touch()
        assert cli.run("wait", job_id, "--timeout", "60s").returncode == 0
        assert cli.run("result", job_id).stdout == '"opened"\n'
        # with the key, a cancel counts
        gate.unlink()
        other = cli.run("enqueue", "-q", queue_name, "tasks:until", str(witness), str(gate)).stdout.strip()
        wait_for_start(witness, 2)
        cli.run("cancel", other)
        assert cli.state_of(other) == "cancelled"


@in_loop
async def test_a_rotation_under_load_strands_no_job(broker: TestBroker, queue_name: str, tmp_path: Path) -> None:
    old, new = (new_lines(kid, None, None, is_pair=False)[0] for kid in ("old", "new"))
    of_worker = write_key(tmp_path / "worker-key", old)
    of_client = write_key(tmp_path / "client-key", old)
    cli = Commands(tmp_path, {"JOBRUNNER_URL": broker.url, "JOBRUNNER_AUTHKEY_FILE": str(of_worker)})
    url = msgspec.structs.replace(broker.parsed, ring=read_ring(of_client, "test"))
    with WorkerProcess(cli, "-q", queue_name, "--procs", "1") as worker:

        def renew(*lines: str) -> None:
            write_key(of_worker, *lines)
            count = worker.actions().count("keys.reloaded")
            worker.process.send_signal(signal.SIGHUP)
            worker.wait_for("keys.reloaded", count + 1)

        async with Client(url) as client:
            assert url.ring is not None
            for lines in ((old,), (old, new), (new, old), (new, f"{old} until=2120-01-01")):
                write_key(of_client, *lines)
                url.ring.reload()
                for number in range(40):
                    fields = {"args": msgspec.Raw(b"[%d,1]" % number)}
                    await client.enqueue(envelope.seal(envelope.new_job(queue=queue_name, task="tasks:add", **fields)))
                    if number == 20:
                        renew(*((old, new) if lines == (old,) else (new, old)))
        eventually(lambda: _same(worker.actions().count("job.succeeded"), 160), timeout_s=60)
        assert "job.dead" not in worker.actions()
        # the worker has done with the old key: what is signed with it now is dead
        renew(new)
        stale = msgspec.structs.replace(url, ring=read_ring(write_key(tmp_path / "stale", old), "test"))
        async with Client(stale) as client:
            await client.enqueue(envelope.seal(envelope.new_job(queue=queue_name, task="tasks:add")))
        worker.wait_for("job.dead")
        write_key(of_worker, "nonsense here")
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for("keys.kept")
