"""Nothing is lost: the installed command, real processes killed, a real broker restarted, and a witness outside."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pika

from jobrunner.broker import control
from jobrunner.broker.connection import Connection
from jobrunner.brokerurl import parse_url
from tests.support.broker import TestBroker
from tests.support.command import Commands, depth, has_depth
from tests.support.eventually import eventually
from tests.support.foreign import publish
from tests.support.worker import GatedJob, WorkerProcess, alive, pids_in, starts, wait_for_start


def test_a_result_comes_back(cli: Commands, queue_name: str) -> None:
    with WorkerProcess(cli, "-q", queue_name, "-p", "2"):
        assert cli.run("enqueue", "-q", queue_name, "tasks:add", "2", "3", "--wait").stdout == "5\n"


def test_a_job_that_fails_runs_again_and_then_succeeds(cli: Commands, queue_name: str, witness: Path) -> None:
    with WorkerProcess(cli, "-q", queue_name):
        done = cli.json("enqueue", "-q", queue_name, "tasks:fails_until", str(witness), "3", "--wait")
    assert (done["state"], done["result"]) == ("succeeded", 3)
    assert starts(witness) == 3


def test_a_job_that_always_fails_ends_as_a_dead_letter_with_its_story(
    cli: Commands, queue_name: str, witness: Path
) -> None:
    before = depth(cli, "jobrunner.v1.dead")
    with WorkerProcess(cli, "-q", queue_name):
        done = cli.run("enqueue", "-q", queue_name, "tasks:fails", str(witness), "--wait", "--json", code=1)
    document = json.loads(done.stdout.splitlines()[0])
    assert document["state"] == "dead"
    assert document["error"]["class"] == "ValueError"
    assert starts(witness) == 3
    has_depth(cli, "jobrunner.v1.dead", before + 1)


def test_a_permanent_failure_is_dead_at_once(cli: Commands, queue_name: str, witness: Path) -> None:
    with WorkerProcess(cli, "-q", queue_name):
        cli.run("enqueue", "-q", queue_name, "tasks:hopeless", str(witness), "--wait", code=1)
    assert starts(witness) == 1


def test_a_job_may_choose_when_it_runs_again(cli: Commands, queue_name: str, witness: Path) -> None:
    with WorkerProcess(cli, "-q", queue_name):
        assert cli.run("enqueue", "-q", queue_name, "tasks:later", str(witness), "--wait").stdout == '"done"\n'
    assert starts(witness) == 2


def test_the_job_of_a_killed_worker_runs_on_another_and_its_process_is_gone(
    cli: Commands, queue_name: str, witness: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    waiting = cli.start("enqueue", "-q", queue_name, "tasks:until", str(witness), str(gate), "--wait")
    with WorkerProcess(cli, "-q", queue_name) as first:
        wait_for_start(witness)
        first.kill()

        def gone() -> None:
            assert not alive(pids_in(witness)[0])

        eventually(gone, 60)
    with WorkerProcess(cli, "-q", queue_name):
        wait_for_start(witness, 2)
        gate.touch()
        assert waiting.wait(60) == 0
    assert starts(witness, "end") == 1


def test_a_killed_process_is_replaced_and_its_job_runs_again(
    cli: Commands, queue_name: str, witness: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with WorkerProcess(cli, "-q", queue_name, "-p", "1") as worker:
        waiting = cli.start(
            "enqueue", "-q", queue_name, "--backoff", "0.1s..0.2s", "tasks:until", str(witness), str(gate), "--wait"
        )
        wait_for_start(witness)
        os.kill(pids_in(witness)[0], signal.SIGKILL)
        wait_for_start(witness, 2)
        gate.touch()
        assert waiting.wait(60) == 0
        assert "job.retrying" in worker.actions()


def test_a_job_that_kills_its_worker_ends_in_the_dead_letters(cli: Commands, queue_name: str, witness: Path) -> None:
    waiting = cli.start("enqueue", "-q", queue_name, "tasks:kills_worker", str(witness), "--wait", "--json")
    for _ in range(5):
        worker = WorkerProcess(cli, "-q", queue_name, "-p", "1")
        assert worker.process.wait(timeout=60) == -signal.SIGKILL
    with WorkerProcess(cli, "-q", queue_name, "-p", "1"):
        out, _ = waiting.communicate(timeout=60)
    assert json.loads(out.splitlines()[0])["error"]["reason"] == "poison"
    assert starts(witness) == 5


def test_the_first_signal_lets_jobs_finish(cli: Commands, queue_name: str, witness: Path) -> None:
    with WorkerProcess(cli, "-q", queue_name) as worker:
        job = GatedJob(cli, queue_name, witness)
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_for("worker.stopping")
        job.let_go()
        assert worker.process.wait(timeout=60) == 0
    assert depth(cli, queue_name) == 0


def test_the_second_signal_hands_back_at_once_and_no_attempt_is_used(
    cli: Commands, queue_name: str, witness: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    cli.run("enqueue", "-q", queue_name, "--retries", "0", "tasks:until", str(witness), str(gate), code=None)
    for count in (1, 2, 3, 4):
        with WorkerProcess(cli, "-q", queue_name) as worker:
            wait_for_start(witness, count)
            worker.process.send_signal(signal.SIGINT)
            worker.wait_for("worker.stopping")
            worker.process.send_signal(signal.SIGINT)
            assert worker.process.wait(timeout=60) == 130
            assert "job.handed_back" in worker.actions()
        assert not alive(pids_in(witness)[-1])
    gate.touch()
    with WorkerProcess(cli, "-q", queue_name) as worker:
        worker.wait_for("job.succeeded")


def test_after_the_grace_the_job_is_handed_back(cli: Commands, queue_name: str, witness: Path, tmp_path: Path) -> None:
    cli.run("enqueue", "-q", queue_name, "tasks:until", str(witness), str(tmp_path / "gate"), code=None)
    with WorkerProcess(cli, "-q", queue_name, "--grace", "0.5s") as worker:
        wait_for_start(witness)
        assert worker.stop() == 0
        assert worker.actions().count("job.handed_back") == 1
    has_depth(cli, queue_name, 1)


def test_a_broker_restart_under_a_running_job_means_one_start(
    make_commands: Callable[..., Commands], own_broker: TestBroker, queue_name: str, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=own_broker.url)
    with WorkerProcess(cli, "-q", queue_name, "-p", "2") as worker:
        job = GatedJob(cli, queue_name, witness)
        own_broker.restart()
        worker.wait_for("broker.back", timeout_s=60)
        job.let_go()

        def settled() -> None:
            assert depth(cli, queue_name) == 0
            assert {"job.adopted", "job.suppressed"} & set(worker.actions())

        eventually(settled, 60)
    assert starts(witness) == 1


def test_a_plain_message_is_dead_lettered_and_the_worker_goes_on(cli: Commands, queue_name: str) -> None:
    before = depth(cli, "jobrunner.v1.dead")
    with WorkerProcess(cli, "-q", queue_name) as worker:
        publish(cli.env["JOBRUNNER_URL"], queue_name, b"Hello...")
        worker.wait_for("job.dead")
        assert cli.run("enqueue", "-q", queue_name, "tasks:add", "2", "3", "--wait").stdout == "5\n"
    has_depth(cli, "jobrunner.v1.dead", before + 1)


def test_a_plain_message_is_the_input_of_a_raw_handler(cli: Commands, queue_name: str, witness: Path) -> None:
    for args, action in [
        (("--raw-handler", "tasks:handle"), "job.succeeded"),
        (("--raw-handler-command", "sh -c 'wc -c >> witness-c'"), "job.succeeded"),
    ]:
        with WorkerProcess(cli, "-q", queue_name, *args, WITNESS=str(witness)) as worker:
            publish(cli.env["JOBRUNNER_URL"], queue_name, b"Hello...")
            worker.wait_for(action)
    assert starts(witness, "body-8") == 1
    assert (cli.folder / "witness-c").read_text().split() == ["8"]


def test_after_its_queue_was_deleted_and_made_again_a_job_is_retried_as_before(
    cli: Commands, queue_name: str, witness: Path
) -> None:
    call = ("enqueue", "-q", queue_name, "tasks:fails_until", str(witness), "2", "--wait")
    with WorkerProcess(cli, "-q", queue_name):
        assert cli.run(*call).stdout == "2\n"
        with pika.BlockingConnection(pika.URLParameters(cli.env["JOBRUNNER_URL"])) as connection:
            connection.channel().queue_delete(queue_name)
        assert cli.run(*call).stdout == "2\n"


def test_a_job_that_outlasts_the_brokers_ack_timeout_starts_once(
    make_commands: Callable[..., Commands], own_broker: TestBroker, queue_name: str, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=own_broker.url)
    # the timeout is looked at by each channel, once in a tick that it learns when it opens
    own_broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 300).")
    own_broker.ctl("eval", "application:set_env(rabbit, consumer_timeout, 1000).")
    try:
        with WorkerProcess(cli, "-q", queue_name, "-p", "2") as worker:
            job = GatedJob(cli, queue_name, witness)
            worker.wait_for("job.lease_lost")
            worker.wait_for("job.adopted")
            own_broker.ctl("eval", "application:set_env(rabbit, consumer_timeout, 86400000).")
            job.let_go()

            def settled() -> None:
                assert depth(cli, queue_name) == 0

            eventually(settled)
    finally:
        own_broker.ctl("eval", "application:set_env(rabbit, consumer_timeout, 86400000).")
        own_broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")
    assert starts(witness) == 1


def test_a_deleted_ledger_is_made_again_and_no_result_is_lost(
    make_commands: Callable[..., Commands], own_broker: TestBroker, queue_name: str
) -> None:
    cli = make_commands(JOBRUNNER_URL=own_broker.url)
    with WorkerProcess(cli, "-q", queue_name) as worker:
        assert cli.run("enqueue", "-q", queue_name, "tasks:add", "1", "1", "--wait").stdout == "2\n"
        own_broker.ctl("delete_queue", "-p", "jobrunner", "jobrunner.v1.ledger")
        waiting = cli.start("enqueue", "-q", queue_name, "tasks:add", "2", "3")
        worker.wait_for("job.succeeded", 2)
        assert waiting.wait(60) == 0


def test_a_running_job_is_cancelled_with_its_whole_group(cli: Commands, queue_name: str, witness: Path) -> None:
    """The shell ignores SIGTERM, and so does what it starts: both are gone five seconds later."""
    line = f"trap '' TERM; echo start x $$ >> {witness}; sleep 300 & echo start y $! >> {witness}; wait"
    with WorkerProcess(cli, "-q", queue_name, "--allow-commands") as worker:
        job_id = cli.run("enqueue", "-q", queue_name, "--shell", line).stdout.strip()
        wait_for_start(witness, 2)
        ask_to_cancel(cli.env["JOBRUNNER_URL"], job_id)
        worker.wait_for("job.cancelled")
        assert not any(alive(pid) for pid in pids_in(witness))


def ask_to_cancel(url: str, job_id: str) -> None:
    async def ask_all() -> None:
        connection = Connection(parse_url(url), role="test", notify=lambda _: None)
        await connection.connect_once()
        replies = await control.ask(connection, "all", "cancel", jobs={job_id: 0}, timeout_s=5, expected=1)
        await connection.close()
        assert [reply.jobs[job_id] for reply in replies] == ["running"]

    asyncio.run(ask_all())
