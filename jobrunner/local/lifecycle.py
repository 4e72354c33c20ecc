"""Start, find and stop the private broker of this user. No other module of this folder is meant for callers."""

import fcntl
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from jobrunner.errors import LocalBrokerEnded, LocalBrokerFailed, LocalBrokerMissing, LocalPortTaken
from jobrunner.folders import state_dir
from jobrunner.local import container, files, node, probe
from jobrunner.statedir import (
    BROKER_FILE,
    LocalBroker,
    process_alive,
    read_local_broker,
    takes_connections,
)

Engine = Literal["auto", "rabbitmq", "docker"]
USUAL_START_S = 8.0


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """engine: `auto` is the installed RabbitMQ, else Docker. port: None is a free one, the same at each start.

    data_dir: None is `broker` in the state folder. state: None is `state_dir()`. timeout_s: for the first answer.
    """

    engine: Engine = "auto"
    port: int | None = None
    data_dir: Path | None = None
    state: Path | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Progress:
    """product: such as `RabbitMQ 3.10.8`. expected_s: what the last start took, 8 s before the first."""

    product: str
    elapsed_s: float
    expected_s: float


OnProgress = Callable[[Progress], None]


def running(state: Path | None = None) -> LocalBroker | None:
    """The broker that runs, or None. Cheap: reads `broker.json`, looks at the pid and the port."""
    return read_local_broker(state)


def start(options: StartOptions | None = None, on_progress: OnProgress | None = None) -> LocalBroker:
    """The private broker, started unless it runs; returns when it takes logins.

    on_progress: called about ten times a second. Two starts at once: the second waits for the first and gets its
    broker. Raises: LocalBrokerMissing, LocalBrokerFailed, LocalBrokerEnded, LocalPortTaken.
    """
    options = options or StartOptions()
    state = files.private_folder(options.state or state_dir())
    with _locked(state):
        found = read_local_broker(state)
        if found:
            return found
        launch = _Launch(options, state, on_progress or (lambda _: None))
        broker = launch.in_container() if launch.server is None else launch.as_node(launch.server)
        files.write_private(state / BROKER_FILE, msgspec.json.encode(broker))
        return broker


def stop(state: Path | None = None, *, wipe: bool = False, data_dir: Path | None = None) -> LocalBroker | None:
    """End the broker and its port mapper; with `wipe` remove its data too. Gives the broker that was ended, or None.

    data_dir: of a broker that is not noted any more; None is the usual folder. Raises: LocalBrokerEnded when Docker
    refuses.
    """
    state = state or state_dir()
    if not state.is_dir():
        return None
    with _locked(state):
        found, noted = read_local_broker(state), _noted(state)
        folder = Path(noted.data_dir) if noted else _folder(state, data_dir)
        identity = files.load_identity(folder)
        try:
            if noted is None or noted.container is None:
                node.halt(node.pid_of(folder, identity, noted.pid if noted else None), identity)
            if (noted and noted.container) or (wipe and folder.exists() and container.docker_answers()):
                container.halt(identity.name, wipe=wipe)
        except container.DockerFailed as exc:
            raise LocalBrokerEnded(log_tail=str(exc)) from exc
        (state / BROKER_FILE).unlink(missing_ok=True)
        if wipe and files.is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)
        return found


def follow(broker: LocalBroker, on_tick: Callable[[], None]) -> None:
    """Return when the broker has ended. on_tick: called about five times a second."""
    while process_alive(broker.pid) if broker.pid else takes_connections(broker.port):
        on_tick()
        probe.pause(0.2)


def name_of(broker: LocalBroker | None, data_dir: Path | None = None) -> str | None:
    """The name of that broker, or of the one whose data lies in the folder; None where there is no data."""
    folder = Path(broker.data_dir) if broker else _folder(state_dir(), data_dir)
    return files.load_identity(folder).name if files.is_ours(folder) else None


def logs(options: StartOptions) -> list[Path]:
    """The files to which a node that is started so writes its log; they may not exist yet."""
    folder = _folder(options.state or state_dir(), options.data_dir)
    return [folder / node.CONSOLE, folder / node.LOG]


def _folder(state: Path, data_dir: Path | None) -> Path:
    return data_dir.expanduser().absolute() if data_dir else state / "broker"


