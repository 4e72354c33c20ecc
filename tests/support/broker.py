"""Real brokers for tests: a private node, RabbitMQ 4 in a container, or one that a URL names."""

import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Any

import pika

from jobrunner.broker.topology import LEDGER
from jobrunner.brokerurl import BrokerUrl, parse_url
from jobrunner.local import container, files, lifecycle, node, probe
from jobrunner.statedir import process_alive
from tests.support.eventually import eventually

IMAGE = container.IMAGE
START_S = 90.0


class TestBroker(ABC):
    """A broker with the virtual host `jobrunner` (default queue type quorum) and one user who may do everything there.

    url: with the password. version: such as `3.10.8`.
    """

    __test__ = False
    kind: str
    url: str
    version: str

    @property
    def address(self) -> str:
        """Where a port that a test opens in the broker can be reached from here."""
        return "127.0.0.1"

    @property
    def parsed(self) -> BrokerUrl:
        return parse_url(self.url, origin="JOBRUNNER_URL")

    @property
    def port(self) -> int:
        return self.parsed.port

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    @abstractmethod
    def pid(self) -> int: ...

    @abstractmethod
    def ctl(self, *args: str) -> str:
        """What `rabbitmqctl ARGS` prints. Takes one to two seconds."""

    def add_vhost(self, name: str, *, quorum: bool) -> str:
        """Make an empty virtual host with all rights for the user, in one call; gives its URL.

        quorum: whether that is its default queue type, or none is told.
        """
        kind = '<<"quorum">>' if quorum else "undefined"
        rights = f'<<"{self.parsed.user}">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>'
        self.ctl(
            "eval",
            f'ok = rabbit_vhost:put_vhost(<<"{name}">>, <<>>, <<>>, {kind}, undefined, <<"test">>), '
            f"ok = rabbit_auth_backend_internal:set_permissions({rights}).",
        )
        return self.url.rpartition("/")[0] + f"/{name}"

    def forget(self) -> None:
        """Remove the ledger; the next worker makes it anew."""
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            connection.channel().queue_delete(LEDGER)

    @abstractmethod
    def stop(self) -> None:
        """End in order, keep the data; `start` goes on with it."""

    @abstractmethod
    def start(self) -> None:
        """Start again with the same data, URL and password; returns when it takes logins."""

    @abstractmethod
    def kill9(self) -> None:
        """End it as a power cut would; `start` brings it back."""

    @abstractmethod
    def freeze(self) -> None:
        """Stop answering without closing a connection."""

    @abstractmethod
    def thaw(self) -> None:
        """Go on after `freeze`; nothing happens to one that is not frozen."""

    @abstractmethod
    def remove(self) -> None:
        """End it and remove its data."""

    def restart(self) -> None:
        self.stop()
        self.start()


