"""`jobrunner broker`: a real node of this user, alone on this machine."""

import json
import os
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest
from pika.exceptions import ProbableAuthenticationError

from jobrunner.local import files, node, probe
from jobrunner.statedir import LocalBroker, process_alive, read_local_broker
from tests.support.broker import docker_answers
from tests.support.command import COMMAND, Commands
from tests.support.eventually import eventually

LINE = re.compile(r"✓ RabbitMQ (\d+\.\d+\.\d+)  amqp://127\.0\.0\.1:(\d+)/jobrunner  pid (\d+)\n")
NONE_RUNS = "No private broker runs here.\n"


@pytest.fixture
def commands(make_commands: Callable[..., Commands]) -> Iterator[Commands]:
    """The command with a state folder in which no broker runs yet; one that runs at the end is removed."""
    if node.find_server() is None:
        pytest.skip("no rabbitmq-server on this machine")
    made = make_commands()
    yield made
    made.run("broker", "stop", "--wipe", "--yes", code=None)


@pytest.fixture(scope="module")
def on_a_terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Commands, str]]:
    """A broker that was started on a terminal, and what was shown there; for tests that only look at it."""
    if node.find_server() is None:
        pytest.skip("no rabbitmq-server on this machine")
    made = Commands(tmp_path_factory.mktemp("broker"), {})
    yield made, on_terminal(made, ["broker", "start", "--color", "never"], "")
    made.run("broker", "stop", "--wipe", "--yes", code=None)


def running(commands: Commands) -> LocalBroker:
    found = read_local_broker(commands.state)
    assert found is not None
    return found


def listeners() -> list[tuple[str, int]]:
    """Address and port of everything on this machine that takes TCP connections."""
    if not Path("/proc/net/tcp").exists():
        shown = subprocess.run(
            ["lsof", "-nP", "-iTCP", "-sTCP:LISTEN", "-Fn"], capture_output=True, text=True, check=True
        )
        names = [line[1:].rpartition(":") for line in shown.stdout.splitlines() if line.startswith("n")]
        return [(address.strip("[]"), int(port)) for address, _, port in names]
    found = []
    for family, table in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
        for row in Path(table).read_text().splitlines()[1:]:
            _, local, _, state = row.split()[:4]
            if state == "0A":  # listening; the address is in words of 32 bits in the order of the machine's bytes
                address, _, port = local.partition(":")
                words = struct.unpack(f">{len(address) // 8}I", bytes.fromhex(address))
                found.append((socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)), int(port, 16)))
    return found