def _noted(state: Path) -> LocalBroker | None:
    """`broker.json`, even if that broker does not run any more; not that of another user."""
    try:
        if (state / BROKER_FILE).stat().st_uid != os.geteuid():
            return None
        return msgspec.json.decode((state / BROKER_FILE).read_bytes(), type=LocalBroker)
    except (OSError, msgspec.DecodeError):
        return None


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """One start or stop at a time in a state folder; the lock ends with the process that holds it."""
    descriptor = os.open(state / "broker.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Launch:
    """One start, up to the first answer."""

    def __init__(self, options: StartOptions, state: Path, on_progress: OnProgress) -> None:
        self.options = options
        self.data_dir = _folder(state, options.data_dir)
        self.on_progress = on_progress
        self.began = time.monotonic()
        self.identity = files.load_identity(self.data_dir)
        self.server = node.find_server() if options.engine in ("auto", "rabbitmq") else None
        self.product = f"RabbitMQ {self.server.version}" if self.server else "RabbitMQ in Docker"
        if self.server is None and (options.engine == "rabbitmq" or not container.docker_answers()):
            raise LocalBrokerMissing(install=_install_command())

    def as_node(self, server: node.Server) -> LocalBroker:
        if found := self.still_there(server):
            return found
        self.settle_ports()
        node.write_files(self.data_dir, self.identity, server.version)
        pid = node.launch(server, self.data_dir, self.identity)
        try:
            version = self.wait_for_greeting(lambda: process_alive(pid), lambda: node.failure(self.data_dir))
        except BaseException:  # also Ctrl-C: what was begun here must not stay
            node.halt(pid, self.identity, is_ours=True)
            raise
        return self.broker(version, "rabbitmq", pid=node.node_pid(self.data_dir) or pid)

    def still_there(self, server: node.Server) -> LocalBroker | None:
        """The node of this data folder if it runs although `broker.json` is gone: a second would ruin its data."""
        pid = node.node_pid(self.data_dir)
        if pid is None or not node.is_node(pid, self.identity):
            return None
        version = probe.amqp_version(self.identity.port)
        if version is None:
            node.halt(pid, self.identity)
            return None
        return self.broker(version or server.version, "rabbitmq", pid=pid)

    def in_container(self) -> LocalBroker:
        name = self.identity.name
        self.settle_ports()
        try:
            container.launch(self.identity, self.tick)
            version = self.wait_for_greeting(lambda: container.running(name), lambda: container.log_tail(name))
        except container.DockerFailed as exc:
            raise LocalBrokerEnded(log_tail=str(exc)) from exc
        except BaseException:
            container.halt(name, wipe=False)
            raise
        return self.broker(version, "docker", name=name)

    def settle_ports(self) -> None:
        """Keep the ports of the last start where they are free; workers that run meanwhile then find it again."""
        identity = self.identity
        if self.options.port is not None:
            if not _becomes_free(self.options.port):
                raise LocalPortTaken(port=self.options.port)
            identity.port = self.options.port
        elif not _becomes_free(identity.port):
            identity.port = probe.free_port()
        if not (probe.epmd_answers(identity.epmd_port) or probe.port_free(identity.epmd_port)):
            identity.epmd_port = probe.free_port()
        if not _becomes_free(identity.dist_port):
            identity.dist_port = probe.free_port()
        files.save_identity(files.private_folder(self.data_dir), identity)

    def wait_for_greeting(self, lives: Callable[[], bool], log_tail: Callable[[], str]) -> str:
        """Version that the broker gives of itself. Raises: LocalBrokerFailed."""
        while time.monotonic() - self.began < self.options.timeout_s:
            self.tick()
            version = probe.amqp_version(self.identity.port)
            if version is not None:
                return version
            if not lives():
                raise LocalBrokerEnded(log_tail=log_tail())
            probe.pause(0.1)
        raise LocalBrokerFailed(timeout=f"{self.options.timeout_s:.0f} s", log_tail=log_tail())

    def tick(self) -> None:
        elapsed_s = time.monotonic() - self.began
        self.on_progress(Progress(self.product, elapsed_s, self.identity.last_start_s or USUAL_START_S))

    def broker(self, version: str, engine: str, *, pid: int | None = None, name: str | None = None) -> LocalBroker:
        started_in_s = round(time.monotonic() - self.began, 2)
        self.identity.last_start_s = started_in_s
        files.save_identity(self.data_dir, self.identity)
        return LocalBroker(
            url=self.identity.url,
            pid=pid,
            version=version,
            engine=engine,
            data_dir=str(self.data_dir),
            port=self.identity.port,
            started_in_s=started_in_s,
            container=name,
        )


def _becomes_free(port: int) -> bool:
    """Whether the port can be used; the sockets of a node that was killed a moment ago close within a second."""
    return probe.until(lambda: probe.port_free(port), 2)


def _install_command() -> str:
    """How RabbitMQ is installed on this platform."""
    if platform.system() == "Darwin":
        return "brew install rabbitmq"
    for command in ("apt", "dnf", "zypper"):
        if shutil.which(command):
            return f"sudo {command} install rabbitmq-server"
    return "install rabbitmq-server"