class LocalNode(TestBroker):
    """The installed RabbitMQ, started by the product's own code in a state folder of its own."""

    kind = "local"

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="jobrunner-test-"))
        self._options = lifecycle.StartOptions(engine="rabbitmq", state=self.state, timeout_s=START_S)
        self.start()

    @property
    def pid(self) -> int:
        assert self._broker.pid is not None
        return self._broker.pid

    @property
    def data_dir(self) -> Path:
        return Path(self._broker.data_dir)

    def start(self) -> None:
        self._broker = lifecycle.start(self._options)
        self.url, self.version = self._broker.url, self._broker.version

    def stop(self) -> None:
        lifecycle.stop(self.state)

    def remove(self) -> None:
        if process_alive(self.pid):
            self.kill9()  # its data is thrown away: no need to wait for an orderly end
        lifecycle.stop(self.state, wipe=True)
        shutil.rmtree(self.state, ignore_errors=True)

    def kill9(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        assert probe.until(lambda: not process_alive(pid) and probe.port_free(self.port), 10)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if process_alive(self.pid):
            os.kill(self.pid, signal.SIGCONT)

    def ctl(self, *args: str) -> str:
        server = node.find_server()
        assert server is not None
        identity = files.load_identity(self.data_dir)
        env = node.environment(self.data_dir, identity)
        return _output([str(server.sbin / "rabbitmqctl"), "-n", identity.node, *args], env)


class Container(TestBroker):
    """RabbitMQ 4 through testcontainers, configured as the product's own container is."""

    kind = "rabbitmq-4"

    def __init__(self) -> None:
        # its reaper needs an image of its own, which is not to be had everywhere; `remove` does without
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.container import DockerContainer

        self.folder = Path(tempfile.mkdtemp(prefix="jobrunner-test-"))
        self.folder.chmod(0o755)  # the server in the container is another user
        identity = files.new_identity()
        version = container.CONFIGURED_FOR
        definitions = "/etc/rabbitmq/jobrunner.json"
        for name, text in {
            "20-jobrunner.conf": files.rabbitmq_conf(version, "0.0.0.0:5672", definitions, console=True),
            "advanced.config": files.advanced_config(),
            "jobrunner.json": files.definitions(identity, version),
        }.items():
            (self.folder / name).write_text(text)
        self.url = identity.url
        self._container = (
            DockerContainer(IMAGE, hostname="jobrunner")
            .with_volume_mapping(str(self.folder / "20-jobrunner.conf"), "/etc/rabbitmq/conf.d/20-jobrunner.conf")
            .with_volume_mapping(str(self.folder / "advanced.config"), "/etc/rabbitmq/advanced.config")
            .with_volume_mapping(str(self.folder / "jobrunner.json"), definitions)
        )
        # a fixed port, because Docker gives a container another random one at each start
        self._container.ports["5672/tcp"] = ("127.0.0.1", identity.port)  # type: ignore[assignment]  # docker-py takes it
        try:
            self._container.start()
            self.version = self._wait()
        except BaseException:
            self.remove()
            raise

    @property
    def _docker(self) -> Any:  # docker-py has no types
        return self._container.get_wrapped_container()

    @property
    def address(self) -> str:
        self._docker.reload()
        settings = self._docker.attrs["NetworkSettings"]
        found = settings.get("IPAddress") or next(net["IPAddress"] for net in settings["Networks"].values())
        return str(found)

    def _wait(self) -> str:
        def answers() -> str:
            self._docker.reload()
            assert self._docker.status == "running", self._docker.logs(tail=20)
            version = probe.amqp_version(self.port)
            assert version is not None, self._docker.logs(tail=20)
            return version

        return eventually(answers, START_S, 0.1)

    @property
    def pid(self) -> int:
        self._docker.reload()
        return int(self._docker.attrs["State"]["Pid"])

    def start(self) -> None:
        self._docker.start()
        self._wait()

    def stop(self) -> None:
        self._docker.stop(timeout=30)

    def kill9(self) -> None:
        self._docker.kill()
        self._docker.wait(timeout=30)

    def freeze(self) -> None:
        self._docker.pause()

    def thaw(self) -> None:
        self._docker.reload()
        if self._docker.status == "paused":
            self._docker.unpause()

    def remove(self) -> None:
        self._container.stop()
        self._container.get_docker_client().client.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ctl(self, *args: str) -> str:
        return _output(["docker", "exec", "--user", "rabbitmq", self._docker.id, "rabbitmqctl", *args], None)


class Remote(TestBroker):
    """The broker of `JOBRUNNER_TEST_URL`. `JOBRUNNER_TEST_CTL` is the command that `ctl` completes, if there is one."""

    kind = "url"

    def __init__(self, url: str) -> None:
        self.url = url
        version = probe.amqp_version(self.port) if self.parsed.is_loopback else os.environ["JOBRUNNER_TEST_VERSION"]
        assert version is not None, f"no broker answers at {self.parsed.masked}"
        self.version = version

    @property
    def pid(self) -> int:
        raise NotImplementedError("a broker that a URL names has no pid here")

    def ctl(self, *args: str) -> str:
        return _output([*os.environ["JOBRUNNER_TEST_CTL"].split(), *args], None)

    def _not_ours(self) -> None:
        raise NotImplementedError("a broker that a URL names is neither stopped nor started by tests")

    stop = start = kill9 = freeze = thaw = _not_ours

    def remove(self) -> None:
        """It stays."""


@cache
def docker_answers() -> bool:
    """Whether containers can be started here; asked once a run."""
    return container.docker_answers()


def docker_required() -> bool:
    """Whether a run without Docker is a failure: where CI says so, nothing is left out quietly."""
    return os.environ.get("JOBRUNNER_REQUIRE_DOCKER") == "1"


def session_kinds() -> list[str]:
    """The brokers on which tests/broker runs."""
    if os.environ.get("JOBRUNNER_TEST_URL"):
        return ["url"]
    return ["local", "rabbitmq-4"] if docker_answers() or docker_required() else ["local"]


def available(kind: str) -> bool:
    """Whether a broker of this kind can be had here."""
    if kind == "local":
        return node.find_server() is not None
    return kind == "url" or docker_answers()


def make(kind: str) -> TestBroker:
    """A running broker of this kind. Call `remove` in the end.

    A start that fails is tried once more: something else may have taken the port between its choice and its use.
    """
    try:
        return _started(kind)
    except Exception as exc:  # noqa: BLE001 - whatever it was, it shows itself again
        print(f"a broker of kind {kind} did not start: {exc!r}")
        return _started(kind)


def _started(kind: str) -> TestBroker:
    match kind:
        case "local":
            return LocalNode()
        case "rabbitmq-4":
            return Container()
        case _:
            return Remote(os.environ["JOBRUNNER_TEST_URL"])


def _output(command: list[str], env: dict[str, str] | None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command[-1]}: {done.stdout}{done.stderr}"
    return done.stdout
