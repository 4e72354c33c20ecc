"""Who has a job that is delivered again: it does not start a second time while the worker that runs it lives."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import GatedJob, WorkerProcess, starts, wait_for_start

A_DAY_MS = 86_400_000


@contextmanager
def ack_timeout(broker: TestBroker, timeout_ms: int) -> Iterator[None]:
    """Channels that are opened now lose what is unacked for so long. Each looks at it once in a tick of its own."""
    broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 300).")
    broker.ctl("eval", f"application:set_env(rabbit, consumer_timeout, {timeout_ms}).")
    try:
        yield
    finally:
        broker.ctl("eval", f"application:set_env(rabbit, consumer_timeout, {A_DAY_MS}).")
        broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")


def test_a_job_that_outlasts_the_ack_timeout_is_not_started_by_a_second_worker(
    make_commands: Callable[..., Commands], own_broker: TestBroker, queue_name: str, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=own_broker.url)
    # who stalls for a second on a busy machine is not dead
    patient = ("-q", queue_name, "-p", "1", "--lost-after", "5s")
    with ack_timeout(own_broker, 3000), WorkerProcess(cli, *patient) as owner:
        job = GatedJob(cli, queue_name, witness)
        with WorkerProcess(cli, *patient) as other:
            owner.wait_for("job.lease_lost")
            other.wait_for("job.deferred")
            # its copy comes by, and the job still runs
            other.wait_for("job.asking", 2)
            job.let_go()

            def suppressed() -> None:
                assert "job.suppressed" in (*owner.actions(), *other.actions())

            eventually(suppressed, 60)
    assert starts(witness) == 1


def test_the_job_of_a_killed_worker_starts_on_another_that_has_asked(
    cli: Commands, queue_name: str, witness: Path
) -> None:
    with WorkerProcess(cli, "-q", queue_name, "-p", "1") as owner:
        job = GatedJob(cli, queue_name, witness)
        with WorkerProcess(cli, "-q", queue_name, "-p", "1") as other:
            owner.kill()
            other.wait_for("job.asking")
            wait_for_start(witness, 2)
            job.let_go()
    assert starts(witness, "end") == 1


def test_a_job_whose_owner_died_after_its_message_was_taken_back_is_run_by_another(
    make_commands: Callable[..., Commands], own_broker: TestBroker, queue_name: str, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=own_broker.url)
    with ack_timeout(own_broker, 3000), WorkerProcess(cli, "-q", queue_name, "-p", "1") as owner:
        job = GatedJob(cli, queue_name, witness)
        with WorkerProcess(cli, "-q", queue_name, "-p", "1") as other:
            other.wait_for("job.deferred")
            owner.process.send_signal(signal.SIGKILL)
            other.wait_for("job.retrying")
            wait_for_start(witness, 2)
            job.let_go()
    assert starts(witness) == 2
