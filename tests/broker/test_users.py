"""Least privilege: what each user of `jobrunner.broker.users` may do with a broker, and that all else is refused."""

import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pika import BasicProperties, exceptions

from jobrunner import events
from jobrunner.broker import declare, topology, users
from jobrunner.broker.connection import Connection
from jobrunner.broker.publisher import Message, Publisher, Refused, Returned, Stored
from jobrunner.broker.topology import P
from jobrunner.brokerurl import BrokerUrl
from jobrunner.config import Settings
from jobrunner.doctor.checkup import Wishes, checkup
from jobrunner.errors import PermissionRefused
from jobrunner.local.files import password_hash
from tests.broker.lab import in_loop
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually

PASSWORD = "of-a-test"
QUEUES = ["task_queue"]
ROLES = [role.name for role in users.roles(QUEUES)]


@dataclass
class Estate:
    """A virtual host in which the users exist."""

    broker: TestBroker
    vhost: str

    def url(self, role: str) -> BrokerUrl:
        found = self.broker.parsed
        return msgspec.structs.replace(found, user=f"jr_{role}", password=PASSWORD, vhost=self.vhost)

    def text(self, role: str) -> str:
        return f"amqp://jr_{role}:{PASSWORD}@127.0.0.1:{self.broker.port}/{self.vhost}"


@pytest.fixture(scope="session")
def estate(broker: TestBroker) -> Iterator[Estate]:
    vhost = "least-privilege"
    broker.ctl("add_vhost", vhost, "--default-queue-type", "quorum")
    hashes = {f"jr_{name}": password_hash(PASSWORD) for name in ROLES}
    text = json.dumps(users.definitions(QUEUES, vhost=vhost, hashes=hashes))
    done = broker.ctl(
        "eval", f'rabbit_definitions:import_raw(base64:decode("{base64.b64encode(text.encode()).decode()}")).'
    )
    assert done.strip() == "ok", done
    yield Estate(broker, vhost)
    gone = ", ".join(f'rabbit_auth_backend_internal:delete_user(<<"jr_{name}">>, <<"test">>)' for name in ROLES)
    broker.ctl("eval", f'{gone}, rabbit_vhost:delete(<<"{vhost}">>, <<"test">>).')


class Person:
    """A user at the broker. `may` tells of one thing whether it is allowed; a connection that it costs is replaced."""

    def __init__(self, url: BrokerUrl) -> None:
        self._url = url
        self._connection: Connection | None = None

    async def _open(self) -> Connection:
        if self._connection is None or not self._connection.is_open:
            await self.close()
            self._connection = Connection(self._url, role="matrix", notify=lambda _: None, connect_timeout_s=20)
            await self._connection.connect_once()
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def may(self, ask: Callable[[Any, Callable[[Any], None]], object]) -> bool:
        """ask: sends something on a channel, with the callback for its answer."""
        connection = await self._open()
        try:
            async with declare._throwaway(connection) as channel:
                await channel.ask(lambda done: ask(channel.amqp, done))
        except PermissionRefused:
            return False
        except declare.Missing:
            return True
        except exceptions.AMQPError as exc:  # what no 403 has refused: 540 for a stream, and the like
            return getattr(exc, "reply_code", 0) != 403
        return True

    async def may_publish(self, exchange: str, key: str) -> bool:
        connection = await self._open()
        publisher = Publisher(connection, confirm_timeout_s=20)
        try:
            answer = await publisher.publish_confirmed(Message(exchange, key, b"{}", "m", "test", persistent=False))
        finally:
            publisher.close()
        assert isinstance(answer, Stored | Returned) or (isinstance(answer, Refused) and answer.code == 403), answer
        return not isinstance(answer, Refused)


@contextlib.asynccontextmanager
async def person(url: BrokerUrl) -> AsyncIterator[Person]:
    found = Person(url)
    try:
        yield found
    finally:
        await found.close()


OUR_QUEUES = ["task_queue", topology.DEAD, topology.UNROUTED, topology.level(3), topology.LEDGER, topology.CANCELS]
OUR_EXCHANGES = [topology.JOBS, topology.EVENTS, topology.DLX, topology.CONTROL, topology.UNROUTED, topology.level(3)]
ALIKE = ["evil_task_queue", "task_queue2", f"{P}.dead2", f"evil.{P}.dead", "jobrunnerXv1.dead"]
BITS = "0." * 24 + "1.0.0.0."

