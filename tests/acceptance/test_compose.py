"""`docker compose up`, for real: jobs from this machine run in the container and outlive what is killed."""

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobrunner.ids import new_id
from jobrunner.local import probe
from tests.support.broker import docker_answers
from tests.support.command import ROOT, Commands
from tests.support.eventually import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

TASKS = """
import socket
import time
from pathlib import Path

from jobrunner import job

HERE = Path(__file__).parent


@job
def hello(name: str) -> str:
    return f"Hello, {name}. I am {socket.gethostname()}."


@job
def held() -> str:
    while (HERE / "hold").exists():
        time.sleep(0.05)
    return "free"
"""


class Stack:
    """A project of its own from the repository's docker-compose.yml: own name, ports, password and tasks.py."""

    def __init__(self, tasks: Path) -> None:
        self.tasks = tasks
        self.port = probe.free_port()
        self.password = secrets.token_hex(12)
        self.management_port = probe.free_port()
        self.name = f"jobrunner-test-{secrets.token_hex(3)}"
        self._command = ["docker", "compose", "--project-name", self.name]
        self._command += ["--env-file", os.devnull, "--ansi", "never", "--progress", "quiet"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBRUNNER_", "COMPOSE_"))}
        self._env = kept | {
            "JOBRUNNER_AMQP_PORT": str(self.port),
            "JOBRUNNER_MANAGEMENT_PORT": str(self.management_port),
            "JOBRUNNER_RABBITMQ_PASSWORD": self.password,
            "JOBRUNNER_TASKS": str(tasks),
            "JOBRUNNER_IMAGE": self.name,
        }

    @property
    def url(self) -> str:
        return f"amqp://jobrunner:{self.password}@localhost:{self.port}/jobrunner"

    def compose(self, *args: str) -> str:
        done = subprocess.run(
            [*self._command, *args],
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"docker compose {' '.join(args)}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self, *args: str) -> None:
        self.compose("up", "--detach", *args)

    def wait_for_log(self, text: str) -> None:
        def logged() -> None:
            assert text in self.compose("logs", "worker")

        eventually(logged, 60, 0.3)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    assert docker_answers()
    tasks = tmp_path_factory.mktemp("tasks")
    for folder in (tasks, *tasks.parents[:2]):
        folder.chmod(0o755)  # the worker in the container is another user
    (tasks / "tasks.py").write_text(TASKS)
    made = Stack(tasks)
    try:
        made.up("--build")
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "5")
        subprocess.run(["docker", "image", "rm", "--force", made.name], capture_output=True, check=True)


@pytest.fixture
def host(stack: Stack, make_commands: Callable[..., Commands]) -> Commands:
    """The command on this machine, with the broker of the stack."""
    return make_commands(JOBRUNNER_URL=stack.url)


def test_a_job_from_this_machine_runs_in_the_container(stack: Stack, host: Commands) -> None:
    inside = stack.compose("exec", "-T", "worker", "hostname").strip()
    answer = host.run("enqueue", "tasks:hello", "you", "--wait").stdout
    assert answer == f'"Hello, you. I am {inside}."\n'
    again = stack.compose("exec", "-T", "worker", "jobrunner", "enqueue", "tasks:hello", "me", "--wait")
    assert again == f'"Hello, me. I am {inside}."\n'


def test_the_worker_is_an_unprivileged_user_that_can_write_nothing_but_tmp(stack: Stack) -> None:
    script = "id -u; for f in / /app /opt/jobrunner /tmp; do touch $f/x 2>/dev/null && echo $f; done; true"
    assert stack.compose("exec", "-T", "worker", "sh", "-c", script).split() == ["10001", "/tmp"]
    inside = stack.compose("exec", "-T", "worker", "cat", "/proc/self/status", "/proc/mounts").splitlines()
    facts = dict(line.split(":", 1) for line in inside if ":" in line and not line.startswith("/"))
    assert (facts["CapEff"].strip("\t0"), facts["CapBnd"].strip("\t0"), facts["NoNewPrivs"].strip()) == ("", "", "1")
    (root,) = [line.split()[3] for line in inside if line.split()[1:2] == ["/"]]
    assert "ro" in root.split(",")


def test_the_doctor_of_the_container_finds_nothing_wrong(stack: Stack) -> None:
    def well() -> None:
        lines = stack.compose("exec", "-T", "worker", "jobrunner", "doctor", "--fix").splitlines()
        found = {name: (level, text) for _, name, level, text, *_ in (line.split("\t") for line in lines)}
        assert {level for level, _ in found.values()} <= {"ok", "warning", "unknown"}, found
        # some seconds after its creation a queue has no policy in the management API
        assert (found["management"][0], found["policies"][0]) == ("ok", "ok"), found
        assert "24h" in found["timeouts"][1]

    eventually(well, 60, 1.0)


def test_commands_are_refused_unless_they_are_allowed(host: Commands) -> None:
    refused = host.run("enqueue", "--wait", "--retries", "0", "--", "id", code=1)
    assert "not_allowed" in refused.stderr or "runs no commands" in refused.stderr


def test_both_ports_are_open_to_this_machine_only(stack: Stack) -> None:
    for port in (5672, 15672):
        assert stack.compose("port", "rabbitmq", str(port)).startswith("127.0.0.1:")
    assert probe.port_free(stack.port) is False


def test_the_broker_is_set_up_as_the_private_one_is(stack: Stack) -> None:
    def ctl(*args: str) -> str:
        return stack.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", *args)

    assert "jobrunner\tquorum" in ctl("list_vhosts", "name", "default_queue_type")
    policies = ctl("list_policies", "--vhost", "jobrunner")
    assert '"dead-letter-strategy":"at-least-once"' in policies
    assert r"^(?!jobrunner\.v1\.|amq\.).+$" in policies
    assert ctl("list_users").split() == ["user", "tags", "jobrunner", "[monitoring]"]
    environment = ctl("eval", "[application:get_env(rabbit, K) || K <- [consumer_timeout, default_queue_type]].")
    assert "86400000" in environment
    assert "quorum" in environment


def test_a_job_outlives_a_killed_worker_and_a_stopped_stack(stack: Stack, host: Commands) -> None:
    (stack.tasks / "hold").touch()
    job_id = new_id()
    waiting = host.start("enqueue", "tasks:held", "--id", job_id, "--wait")
    stack.wait_for_log(f"job.started {job_id}")
    stack.compose("kill", "worker")
    queued = host.json("enqueue", "tasks:hello", "again")["id"]
    stack.compose("down", "--timeout", "20")
    (stack.tasks / "hold").unlink()
    stack.up("--scale", "worker=2")
    assert len(stack.compose("ps", "--quiet", "worker").split()) == 2

    for each in (job_id, queued):
        stack.wait_for_log(f"job.succeeded {each}")
    shown, said = waiting.communicate(timeout=90)  # it has waited through all of it
    assert (waiting.returncode, shown) == (0, '"free"\n'), said
