"""No second run while the first lives, with nothing shortened: two workers, the default times, real minutes."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import WorkerProcess, pids_in, starts, wait_for_start

pytestmark = pytest.mark.timeout(900)

LOST_AFTER_S = 15
QUEUE = "task_queue"


@contextmanager
def two_workers(cli: Commands, *args: str) -> Iterator[list[WorkerProcess]]:
    with ExitStack() as stack:
        started = [WorkerProcess(cli, "-p", "2", "--lost-after", f"{LOST_AFTER_S}s", *args) for _ in range(2)]
        yield [stack.enter_context(worker) for worker in started]


def owner_of(workers: list[WorkerProcess], witness: Path) -> WorkerProcess:
    """The worker whose process runs the job."""
    parent = int(Path(f"/proc/{pids_in(witness)[-1]}/stat").read_text().rpartition(")")[2].split()[1])
    return next(worker for worker in workers if worker.process.pid == parent)


def gone_from(cli: Commands) -> None:
    """No message of a job is left, neither in its queue nor on its way back to it."""

    def nothing() -> None:
        rows = cli.json("queues", "list", QUEUE)["queues"]
        assert [row["ready"] for row in rows] == [0]

    eventually(nothing, 90, 0.5)


def let_it_run(seconds: float) -> None:
    """Real time has to pass: that is what the test is about."""
    end = time.monotonic() + seconds

    def over() -> None:
        assert time.monotonic() >= end

    eventually(over, seconds + 10, 0.2)


def test_a_broker_restarted_under_a_job_of_a_minute_means_one_start(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    with two_workers(cli) as workers:
        waiting = cli.start("enqueue", "tasks:slow", str(witness), "60", "--wait")
        wait_for_start(witness)
        let_it_run(20)
        fresh_broker.restart()
        assert waiting.wait(120) == 0
        gone_from(cli)
        told = [action for worker in workers for action in worker.actions()]
        assert {"job.adopted", "job.deferred", "job.suppressed"} & set(told)
    assert starts(witness) == starts(witness, "end") == 1


def test_connections_that_are_cut_again_and_again_mean_one_start(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    with two_workers(cli):
        waiting = cli.start("enqueue", "tasks:slow", str(witness), "60", "--wait")
        wait_for_start(witness)
        for _ in range(6):
            let_it_run(7)
            fresh_broker.ctl("close_all_connections", "--vhost", "jobrunner", "cut by a test")
        assert waiting.wait(120) == 0
        gone_from(cli)
    assert starts(witness) == starts(witness, "end") == 1


def test_a_job_of_four_minutes_starts_once_where_acks_have_one(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    set_ack_timeout(fresh_broker, 60_000)
    with two_workers(cli, "-p", "1") as workers:
        waiting = cli.start("enqueue", "tasks:slow", str(witness), "240", "--wait")
        wait_for_start(witness)
        assert waiting.wait(420) == 0
        gone_from(cli)
        told = [action for worker in workers for action in worker.actions()]
        assert "job.lease_lost" in told
    assert starts(witness) == starts(witness, "end") == 1


def set_ack_timeout(broker: TestBroker, timeout_ms: int) -> None:
    """From 3.12 the policies of a private broker have a timeout of their own, which beats the node's."""
    if broker.major < 4:
        broker.ctl("eval", f"application:set_env(rabbit, consumer_timeout, {timeout_ms}).")
        return
    definition = f'{{"consumer-timeout": {timeout_ms}}}'
    broker.ctl(
        "set_policy", "-p", "jobrunner", "short", f"^{QUEUE}$", definition, "--priority", "99", "--apply-to", "queues"
    )


def test_the_job_of_a_killed_worker_starts_elsewhere_in_time(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    with two_workers(cli) as workers:
        waiting = cli.start("enqueue", "tasks:slow", str(witness), "30", "--wait")
        wait_for_start(witness)
        let_it_run(LOST_AFTER_S + 5)
        owner_of(workers, witness).kill()
        killed = time.monotonic()
        wait_for_start(witness, 2, timeout_s=60)
        assert time.monotonic() - killed < LOST_AFTER_S + 5
        assert waiting.wait(90) == 0
    assert (starts(witness), starts(witness, "end")) == (2, 1)


def test_a_job_that_is_handed_back_does_not_wait_for_the_silence_of_its_worker(
    make_commands: Callable[..., Commands], fresh_broker: TestBroker, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=fresh_broker.url)
    with two_workers(cli, "--grace", "0s") as workers:
        waiting = cli.start("enqueue", "tasks:slow", str(witness), "40", "--wait")
        wait_for_start(witness)
        let_it_run(LOST_AFTER_S + 5)  # by then they know each other
        owner_of(workers, witness).process.terminate()
        stopped = time.monotonic()
        wait_for_start(witness, 2, timeout_s=60)
        assert time.monotonic() - stopped < LOST_AFTER_S / 2
        assert waiting.wait(90) == 0