CREATES = {"setup": {f"{P}.dead2"}}
READS = {
    "setup": {*OUR_QUEUES},
    "worker": {"task_queue", topology.CANCELS, topology.LEDGER},
    "viewer": {topology.LEDGER, topology.CANCELS},
    "operator": {"task_queue", topology.DEAD, topology.UNROUTED, topology.LEDGER, topology.CANCELS},
}
BINDS = {
    "producer": {(topology.EVENTS, f"{kind}.*.k7f2m9xq4tzd8w1r") for kind in ("succeeded", "dead")},
    "worker": {
        *((topology.CONTROL, key) for key in ("all", "worker.a", "queue.task_queue", "reply.k7f2m9xq4tzd8w1r")),
        *((topology.EVENTS, f"{kind}.*.k7f2m9xq4tzd8w1r") for kind in ("succeeded", "dead")),
    },
    "operator": {
        *((topology.EVENTS, f"{kind}.*.k7f2m9xq4tzd8w1r") for kind in ("succeeded", "dead")),
        *((topology.CONTROL, f"{word}.k7f2m9xq4tzd8w1r") for word in ("reply", "log")),
    },
}
EVENTS = {
    "submitter": {"queued"},
    "producer": {"queued", "sealed", "probe"},
    "worker": set(users.workers_kinds()),
    "operator": set(users.OPERATORS_KINDS),
}
CONTROL = {
    "submitter": {"probe"},
    "worker": {"reply.k7f2", "log.k7f2", "worker.a", "host.a", "queue.task_queue"},
    "operator": {"all", "probe", "worker.a", "host.a", "queue.task_queue"},
}
TO_QUEUE = [(topology.JOBS, "task_queue")]
LATER = [(topology.level(3), f"{BITS}task_queue")]
BY_NAME = [("", name) for name in (*OUR_QUEUES, *ALIKE)]
PUBLISHES = {
    "submitter": TO_QUEUE,
    "producer": [*BY_NAME, *LATER],
    "worker": [*TO_QUEUE, *LATER, (topology.DLX, "error")],
    "operator": [*TO_QUEUE, *LATER],
}
ELSEWHERE = [
    (topology.JOBS, "evil_task_queue"),
    (topology.JOBS, "task_queue2"),
    (topology.JOBS, "x.task_queue"),
    (topology.level(3), "task_queue"),
    (topology.level(3), f"{BITS}task_queue2"),
    (topology.DLX, "error"),
    (topology.UNROUTED, "x"),
    ("amq.topic", "x"),
    ("amq.fanout", "x"),
]


@pytest.fixture(scope="session")
def declared(estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Estate:
    """`jobrunner queues declare`, as the user who is there for it."""
    folder = tmp_path_factory.mktemp("setup")
    Commands(folder, {"JOBRUNNER_URL": estate.text("setup")}).run("queues", "declare")
    return estate


@pytest.mark.parametrize("role", ROLES)
@in_loop
async def test_each_may_create_delete_and_read_what_it_must_and_nothing_else(declared: Estate, role: str) -> None:
    wrong: list[str] = []

    def check(what: str, allowed: bool, wanted: bool) -> None:
        if allowed != wanted:
            wrong.append(f"{what}: {'allowed' if allowed else 'refused'}")

    async with person(declared.url(role)) as found:
        for name in ALIKE:
            wanted = name in CREATES.get(role, ())
            made = await found.may(lambda ch, done, n=name: ch.queue_declare(n, durable=True, callback=done))
            check(f"create {name}", made, wanted)
            check(f"delete {name}", await found.may(lambda ch, done, n=name: ch.queue_delete(n, callback=done)), wanted)
        own = await found.may(lambda ch, done: ch.queue_declare("", exclusive=True, callback=done))
        check("a queue of its own", own, role in ("producer", "worker", "operator"))
        for name in OUR_QUEUES:
            if role != "setup":
                check(
                    f"delete {name}", await found.may(lambda ch, done, n=name: ch.queue_delete(n, callback=done)), False
                )
                deleted = await found.may(lambda ch, done, n=name: ch.exchange_delete(n, callback=done))
                check(f"delete exchange {name}", deleted, False)
            may_read = name in READS.get(role, ())
            if name in (topology.LEDGER, topology.CANCELS):  # a stream can be neither purged nor asked for one message
                check(f"consume {name}", await _may_consume(found, name), may_read)
                continue
            check(f"purge {name}", await found.may(lambda ch, done, n=name: ch.queue_purge(n, callback=done)), may_read)
            check(f"consume {name}", await _may_consume(found, name), may_read)
    assert not wrong, f"jr_{role}: {'; '.join(wrong)}"


async def _may_consume(found: Person, queue: str) -> bool:
    def ask(channel: Any, done: Callable[[Any], None]) -> None:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, lambda *_: None, callback=done)

    return await found.may(ask)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "setup"])
