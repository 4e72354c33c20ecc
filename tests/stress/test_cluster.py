"""Three nodes in containers, as docker-compose.cluster.yml makes them: nodes are lost, jobs are not."""

import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobrunner.local import probe
from tests.stress.test_owner import let_it_run
from tests.support.command import ROOT, Commands
from tests.support.eventually import eventually
from tests.support.hold import await_hold, release
from tests.support.worker import WorkerProcess, starts, wait_for_start

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

NODES = ("rabbit1", "rabbit2", "rabbit3")
KILLS = 6
KILL_EVERY_S = 30.0


class Cluster:
    """A project of its own from the repository's file, without its workers."""

    def __init__(self) -> None:
        self.ports = [probe.free_port() for _ in NODES]
        self.password = secrets.token_hex(12)
        self._project = f"jobrunner-test-{secrets.token_hex(3)}"
        command = ["docker", "compose", "--file", "docker-compose.cluster.yml"]
        self._command = [*command, "--project-name", self._project, "--env-file", os.devnull]
        self._env = os.environ | {
            "JOBRUNNER_AMQP_PORT": str(self.ports[0]),
            "JOBRUNNER_AMQP_PORT_2": str(self.ports[1]),
            "JOBRUNNER_AMQP_PORT_3": str(self.ports[2]),
            "JOBRUNNER_MANAGEMENT_PORT": str(probe.free_port()),
            "JOBRUNNER_RABBITMQ_PASSWORD": self.password,
            "JOBRUNNER_RABBITMQ_COOKIE": secrets.token_hex(12),
        }

    @property
    def url(self) -> str:
        return self.url_of(*NODES)

    def url_of(self, *nodes: str) -> str:
        ports = [self.ports[NODES.index(node)] for node in nodes]
        return f"amqp://jobrunner:{self.password}@{','.join(f'127.0.0.1:{port}' for port in ports)}/jobrunner"

    def compose(self, *args: str) -> str:
        done = subprocess.run(
            [*self._command, *args], cwd=ROOT, env=self._env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"docker compose {' '.join(args)}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self, *nodes: str) -> None:
        self.compose("up", "--detach", "--wait", *nodes)

    def cut_off(self, node: str) -> None:
        """Let the node reach nobody, and nobody the node."""
        self._network("disconnect", node)

    def reach_again(self, node: str) -> None:
        """The opposite."""
        self._network("connect", node, "--alias", node)

    def _network(self, verb: str, node: str, *options: str) -> None:
        names = (f"{self._project}_default", f"{self._project}-{node}-1")
        subprocess.run(["docker", "network", verb, *options, *names], check=True, capture_output=True, timeout=60)

    def leader_of(self, queue: str) -> str:
        """The node that has the queue, such as `rabbit2`. Asked of each: some are down."""

        ask = ("rabbitmqctl", "-q", "-p", "jobrunner", "list_queues", "name", "leader")

        def asked() -> str:
            for node in NODES:
                done = subprocess.run(
                    [*self._command, "exec", "-T", "--user", "rabbitmq", node, *ask],
                    cwd=ROOT,
                    env=self._env,
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                for line in done.stdout.splitlines():
                    name, _, leader = line.partition("\t")
                    if name == queue and leader.startswith("rabbit@"):
                        return leader.removeprefix("rabbit@")
            raise AssertionError("nobody knows")

        return eventually(asked, 60, 0.5)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        made.up(*NODES)
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "1")


def enqueue(cli: Commands, witness: Path, count: int) -> set[str]:
    """The ids of those that were confirmed. An answer may be lost on the way: such a job runs or does not."""
    tried = [cli.run("enqueue", "tasks:slow", str(witness), "0.1", code=None, timeout_s=90) for _ in range(count)]
    return {done.stdout.strip() for done in tried if done.returncode == 0}


def wait_for_ends(witness: Path, ids: set[str]) -> None:
    def all_ended() -> None:
        ended = {line.split()[1] for line in witness.read_text().splitlines() if line.startswith("end ")}
        assert ids <= ended

    eventually(all_ended, 240, 0.5)


def test_jobs_go_on_while_the_leader_is_killed_every_thirty_seconds(
    make_commands: Callable[..., Commands], cluster: Cluster, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=cluster.url)
    with WorkerProcess(cli, "-p", "3", "--lost-after", "15s"), WorkerProcess(cli, "-p", "3", "--lost-after", "15s"):
        running = [cli.start("enqueue", "tasks:slow", str(witness), "100", "--wait") for _ in range(2)]
        wait_for_start(witness, 2)
        ids: set[str] = set()
        killed = []
        for _ in range(KILLS):
            leader = cluster.leader_of("task_queue")
            cluster.compose("kill", leader)
            killed.append(leader)
            next_kill = time.monotonic() + KILL_EVERY_S
            ids |= enqueue(cli, witness, 20)
            cluster.up(leader)
            let_it_run(max(0.0, next_kill - time.monotonic()))
        assert [waiting.wait(120) for waiting in running] == [0, 0]
        ids |= enqueue(cli, witness, 5)
        wait_for_ends(witness, ids)
        audit = cli.json("audit", code=None)
        assert audit["lost"] == 0, audit
    begun = [line.split()[1] for line in witness.read_text().splitlines() if line.startswith("start ")]
    print(f"killed: {killed}; {len(ids)} confirmed of {KILLS * 20 + 5}; {len(set(begun))} jobs, {len(begun)} starts")


@pytest.mark.parametrize("for_s", [10, 30])
def test_jobs_go_on_while_the_leader_is_cut_off(
    make_commands: Callable[..., Commands], cluster: Cluster, witness: Path, for_s: float
) -> None:
    cli = make_commands(JOBRUNNER_URL=cluster.url)
    with WorkerProcess(cli, "-p", "3", "--lost-after", "15s"), WorkerProcess(cli, "-p", "3", "--lost-after", "15s"):
        running = cli.start("enqueue", "tasks:slow", str(witness), "20", "--wait")
        wait_for_start(witness)
        ids = enqueue(cli, witness, 20)
        leader = cluster.leader_of("task_queue")
        cluster.cut_off(leader)
        ids |= enqueue(cli, witness, 10)
        let_it_run(for_s)
        cluster.reach_again(leader)
        assert running.wait(240) == 0
        wait_for_ends(witness, ids)
        assert len(ids) >= 20
    print(f"{len(ids) + 1} jobs, {starts(witness)} starts")


BACK = {"stop": "start", "pause": "unpause"}
"""stop: the node that is left notices, and stops too (pause_minority). pause: it does not know for a minute."""

IN_TIME_S = 30.0
"""10 s to connect, 10 s until a confirm is given up, and what a busy machine adds."""


@pytest.mark.parametrize("how", list(BACK))
def test_without_a_majority_an_enqueue_says_in_time_whether_the_job_may_be_queued(
    make_commands: Callable[..., Commands], cluster: Cluster, witness: Path, how: str
) -> None:
    """What is asked first tells whether the broker answers at all. If not, nothing was published: 3. If so, the job was
    published and no majority can confirm it: 5, and the id.
    """
    cli = make_commands(JOBRUNNER_URL=cluster.url)
    with WorkerProcess(cli, "-p", "2", "--lost-after", "15s"):
        assert cli.run("enqueue", "tasks:add", "2", "3", "--wait").stdout == "5\n"
        cluster.compose(how, "rabbit1", "rabbit2")
        began = time.monotonic()
        told = cli.run("enqueue", "tasks:slow", str(witness), "0", code=None, timeout_s=90)
        took_s = time.monotonic() - began
        print(f"{how}, before the command: exit {told.returncode} after {took_s:.1f} s; {told.stderr}")
        assert told.returncode in (3, 5), told.stderr
        assert took_s < IN_TIME_S
        cluster.compose(BACK[how], "rabbit1", "rabbit2")
        until_it_works(cli)
        if told.returncode == 5:
            bring_to_its_end(cli, witness, told.stderr)
            return
        assert "may be queued" not in told.stderr
        assert starts(witness) == 0


@pytest.mark.parametrize("how", list(BACK))
def test_a_job_that_was_published_where_no_majority_is_left_is_unconfirmed_and_its_id_is_told(
    make_commands: Callable[..., Commands], cluster: Cluster, witness: Path, how: str
) -> None:
    cli = make_commands(JOBRUNNER_URL=cluster.url)
    fifo = cli.folder / "fifo"
    os.mkfifo(fifo)
    with WorkerProcess(cli, "-p", "2", "--lost-after", "15s"):
        assert cli.run("enqueue", "tasks:add", "2", "3", "--wait").stdout == "5\n"
        env = {"JOBRUNNER_FAILPOINT": "enqueue.before_publish:hold", "JOBRUNNER_FAILPOINT_FIFO": str(fifo)}
        env["JOBRUNNER_URL"] = cluster.url_of("rabbit3")  # the one that stays
        process = cli.start("enqueue", "tasks:slow", str(witness), "0", env=env)
        await_hold(process, fifo, 30)  # the broker has answered, and the job is the next that it gets
        cluster.compose(how, "rabbit1", "rabbit2")
        began = time.monotonic()
        release(fifo)
        _, stderr = process.communicate(timeout=90)
        took_s = time.monotonic() - began
        print(f"{how}, before the publish: exit {process.returncode} after {took_s:.1f} s; {stderr}")
        assert process.returncode == 5, stderr
        assert took_s < IN_TIME_S
        cluster.compose(BACK[how], "rabbit1", "rabbit2")
        until_it_works(cli)
        bring_to_its_end(cli, witness, stderr)


def until_it_works(cli: Commands) -> None:
    def works() -> None:
        assert cli.run("enqueue", "tasks:add", "2", "3", "--wait", code=None, timeout_s=90).stdout == "5\n"

    eventually(works, 180, 1)


def bring_to_its_end(cli: Commands, witness: Path, stderr: str) -> None:
    """Once more by the id that was told: whether it was stored or not, it ends, and it is one job."""
    told = re.search(r"--id ([0-9a-z]{16})$", stderr, re.MULTILINE)
    assert told, stderr
    assert "may be queued or not" in stderr
    again = cli.run("enqueue", "--id", told[1], "tasks:slow", str(witness), "0", "--wait", timeout_s=90)
    assert again.returncode == 0
    assert cli.json("show", told[1])["state"] == "succeeded"
    assert {line.split()[1] for line in witness.read_text().splitlines()} == {told[1]}
