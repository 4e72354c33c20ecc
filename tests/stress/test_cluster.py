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
from tests.support.worker import WorkerProcess, starts, wait_for_start

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

NODES = ("rabbit1", "rabbit2", "rabbit3")


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
        nodes = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"amqp://jobrunner:{self.password}@{nodes}/jobrunner"

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


def test_jobs_go_on_while_leaders_are_killed_one_after_the_other(
    make_commands: Callable[..., Commands], cluster: Cluster, witness: Path
) -> None:
    cli = make_commands(JOBRUNNER_URL=cluster.url)
    with WorkerProcess(cli, "-p", "3", "--lost-after", "15s"), WorkerProcess(cli, "-p", "3", "--lost-after", "15s"):
        count = 120
        running = [cli.start("enqueue", "tasks:slow", str(witness), "45", "--wait") for _ in range(2)]
        wait_for_start(witness, 2)
        queued = 0
        for _ in range(3):
            for _ in range(count // 3):
                cli.run("enqueue", "tasks:slow", str(witness), "0.1", timeout_s=90)
                queued += 1
            leader = cluster.leader_of("task_queue")
            cluster.compose("kill", leader)
            let_it_run(20)
            cluster.up(leader)
        assert [waiting.wait(120) for waiting in running] == [0, 0]

        def all_ended() -> None:
            assert starts(witness, "end") >= queued + 2

        eventually(all_ended, 180, 0.5)
        audit = cli.json("audit", code=None)
        assert audit["lost"] == 0, audit
    ids = [line.split()[1] for line in witness.read_text().splitlines() if line.startswith("start ")]
    assert len(set(ids)) == queued + 2
    print(f"{queued + 2} jobs, {len(ids)} starts")


@pytest.mark.parametrize("for_s", [10, 30])
def test_jobs_go_on_while_the_leader_is_cut_off(
    make_commands: Callable[..., Commands], cluster: Cluster, witness: Path, for_s: float
) -> None:
    cli = make_commands(JOBRUNNER_URL=cluster.url)
    with WorkerProcess(cli, "-p", "3", "--lost-after", "15s"), WorkerProcess(cli, "-p", "3", "--lost-after", "15s"):
        running = cli.start("enqueue", "tasks:slow", str(witness), "20", "--wait")
        wait_for_start(witness)
        ids = {cli.run("enqueue", "tasks:slow", str(witness), "0.1").stdout.strip() for _ in range(20)}
        leader = cluster.leader_of("task_queue")
        cluster.cut_off(leader)
        # an answer may be lost on the way: then the job's id is told, and the job runs or does not
        tried = [cli.run("enqueue", "tasks:slow", str(witness), "0.1", code=None, timeout_s=90) for _ in range(10)]
        ids |= {done.stdout.strip() for done in tried if done.returncode == 0}
        let_it_run(for_s)
        cluster.reach_again(leader)
        assert running.wait(240) == 0

        def all_ended() -> None:
            ended = {line.split()[1] for line in witness.read_text().splitlines() if line.startswith("end ")}
            assert ids <= ended

        eventually(all_ended, 240, 0.5)
        assert ids
    print(f"{len(ids) + 1} jobs, {starts(witness)} starts")


ANSWERS = {
    # the third node stops at once what it cannot do alone (pause_minority): nothing was stored
    "stop": (3, 5),
    # it cannot know that yet: what it was given is stored or not
    "pause": (5,),
}
BACK = {"stop": "start", "pause": "unpause"}


@pytest.mark.parametrize("how", list(ANSWERS))
def test_with_two_of_three_nodes_down_an_enqueue_answers_in_time_and_tells_the_id(
    make_commands: Callable[..., Commands], cluster: Cluster, witness: Path, how: str
) -> None:
    cli = make_commands(JOBRUNNER_URL=cluster.url)
    with WorkerProcess(cli, "-p", "2", "--lost-after", "15s"):
        assert cli.run("enqueue", "tasks:add", "2", "3", "--wait").stdout == "5\n"
        cluster.compose(how, "rabbit1", "rabbit2")
        began = time.monotonic()
        refused = cli.run("enqueue", "tasks:slow", str(witness), "0", code=None, timeout_s=90)
        took_s = time.monotonic() - began
        assert refused.returncode in ANSWERS[how], refused.stderr
        assert took_s < 45
        cluster.compose(BACK[how], "rabbit1", "rabbit2")

        def works() -> None:
            assert cli.run("enqueue", "tasks:add", "2", "3", "--wait", code=None, timeout_s=90).stdout == "5\n"

        eventually(works, 180, 1)
        if refused.returncode == 3:
            assert starts(witness) == 0
            return
        told = re.search(r"--id ([0-9a-z]{16})$", refused.stderr, re.MULTILINE)
        assert told, refused.stderr
        # once more by the id that was told: whether it was stored or not, it ends, and it is one job
        again = cli.run("enqueue", "--id", told[1], "tasks:slow", str(witness), "0", "--wait", timeout_s=90)
        assert again.returncode == 0
        assert cli.json("show", told[1])["state"] == "succeeded"
        assert {line.split()[1] for line in witness.read_text().splitlines()} == {told[1]}
