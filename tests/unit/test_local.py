"""What the private broker is made of, and how it is found again. Starting one for real: tests/acceptance."""

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from jobrunner.cli.broker_talk import ProgressLine, warn_of_ignored
from jobrunner.cli.shared import Shared
from jobrunner.errors import LocalBrokerMissing
from jobrunner.folders import state_dir
from jobrunner.local import files, lifecycle, node, probe
from jobrunner.local.lifecycle import Progress, StartOptions
from jobrunner.statedir import LocalBroker, local_broker_url, process_alive, read_local_broker
from tests.support.terminal import Terminal


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def note(state: Path, **changes: object) -> Path:
    """A broker.json as `start` writes it."""
    facts: dict[str, object] = {
        "url": "amqp://jobrunner:secret@127.0.0.1:1/jobrunner",
        "pid": os.getpid(),
        "version": "3.10.8",
        "engine": "rabbitmq",
        "data_dir": str(state / "broker"),
        "port": 1,
        "started_in_s": 4.2,
    }
    path = state / "broker.json"
    path.write_bytes(msgspec.json.encode(msgspec.convert(facts | changes, LocalBroker)))
    return path


def test_options_that_ask_for_another_broker_than_the_one_that_ran_already_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = msgspec.json.decode(note(tmp_path, port=5000).read_bytes(), type=LocalBroker)
    for options in (
        StartOptions(),
        StartOptions(engine="rabbitmq", port=5000, data_dir=tmp_path / "sub" / ".." / "broker"),
    ):
        warn_of_ignored(Shared(), found, options)
    assert capsys.readouterr().err == ""
    warn_of_ignored(Shared(), found, StartOptions(engine="docker", port=1234, data_dir=tmp_path / "other"))
    sentence = "It ran already, without --port and --engine and --data.  To start it anew:  jobrunner broker stop"
    assert capsys.readouterr().err == f"! {sentence}\n"


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def test_a_broker_that_lives_and_listens_is_found(tmp_path: Path, listener: socket.socket) -> None:
    note(tmp_path, port=port_of(listener))
    found = read_local_broker(tmp_path)
    assert found is not None
    assert found.pid == os.getpid()


def test_a_note_whose_process_has_ended_is_stale(tmp_path: Path, listener: socket.socket) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    note(tmp_path, port=port_of(listener), pid=ended.pid)
    assert read_local_broker(tmp_path) is None


def test_a_zombie_has_ended() -> None:
    reader, writer = os.pipe()
    zombie = subprocess.Popen([sys.executable, "-c", ""], pass_fds=[writer])
    os.close(writer)
    assert os.read(reader, 1) == b""  # its end of the pipe is closed: it has ended, and nobody has waited for it
    os.close(reader)
    assert probe.until(lambda: not process_alive(zombie.pid), 5)
    zombie.wait()


def test_a_note_whose_port_is_silent_is_stale(tmp_path: Path) -> None:
    note(tmp_path, port=probe.free_port())
    assert read_local_broker(tmp_path) is None


