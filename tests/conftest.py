"""What all tests share: real brokers, names that no other test uses, and a look at what a test has left behind."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import pytest

from tests.support import broker as brokers
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually

HERE = Path(__file__).parent
_numbers = count(1)
_run = uuid4().hex[:6]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker: needs a Docker engine; left out where none answers")
    signal.signal(signal.SIGTERM, _end_in_order)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # as a shell's background jobs have it, which hand it on: no command of a test would hear its Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_in_order(_number: int, _frame: FrameType | None) -> None:
    pytest.exit("ended by SIGTERM", returncode=143)  # fixtures are torn down, so that no broker stays


def pytest_report_header() -> list[str]:
    kinds = ", ".join(brokers.session_kinds())
    docker = "answers" if brokers.docker_answers() else "does not answer: tests on RabbitMQ 4 are left out"
    return [f"docker: {docker}", f"tests/broker runs on: {kinds}"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Everything in tests/broker runs once on each broker that can be had here."""
    if not Path(metafunc.definition.path).is_relative_to(HERE / "broker"):
        return
    names = [name for name in ("broker", "_own_broker") if name in metafunc.fixturenames]
    if names:
        kinds = brokers.session_kinds()
        values = [(kind,) * len(names) for kind in kinds]
        metafunc.parametrize(names, values, ids=kinds, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs Docker where none answers."""
    if not (brokers.docker_answers() or brokers.docker_required()):
        left_out = [item for item in items if item.get_closest_marker("docker")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(optionalhook=True)  # there is none without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.support.sharing import ByUnit

    return ByUnit(config, log)


@pytest.fixture(scope="session")
def _brokers() -> Iterator[dict[tuple[str, str], TestBroker]]:
    """The brokers of this run by use and kind; each stays until the end, in whatever order the tests come."""
    made: dict[tuple[str, str], TestBroker] = {}
    yield made
    for one in made.values():
        one.remove()


@pytest.fixture(scope="module", autouse=True)
def _short_ledger(_brokers: dict[tuple[str, str], TestBroker]) -> Iterator[None]:
    """What a file has told the ledger goes with it: each new view would read all of it again, in every later test."""
    yield
    for (use, kind), one in _brokers.items():
        if use == "shared" and kind != "url":
            one.forget()


def _a_broker(request: pytest.FixtureRequest, use: str) -> TestBroker:
    kind = getattr(request, "param", None) or brokers.session_kinds()[0]
    if kind == "local" and not brokers.available("local") and brokers.docker_answers():
        kind = "rabbitmq-4"
    if not brokers.available(kind):
        reason = f"no broker of kind {kind}: no rabbitmq-server, no Docker, no JOBRUNNER_TEST_URL"
        if os.environ.get("CI") == "true" or brokers.docker_required():
            pytest.fail(reason)
        pytest.skip(reason)
    made: dict[tuple[str, str], TestBroker] = request.getfixturevalue("_brokers")
    if (use, kind) not in made:
        made[use, kind] = brokers.make(kind)
    return made[use, kind]


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> TestBroker:
    """The broker of this run. It is shared: a test that stops, kills or freezes one takes `own_broker`."""
    return _a_broker(request, "shared")


@pytest.fixture(scope="session")
def _own_broker(request: pytest.FixtureRequest) -> TestBroker:
    return _a_broker(request, "own")


@pytest.fixture
def own_broker(_own_broker: TestBroker) -> Iterator[TestBroker]:
    """A second broker, for tests that stop, kill or freeze it; each test gets it running."""
    yield _own_broker
    _own_broker.thaw()
    _own_broker.start()


@pytest.fixture
def queue_name(request: pytest.FixtureRequest) -> str:
    """A name for queues, exchanges and runs that no other test of this or another run uses; for more, append to it."""
    return f"{request.node.originalname}-{_run}-{next(_numbers)}"[-80:]


@pytest.fixture
def make_vhost(broker: TestBroker) -> Iterator[Callable[..., str]]:
    """Makes an empty virtual host with all rights for the broker's user and gives its URL. quorum: by default."""
    made: list[str] = []

    def make(*, quorum: bool = False) -> str:
        made.append(f"test-{_run}-{next(_numbers)}")
        return broker.add_vhost(made[-1], quorum=quorum)

    yield make
    for name in made:
        broker.ctl("delete_vhost", name)


@pytest.fixture
def make_commands(tmp_path: Path) -> Iterator[Callable[..., Commands]]:
    """Makes a `Commands` in the test's folder with the given environment."""
    made: list[Commands] = []

    def make(**env: str) -> Commands:
        made.append(Commands(tmp_path, env))
        return made[-1]

    yield make
    for commands in made:
        commands.close()


@pytest.fixture
def cli(make_commands: Callable[..., Commands], broker: TestBroker) -> Commands:
    """The command with the shared broker: `cli.run("enqueue", ...)`, `cli.json(...)`, `cli.start("worker", ...)`."""
    return make_commands(JOBRUNNER_URL=broker.url)


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """Where jobs of a test write that they have started and ended."""
    return tmp_path / "witness"


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """After each test no process that it started is left, not even as a zombie."""
    before = _children()
    yield

    def gone() -> None:
        left = _children() - before
        assert not left, f"processes left behind: {sorted(left)}"

    eventually(gone, timeout_s=20)


def _children() -> set[str]:
    """The child processes of this one, as `pid command`."""
    tasks = Path("/proc/self/task")
    if tasks.is_dir():
        pids = {pid for task in tasks.iterdir() for pid in _read(task / "children").split()}
        return {f"{pid} {_name(pid)}" for pid in pids}
    listed = subprocess.run(["/bin/ps", "-axo", "ppid=,pid=,comm="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return {f"{pid} {name}" for parent, pid, name in rows if int(parent) == os.getpid() and name != "/bin/ps"}


def _name(pid: str) -> str:
    return _read(Path(f"/proc/{pid}/comm")).strip() or "?"


def _read(path: Path) -> str:
    """A file of /proc, which is empty for what has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