@in_loop
async def test_each_may_publish_where_it_must_and_nowhere_else(declared: Estate, role: str) -> None:
    keys = {"all", "probe", "worker.a", "host.a", "queue.task_queue", "reply.k7f2", "log.k7f2", "evil.k7f2"}
    kinds = {*events.KINDS, "probe", "evil", "evilqueued", "queuedevil"}
    cells = {
        **{(topology.EVENTS, f"{kind}.-.k7f2"): kind in EVENTS.get(role, ()) for kind in kinds},
        **{(topology.CONTROL, key): key in CONTROL.get(role, ()) for key in keys},
        **dict.fromkeys([*TO_QUEUE, *LATER, *BY_NAME, *ELSEWHERE], False),
        **dict.fromkeys(PUBLISHES.get(role, ()), True),
    }
    async with person(declared.url(role)) as found:
        wrong = [cell for cell, wanted in cells.items() if await found.may_publish(*cell) != wanted]
    assert not wrong, f"jr_{role}: {wrong} is not as it must be"


@pytest.mark.parametrize("role", [role for role in ROLES if role != "setup"])
@in_loop
async def test_each_may_bind_what_it_waits_for_and_nothing_else(declared: Estate, role: str) -> None:
    def asks(exchange: str, key: str) -> Callable[[Any, Callable[[Any], None]], object]:
        def ask(channel: Any, done: Callable[[Any], None]) -> None:
            def bind(frame: Any) -> None:
                channel.queue_bind(frame.method.queue, exchange, routing_key=key, callback=done)

            channel.queue_declare("", exclusive=True, callback=bind)

        return ask

    id_ = "k7f2m9xq4tzd8w1r"
    cells = [
        *((topology.EVENTS, f"{kind}.*.{id_}") for kind in ("succeeded", "dead")),
        *(
            (topology.CONTROL, key)
            for key in ("all", "worker.a", "queue.task_queue", f"reply.{id_}", f"log.{id_}", "#")
        ),
        *((exchange, "#") for exchange in (topology.JOBS, topology.DLX, topology.level(3))),
    ]
    async with person(declared.url(role)) as found:
        wrong = [cell for cell in cells if await found.may(asks(*cell)) != (cell in BINDS.get(role, ()))]
        for exchange in (topology.EVENTS, topology.CONTROL):
            # nobody turns the flow of one queue into another
            to_ours = lambda ch, done, e=exchange: ch.queue_bind("task_queue", e, routing_key="#", callback=done)  # noqa: E731
            if await found.may(to_ours):
                wrong.append(("task_queue", exchange))
    assert not wrong, f"jr_{role}: {wrong} is not as it must be"


@in_loop
async def test_a_copy_of_a_job_cannot_be_slipped_to_another_queue(declared: Estate) -> None:
    """CC: up to RabbitMQ 4.0.2 topic permissions do not look at it."""
    async with person(declared.url("submitter")) as found:

        def ask(channel: Any, done: Callable[[Any], None]) -> None:
            sent = BasicProperties(headers={"CC": ["evil_task_queue"]}, delivery_mode=1)
            channel.basic_publish(topology.JOBS, "task_queue", b"{}", sent)
            channel.exchange_declare("amq.topic", passive=True, callback=done)

        allowed = await found.may(ask)
    assert allowed == (_version(declared.broker) < (4, 0, 3))


def _version(broker: TestBroker) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", broker.version)[:3])


def test_the_kinds_of_events_are_divided_among_the_users_without_a_rest() -> None:
    divided = {"queued", "sealed", "cancel", "genesis", *users.workers_kinds(), *users.OPERATORS_KINDS}
    assert divided == {*events.KINDS, "probe"}


TASKS = """
from jobrunner import job

@job
def add(a, b):
    return a + b

@job(retries=1, backoff=0.1)
def fails():
    raise ValueError("no")
"""


@pytest.fixture
def hands(declared: Estate, tmp_path: Path) -> Iterator[Callable[..., Commands]]:
    """The command as each of the users."""
    (tmp_path / "tasks.py").write_text(TASKS)
    made: dict[str, Commands] = {}

    def of(role: str, **env: str) -> Commands:
        folder = tmp_path / role
        if role not in made:
            folder.mkdir()
            (folder / "tasks.py").write_text(TASKS)
            made[role] = Commands(folder, {"JOBRUNNER_URL": declared.text(role), **env})
        return made[role]

    yield of
    for commands in made.values():
        commands.close()