def test_a_note_of_another_user_is_not_believed(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = note(tmp_path, port=port_of(listener)).stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert read_local_broker(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"url": 1}'])
def test_an_unreadable_note_is_no_broker(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broker.json").write_bytes(content)
    assert read_local_broker(tmp_path) is None


def test_the_state_folder_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRUNNER_STATE_DIR", str(tmp_path / "x"))
    assert state_dir() == tmp_path / "x"
    assert local_broker_url() is None


@pytest.mark.parametrize(
    ("version", "expected"), [("3.10.8", False), ("3.13.7", False), ("4.0.5", True), ("4.1.0-rc.1", True), ("?", False)]
)
def test_the_default_queue_type_of_the_node_is_set_from_4_0(version: str, expected: bool) -> None:
    conf = files.rabbitmq_conf(version, "127.0.0.1:1", "d.json", console=False)
    assert ("default_queue_type = quorum" in conf) is expected
    assert "listeners.tcp.1 = 127.0.0.1:1\n" in conf
    assert "consumer_timeout = 86400000\n" in conf


@pytest.mark.parametrize(("version", "expected"), [("3.11.9", False), ("3.12.0", True), ("4.0.5", True), ("?", False)])
def test_a_consumer_timeout_by_policy_is_set_from_3_12(version: str, expected: bool) -> None:
    made = json.loads(files.definitions(files.new_identity(), version))
    assert [("consumer-timeout" in policy["definition"]) for policy in made["policies"]] == [expected] * 2


def test_the_virtual_host_has_quorum_queues_by_default_in_both_spellings() -> None:
    (vhost,) = json.loads(files.definitions(files.new_identity(), "3.10.8"))["vhosts"]
    assert vhost["default_queue_type"] == vhost["metadata"]["default_queue_type"] == "quorum"


def test_the_definitions_hold_a_salted_hash_and_not_the_password() -> None:
    identity = files.new_identity()
    text = files.definitions(identity, "3.10.8")
    assert identity.password not in text
    raw = base64.b64decode(json.loads(text)["users"][0]["password_hash"])
    assert raw[4:] == hashlib.sha256(raw[:4] + identity.password.encode()).digest()


def test_the_identity_stays_over_restarts_and_is_private(tmp_path: Path) -> None:
    first = files.load_identity(tmp_path)
    files.save_identity(tmp_path, first)
    assert files.load_identity(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "identity.json").stat().st_mode) == 0o600
    assert files.new_identity().password != first.password


def test_the_files_of_a_node_are_for_its_user_only(tmp_path: Path) -> None:
    data = tmp_path / "broker"
    node.write_files(data, files.new_identity(), "3.10.8")
    for path in [data, *data.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_file_of_ours_goes_through_no_link_that_lies_in_its_way(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("as it was")
    (tmp_path / f".identity.json.{os.getpid()}").symlink_to(theirs)
    files.write_private(tmp_path / "identity.json", "a password")
    assert theirs.read_text() == "as it was"
    assert (tmp_path / "identity.json").read_text() == "a password"
    assert not (tmp_path / "identity.json").is_symlink()


def test_the_node_inherits_nothing_of_another_rabbitmq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RABBITMQ_NODENAME", "RABBITMQ_PLUGINS_DIR", "ERL_FLAGS", "NOTIFY_SOCKET", "JOBRUNNER_URL"):
        monkeypatch.setenv(name, "of another")
    environment = node.environment(tmp_path, files.new_identity())
    assert "of another" not in environment.values()
    assert environment["ERL_EPMD_ADDRESS"] == "127.0.0.1"
    assert "inet_dist_use_interface {127,0,0,1}" in environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]


def test_a_port_that_is_taken_is_not_free(listener: socket.socket) -> None:
    assert not probe.port_free(port_of(listener))
    assert probe.port_free(probe.free_port())


def test_where_nothing_listens_there_is_no_version() -> None:
    assert probe.amqp_version(probe.free_port()) is None


def test_neither_rabbitmq_nor_docker_names_the_way_to_install_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "_PLACES", ())
    monkeypatch.setattr(node, "_UNPACKED", str(tmp_path))
    with pytest.raises(LocalBrokerMissing, match="neither rabbitmq-server nor Docker") as caught:
        lifecycle.start(StartOptions(state=tmp_path))
    assert "install" in caught.value.hint
    assert not (tmp_path / "broker.json").exists()


def sleeper(name: str) -> subprocess.Popen[bytes]:
    """A process whose command line shows the name of a node."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", name])


def test_stopping_ends_the_node_of_a_killed_start_although_the_note_is_of_an_earlier_one(tmp_path: Path) -> None:
    data, identity = tmp_path / "broker", files.new_identity()
    files.save_identity(files.private_folder(data), identity)
    with subprocess.Popen(["true"]) as earlier:
        earlier.wait()
    note(tmp_path, pid=earlier.pid)
    with sleeper(identity.name) as running:
        try:
            (data / "pid").write_text(str(running.pid))
            lifecycle.stop(tmp_path)
            assert running.wait(timeout=60) < 0
        finally:
            running.kill()


def script(tmp_path: Path, text: str) -> node.Server:
    """A `rabbitmq-server` that is still the script which becomes the node."""
    path = tmp_path / "rabbitmq-server"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return node.Server(tmp_path, "3.10.8")


def assert_ends(pid: int) -> None:
    """Whether it ends by itself; it ends in any case."""
    try:
        assert probe.until(lambda: not process_alive(pid), 10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_start_that_is_interrupted_at_once_leaves_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> str:
        raise KeyboardInterrupt

    pids: list[int] = []
    launch = node.launch
    monkeypatch.setattr(node, "find_server", lambda: script(tmp_path, "exec sleep 600"))
    monkeypatch.setattr(node, "launch", lambda *args: pids.append(launch(*args)) or pids[0])
    monkeypatch.setattr(lifecycle._Launch, "wait_for_greeting", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lifecycle.start(StartOptions(state=tmp_path / "state", engine="rabbitmq"))
    (pid,) = pids
    assert_ends(pid)


def test_a_launch_that_is_interrupted_leaves_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, identity = tmp_path / "broker", files.new_identity()
    server = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    node.write_files(data, identity, server.version)

    def interrupted(_self: object, *_args: object, **_more: object) -> None:
        assert probe.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", 60)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        node.launch(server, data, identity)
    pid = int((tmp_path / "pid").read_text())
    assert_ends(pid)


def test_only_a_folder_of_a_broker_is_wiped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no Docker
    for folder in ("state", "photos"):
        (tmp_path / folder).mkdir()
    lifecycle.stop(tmp_path / "state", wipe=True, data_dir=tmp_path / "photos")
    assert lifecycle.name_of(None, tmp_path / "photos") is None
    assert (tmp_path / "photos").is_dir()
    files.save_identity(tmp_path / "photos", files.new_identity())
    lifecycle.stop(tmp_path / "state", wipe=True, data_dir=tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


def test_the_note_of_another_user_names_no_folder_to_wipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    files.save_identity(files.private_folder(tmp_path / "of mine"), files.new_identity())
    with subprocess.Popen(["/bin/true"]) as earlier:
        earlier.wait()
    note(tmp_path, pid=earlier.pid, data_dir=str(tmp_path / "of mine"))
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    lifecycle.stop(tmp_path, wipe=True)
    assert (tmp_path / "of mine").is_dir()


def test_stopping_where_nothing_runs_does_nothing(tmp_path: Path) -> None:
    assert lifecycle.stop(tmp_path / "missing") is None
    assert lifecycle.stop(tmp_path) is None


class Pipe(Terminal):
    def isatty(self) -> bool:
        return False


STEPS = [Progress("RabbitMQ 3.10.8", elapsed_s, 8.0) for elapsed_s in (0.0, 0.1, 1.2, 1.3)]


def test_progress_is_redrawn_on_a_terminal_once_a_second() -> None:
    terminal = Terminal()
    line = ProgressLine(terminal, silent=False)
    for step in STEPS:
        line.draw(step)
    line.clear()
    assert terminal.getvalue() == (
        "\rstarting RabbitMQ 3.10.8 … 0 s of about 8\x1b[K\rstarting RabbitMQ 3.10.8 … 1 s of about 8\x1b[K\r\x1b[K"
    )


def test_progress_is_written_once_to_a_pipe_and_never_if_silent() -> None:
    pipe, silent = Pipe(), Pipe()
    for line in (ProgressLine(pipe, silent=False), ProgressLine(silent, silent=True)):
        for step in STEPS:
            line.draw(step)
        line.clear()
    assert pipe.getvalue() == "starting RabbitMQ 3.10.8 … about 8 s\n"
    assert silent.getvalue() == ""