def declare_and_count(url: str, messages: int) -> int:
    """Put messages into a durable queue and tell how many it then holds."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
    for number in range(messages):
        channel.basic_publish("", "kept", str(number).encode(), pika.BasicProperties(delivery_mode=2))

    def counted() -> int:
        count = channel.queue_declare("kept", passive=True).method.message_count
        assert count is not None
        assert count >= messages
        return count

    count = eventually(counted)
    connection.close()
    return count


def test_start_status_and_stop_say_what_the_documentation_shows(commands: Commands) -> None:
    started = commands.run("broker", "start")
    shown = LINE.fullmatch(started.stdout)
    assert shown, started.stdout
    version, port, pid = shown.groups()
    assert started.stderr == f"starting RabbitMQ {version} … about 8 s\n  Stop it:  jobrunner broker stop\n"
    assert running(commands).pid == int(pid)

    again = commands.run("broker", "start")
    assert (again.stdout, again.stderr) == (started.stdout, "  It ran already. Stop it:  jobrunner broker stop\n")
    assert commands.run("broker", "status").stdout == started.stdout
    assert commands.run("broker", "status", "--quiet").stdout == f"amqp://127.0.0.1:{port}/jobrunner\n"

    found = running(commands)
    secret = commands.json("broker", "status", "--secrets")
    assert secret["url"] == found.url
    assert (secret["schema"], secret["running"], secret["engine"]) == (1, True, "rabbitmq")
    assert found.url not in commands.run("broker", "status", "--json").stdout

    assert commands.run("broker", "stop").stdout == f"✓ stopped RabbitMQ {version}, pid {pid}\n"
    assert not process_alive(int(pid))
    down = commands.run("broker", "status", code=1)
    assert (down.stdout, down.stderr) == (NONE_RUNS, "  Start one:  jobrunner broker start\n")
    assert commands.run("broker", "stop").stdout == NONE_RUNS


def test_it_is_private_to_its_user_and_its_machine(on_a_terminal: tuple[Commands, str]) -> None:
    commands, _ = on_a_terminal
    found = running(commands)
    note = commands.state / "broker.json"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(found.data_dir).stat().st_mode) == 0o700
    assert stat.S_IMODE((Path(found.data_dir) / "home" / ".erlang.cookie").stat().st_mode) == 0o400

    identity = files.load_identity(Path(found.data_dir))
    ours = {found.port, identity.epmd_port, identity.dist_port}
    listening = [(address, port) for address, port in listeners() if port in ours]
    assert {port for _, port in listening} == ours
    assert {address for address, _ in listening} <= {"127.0.0.1", "::1"}

    for user, password in (("guest", "guest"), (files.USER, "wrong")):
        credentials = pika.PlainCredentials(user, password)
        with pytest.raises(ProbableAuthenticationError):
            pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", found.port, "jobrunner", credentials))


def test_jobs_url_and_password_outlive_stop_kill_and_a_lost_note(commands: Commands) -> None:
    commands.run("broker", "start")
    first = running(commands)
    assert declare_and_count(first.url, 3) == 3
    commands.run("broker", "stop")
    commands.run("broker", "start")
    second = running(commands)
    assert second.url == first.url

    assert second.pid is not None
    os.kill(second.pid, signal.SIGKILL)
    eventually(lambda: _assert(not process_alive(second.pid or 0)))
    assert commands.run("broker", "status", code=1).stdout == NONE_RUNS
    commands.run("broker", "start")
    third = running(commands)
    assert third.url == first.url
    assert declare_and_count(third.url, 0) == 3

    (commands.state / "broker.json").unlink()
    commands.run("broker", "start")
    assert running(commands).pid == third.pid  # a second node would ruin the data of the first


def _assert(condition: bool) -> None:
    assert condition


def test_two_starts_at_once_give_one_broker_and_it_can_be_stopped_while_it_is_frozen(commands: Commands) -> None:
    both = [commands.start("broker", "start", "--json") for _ in range(2)]
    pids = {json.loads(process.communicate(timeout=60)[0])["pid"] for process in both}
    pid = _present(running(commands).pid)
    assert pids == {pid}
    os.kill(pid, signal.SIGSTOP)
    commands.run("broker", "stop")
    assert not process_alive(pid)


def test_wiping_asks_for_the_name(commands: Commands) -> None:
    commands.run("broker", "start", "--data", str(commands.folder / "data"))
    name = files.load_identity(commands.folder / "data").name
    refused = commands.run("broker", "stop", "--wipe", code=2)
    assert refused.stderr.startswith(f"error: This would remove all queues and jobs on the private broker {name},")
    planned = commands.run("broker", "stop", "--wipe", "--dry-run").stdout
    assert planned.endswith(f" and remove the data of {name}\n")
    assert running(commands).pid

    assert "Stopped." in on_terminal(commands, ["broker", "stop", "--wipe"], "wrong\n")
    assert running(commands).pid
    assert f"removed the data of {name}" in on_terminal(commands, ["broker", "stop", "--wipe"], f"{name}\n")
    assert not (commands.folder / "data").exists()


def on_terminal(commands: Commands, args: list[str], typed: str) -> str:
    """What the command shows on a terminal on which `typed` was typed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *args], cwd=commands.folder, env=commands.env, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    os.write(master, typed.encode())
    shown = b""
    try:
        while select.select([master], [], [], 60)[0] and (chunk := os.read(master, 4096)):
            shown += chunk
    except OSError:  # Linux: the other end is closed
        pass
    finally:
        os.close(master)
        process.wait(timeout=60)
    return shown.decode()