@pytest.mark.timeout(240)
def test_each_can_do_its_work_with_the_commands(hands: Callable[..., Commands]) -> None:
    submitter = hands("submitter", JOBRUNNER_BROKER_ROUTE="jobs")
    operator = hands("operator", JOBRUNNER_BROKER_ROUTE="jobs")
    viewer, producer = hands("viewer"), hands("producer")
    first = submitter.run("enqueue", "tasks:add", "1", "2").stdout.strip()
    delayed = submitter.run("enqueue", "tasks:add", "3", "4", "--delay", "1s").stdout.strip()
    worker = hands("worker")
    worker.start("worker", "--procs", "1", "--app", "tasks")
    assert producer.run("enqueue", "tasks:add", "2", "3", "--wait").stdout == "5\n"
    assert producer.run("map", "tasks:add", "1", ":::", "5", "6").stdout == "6\n7\n"
    after = operator.run("enqueue", "tasks:add", "4", "5", "--after", first).stdout.strip()
    failed = producer.run("enqueue", "tasks:fails", "--wait", code=1).stderr
    assert "died after 2 tries" in failed

    def ended() -> None:
        states = {job["id"]: job["state"] for job in viewer.json("list")["jobs"]}
        assert (states[first], states[delayed], states[after]) == ("succeeded", "succeeded", "succeeded")

    eventually(ended, 60, 0.2)
    assert viewer.run("result", delayed).stdout == "7\n"
    assert viewer.run("status").returncode == 0
    dead = viewer.json("list", "state:dead")["jobs"][0]["id"]
    assert "ValueError" in viewer.run("show", dead).stdout

    assert [job["id"] for job in operator.json("retry", dead)["jobs"]] == [dead]
    later = producer.run("enqueue", "tasks:add", "8", "9", "--delay", "1h").stdout.strip()
    assert operator.json("cancel", later)["jobs"][0]["id"] == later
    assert operator.run("workers", "ping").returncode == 0
    operator.run("queues", "pause", "task_queue")
    operator.run("queues", "resume", "task_queue")
    assert operator.run("audit", code=None).returncode in (0, 5)
    eventually(lambda: _is(viewer.json("show", dead)["state"], "dead"), 60, 0.2)
    operator.run("dead", "purge", "all", "--yes")


def _is(found: object, wanted: object) -> None:
    assert found == wanted


def test_none_can_do_the_work_of_another(hands: Callable[..., Commands]) -> None:
    submitter, viewer = hands("submitter"), hands("viewer")
    direct = submitter.run("enqueue", "tasks:add", "1", "2", code=3).stderr
    assert "may not write 'amq.default'" in direct
    assert '[broker] route = "jobs"' in direct
    missing = submitter.run(
        "enqueue", "-q", "hihg", "tasks:add", "1", "2", code=3, env={"JOBRUNNER_BROKER_ROUTE": "jobs"}
    )
    assert "There is no queue 'hihg', and user 'jr_submitter' may not create it." in missing.stderr
    refused = viewer.run("enqueue", "tasks:add", "1", "2", code=3).stderr
    assert "jr_viewer" in refused
    assert viewer.run("queues", "declare", "evil_task_queue", code=3).stderr.startswith(
        "error: User 'jr_viewer' may not"
    )
    hands("producer").run("enqueue", "tasks:add", "1", "2")
    assert viewer.run("queues", "purge", "task_queue", "--yes", code=3)
    assert hands("monitor").run("list", code=3)
    assert hands("producer").run("retry", "all", "--yes", code=3)


RIGHTS = {
    "submitter": "may enqueue; not create, run jobs, look, retry and cancel",
    "producer": "may enqueue; not create, run jobs, look, retry and cancel",
    "worker": "may run jobs, look; not create, enqueue, retry and cancel",
    "viewer": "may look; not create, enqueue, run jobs, retry and cancel",
    "operator": "may enqueue, look, retry and cancel; not create, run jobs",
}


@pytest.mark.parametrize("role", RIGHTS)
@in_loop
async def test_the_doctor_says_what_each_may_do_and_calls_none_of_it_broken(declared: Estate, role: str) -> None:
    route = "jobs" if role in ("submitter", "operator") else "queues"
    url = msgspec.structs.replace(declared.url(role), route=route)
    found = {check.name: check async for check in checkup(Settings(url=url, connect_timeout_s=20), Wishes())}
    wanted = RIGHTS[role]
    if role == "worker" and _version(declared.broker) >= (4, 0, 3):  # the right on a key cannot be looked up there
        wanted = "may enqueue, run jobs, look; not create, retry and cancel"
    assert found["rights"].text == f"jr_{role} {wanted}"
    assert [check for check in found.values() if check.level == "error"] == []
    assert found["entities"].level == "ok"
    assert found["ledger"].level == ("ok" if role in ("worker", "operator") else "unknown")