def test_progress_is_redrawn_on_a_terminal_and_wiped_away(on_a_terminal: tuple[Commands, str]) -> None:
    _, shown = on_a_terminal
    redrawn, _, line = shown.rpartition("\r\x1b[K")
    assert re.search(r"\rstarting RabbitMQ [\d.]+ … 2 s of about 8\x1b\[K", redrawn)
    assert LINE.match(line.replace("\r\n", "\n")), shown


def test_run_stays_in_front_shows_the_log_and_ends_at_ctrl_c(commands: Commands) -> None:
    process = commands.start("broker", "run")
    assert process.stdout is not None
    shown = LINE.fullmatch(process.stdout.readline())
    assert shown
    pid = int(shown[3])
    assert commands.run("broker", "run", code=2).stderr.startswith("error: A private broker runs already: RabbitMQ ")
    assert process.stderr is not None
    assert any("Server startup complete" in line for line in process.stderr)  # it takes logins a little earlier
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not process_alive(pid)


def test_ctrl_c_during_a_start_leaves_nothing_behind(commands: Commands) -> None:
    process = commands.start("broker", "start")
    data = commands.state / "broker"
    pid = eventually(lambda: _present(node.node_pid(data)))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not process_alive(pid)
    assert not probe.epmd_answers(files.load_identity(data).epmd_port)
    assert commands.run("broker", "status", code=1).stdout == NONE_RUNS


def _present(pid: int | None) -> int:
    assert pid is not None
    return pid


def test_a_start_that_fails_says_why(commands: Commands) -> None:
    commands.run("broker", "start")
    commands.run("broker", "stop")
    serial = commands.state / "broker" / "db" / "node" / "rabbit_serial"
    serial.unlink()
    serial.mkdir()  # the node cannot read its own data any more
    failed = commands.run("broker", "start", code=3)
    assert "error: RabbitMQ ended while it started or stopped. It said: " in failed.stderr
    assert str(serial) in failed.stderr
    assert "hint:  jobrunner broker run" in failed.stderr
    assert read_local_broker(commands.state) is None


def test_a_taken_port_is_named(commands: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = commands.run("broker", "start", "--port", str(port), code=3)
    assert refused.stderr.startswith(f"error: The private broker cannot use port {port}:")


def test_without_rabbitmq_and_docker_the_way_to_install_one_is_named(make_commands: Callable[..., Commands]) -> None:
    # an installed server cannot be hidden from the command, Docker's command can
    arguments = ["--engine", "docker"] if node.find_server() else []
    commands = make_commands(PATH="/nonexistent")
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "broker", "start", *arguments],
        env=commands.env,
        cwd=commands.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith(
        "error: No broker can be started here: neither rabbitmq-server nor Docker was found.\nhint:  "
    )
    assert "install rabbitmq" in done.stderr
    assert "set JOBRUNNER_URL" in done.stderr


@pytest.mark.docker
def test_the_container_is_a_broker_like_the_node(make_commands: Callable[..., Commands]) -> None:
    assert docker_answers()
    commands = make_commands()
    try:
        started = commands.run("broker", "start", "--engine", "docker", timeout_s=300)
        assert re.fullmatch(
            r"✓ RabbitMQ 4\.\d+\.\d+  amqp://127\.0\.0\.1:\d+/jobrunner  container jobrunner-\w+\n", started.stdout
        )
        first = running(commands)
        assert declare_and_count(first.url, 3) == 3
        commands.run("broker", "stop")
        assert read_local_broker(commands.state) is None
        commands.run("broker", "start", "--engine", "docker")
        assert declare_and_count(first.url, 0) == 3
    finally:
        wiped = commands.run("broker", "stop", "--wipe", "--yes")
    assert "removed the data of" in wiped.stdout
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"name={first.container}"], capture_output=True, check=True
    )
    assert left.stdout == b""
