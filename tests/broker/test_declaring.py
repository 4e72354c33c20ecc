import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest

from jobrunner import events
from jobrunner.broker import declare, places, topology
from jobrunner.broker.consumer import ConsumerLost
from jobrunner.broker.definitions import definitions
from jobrunner.broker.publisher import STORED, Message, Refused
from jobrunner.broker.topology import Queue
from jobrunner.brokerurl import parse_url
from jobrunner.errors import BrokerLost, EntityDiffers, PermissionRefused, VhostRefused
from tests.broker.lab import Lab, a_job, delayed, delete, in_loop, lab, on_channel, to_queue
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_is


async def ctl(broker: TestBroker, *args: str) -> str:
    return await asyncio.to_thread(broker.ctl, *args)


async def contents(broker: TestBroker, url: str) -> list[list[str]]:
    """All exchanges, queues and bindings of a virtual host, as rabbitmqctl lists them."""
    vhost = parse_url(url).vhost
    columns = {
        "list_exchanges": ["name", "type", "durable", "auto_delete", "internal", "arguments"],
        "list_queues": ["name", "durable", "auto_delete", "arguments"],
        "list_bindings": ["source_name", "destination_name", "destination_kind", "routing_key", "arguments"],
    }
    listed = []
    for command, names in columns.items():
        text = await ctl(broker, "--silent", command, "-p", vhost, "--no-table-headers", *names)
        # each node and version orders arguments differently
        listed.append(sorted("".join(sorted(line)) + line.split("\t")[0] for line in text.splitlines()))
    return listed


async def write_on(broker: TestBroker, path: str, text: str) -> None:
    """Write a file where the broker runs, which may be a container."""
    for start in range(0, len(text), 50_000):
        escaped = text[start : start + 50_000].replace("\\", "\\\\").replace('"', '\\"')
        await ctl(broker, "eval", f'file:write_file("{path}", <<"{escaped}">>, [append]).')


@in_loop
async def test_declared_twice_and_imported_there_is_the_same_each_time(
    broker: TestBroker, make_vhost: Callable[..., str]
) -> None:
    by_amqp, by_import = (make_vhost(quorum=True) for _ in range(2))
    everything = topology.everything([topology.DEFAULT_QUEUE])
    async with lab(by_amqp) as made:
        connection = await made.connect()
        began = time.monotonic()
        await declare.declare(connection, everything)
        first_s = time.monotonic() - began
        await declare.declare(connection, everything)
        assert first_s < 60
        assert time.monotonic() - began - first_s < max(first_s, 10)
    vhost = parse_url(by_import).vhost
    path = f"{tempfile.gettempdir()}/{vhost}.json"
    made = definitions([topology.DEFAULT_QUEUE], vhost=vhost, broker_version=broker.version)
    await write_on(broker, path, json.dumps(made))
    await ctl(broker, "import_definitions", path)
    await ctl(broker, "eval", f'file:delete("{path}").')
    found = await contents(broker, by_import)
    assert found == await contents(broker, by_amqp)
    standard = 7  # the default exchange and amq.*
    implicit = 34  # each queue's binding to the default exchange
    assert [len(rows) for rows in found] == [34 + standard, 34, 440 + implicit]
    async with lab(by_import) as made:
        await declare.declare(await made.connect(), everything)
    policies = await ctl(broker, "--silent", "list_policies", "-p", vhost)
    assert "jobrunner-work" in policies
    assert "jobrunner-classic" in policies


@asynccontextmanager
async def records(made: Lab) -> AsyncIterator[asyncio.Queue[Any]]:
    """The ledger from its first record."""
    connection = await made.connect("read")
    found: asyncio.Queue[Any] = asyncio.Queue()

    def on_open(channel: Any) -> None:
        channel.basic_qos(prefetch_count=100)
        channel.basic_consume(
            topology.LEDGER,
            lambda _channel, _method, _properties, body: found.put_nowait(events.decode(body)),
            arguments={"x-stream-offset": "first"},
        )

    connection.open_channel(on_open, lambda _reason: None)
    yield found


@in_loop
async def test_who_creates_the_ledger_writes_its_first_record_and_nobody_else(make_vhost: Callable[..., str]) -> None:
    async with lab(make_vhost()) as made:
        publisher = await made.publisher()
        for _ in range(2):
            await declare.declare_startup(publisher.connection, publisher)
        other = await made.publisher()
        await declare.declare_startup(other.connection, other)
        event = events.Expired(at=1.0, id="last", expires_at=1.0)
        message = Message(topology.EVENTS, "expired.-.last", events.encode(event), "last", events.EVENT_TYPE)
        assert await other.publish_confirmed(message) == STORED
        async with records(made) as found, asyncio.timeout(10):
            genesis = await found.get()
            assert isinstance(genesis, events.Genesis)
            assert len(genesis.id) == 16
            assert await found.get() == event


FOREIGN: dict[str, dict[str, Any]] = {
    "plain": {},
    "quorum": {"x-queue-type": "quorum"},
    "classic": {"x-queue-type": "classic"},
    "classic with priorities": {"x-queue-type": "classic", "x-max-priority": 9},
}


@pytest.mark.parametrize("arguments", FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize("default_type", ["quorum", "classic"])
@in_loop
async def test_a_queue_that_someone_else_made_is_used_as_it_is(
    broker: TestBroker, queue_name: str, plain_vhost: str, arguments: dict[str, Any], default_type: str
) -> None:
    async with lab(broker.url if default_type == "quorum" else plain_vhost) as made:
        publisher = await made.publisher()
        connection = publisher.connection
        foreign = Queue(queue_name, arguments)
        await declare.declare(connection, [foreign])
        await places.ensure_user_queue(connection, queue_name)
        await places.ensure_ladder(connection, queue_name)
        job = a_job(queue_name)
        assert await publisher.publish_confirmed(to_queue(job)) == STORED
        assert await publisher.publish_confirmed(delayed(job.with_state(), 0.1)) == STORED
        consumer = await made.consumer(queue_name)
        for copy in (0, 1):
            delivery = await made.inbox.delivery()
            assert delivery.headers.get("jr-copy", 0) == copy
            consumer.ack(delivery)
        # and its maker may declare it once more
        await declare.declare(connection, [foreign])
        await consumer.close()
        await delete(made, queue_name)


@pytest.fixture(scope="module")
def plain_vhost(broker: TestBroker) -> Any:
    """A virtual host whose queues are classic unless they say otherwise."""
    name = f"plain-{time.time_ns()}"
    yield broker.add_vhost(name, quorum=False)
    broker.ctl("delete_vhost", name)


@in_loop
async def test_our_own_entity_with_other_settings_is_named(make_vhost: Callable[..., str]) -> None:
    async with lab(make_vhost()) as made:
        connection = await made.connect()
        await declare.declare(connection, [Queue(topology.DEAD, {"x-queue-type": "quorum"})])
        with pytest.raises(EntityDiffers) as caught:
            await declare.declare(connection, topology.startup())
        assert caught.value.message.startswith(f"The queue '{topology.DEAD}' has other settings: x-delivery-limit is ")


@in_loop
async def test_depth_counts_what_is_ready_and_who_consumes(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url, queue_name) as made:
        publisher = await made.publisher()
        connection = publisher.connection
        assert await declare.queue_depth(connection, queue_name + "-missing") is None
        assert await declare.queue_depth(connection, queue_name) == (0, 0)
        for _ in range(3):
            await publisher.publish_confirmed(to_queue(a_job(queue_name)))
        await made.consumer(queue_name)
        delivery = await made.inbox.delivery()
        await eventually_is(lambda: declare.queue_depth(connection, queue_name), (2, 1))
        assert delivery.is_current


@in_loop
async def test_the_way_through_the_ladder_is_made_once_and_remembered(
    make_vhost: Callable[..., str], queue_name: str
) -> None:
    async with lab(make_vhost(quorum=True)) as made:
        publisher = await made.publisher()
        connection = publisher.connection
        await places.ensure_ladder(connection, queue_name)  # neither queue nor ladder nor anything else is there
        assert await declare.queue_depth(connection, queue_name) == (0, 0)
        sent: list[int] = []
        amqp: Any = connection._amqp
        amqp._output_marshaled_frames = lambda frames: sent.append(len(frames))
        await places.ensure_ladder(connection, queue_name)
        del amqp._output_marshaled_frames
        assert sent == []
        await places.ensure_ladder(await made.connect(), queue_name)
        assert await publisher.publish_confirmed(delayed(a_job(queue_name), 0.1)) == STORED
        await made.consumer(queue_name)
        await made.inbox.delivery()


@in_loop
async def test_declaring_on_a_lost_connection_says_so(broker: TestBroker) -> None:
    async with lab(broker.url) as made:
        connection = await made.connect()
        declaring = asyncio.create_task(declare.queue_depth(connection, "x"))
        await asyncio.sleep(0)
        connection.abort("a test")
        with pytest.raises(BrokerLost, match="a test"):
            await declaring
        with pytest.raises(BrokerLost, match="not connected"):
            await declare.queue_depth(connection, "x")


# --- a user with few rights -----------------------------------------------------------------------------------------


@pytest.fixture
def limited(broker: TestBroker, queue_name: str) -> Any:
    """Gives rights to a user of its own and its URL: configure, write, read."""
    user = queue_name[-40:]
    broker.ctl("add_user", user, "secret")

    def allow(configure: str, write: str, read: str) -> str:
        broker.ctl("set_permissions", "-p", broker.parsed.vhost, user, configure, write, read)
        url = broker.parsed
        return f"amqp://{quote(user)}:secret@{url.host}:{url.port}/{quote(url.vhost, safe='')}"

    yield allow
    broker.ctl("delete_user", user)


@in_loop
async def test_a_worker_without_the_right_to_create_starts_once_all_is_there(
    broker: TestBroker, queue_name: str, limited: Callable[..., str]
) -> None:
    async with lab(broker.url) as made:
        admin = await made.publisher()
        await declare.declare_startup(admin.connection, admin)
        await places.ensure_ladder(admin.connection, queue_name)
        publisher = await made.publisher(url=await asyncio.to_thread(limited, "", ".*", ".*"))
        await declare.declare_startup(publisher.connection, publisher)
        await places.ensure_ladder(publisher.connection, queue_name)
        with pytest.raises(PermissionRefused) as caught:
            await places.ensure_user_queue(publisher.connection, f"{queue_name}-new")
        assert f"may not create '{queue_name}-new' in '{broker.parsed.vhost}'" in caught.value.message
        assert "queues declare" in caught.value.hint
        await delete(made, queue_name)


@in_loop
async def test_without_the_right_to_write_or_read_both_sides_say_so(
    broker: TestBroker, queue_name: str, limited: Callable[..., str]
) -> None:
    async with lab(broker.url, queue_name) as made:
        url = await asyncio.to_thread(limited, "", "nothing", "nothing")
        publisher = await made.publisher(url=url)
        answer = await publisher.publish_confirmed(Message(topology.EVENTS, "x", b"", "x", "x"))
        assert isinstance(answer, Refused)
        assert answer.code == 403
        assert f"access to exchange '{topology.EVENTS}'" in answer.reason
        connection = await made.connect(url=url)
        await made.consumer(queue_name, connection=connection, ready=False)
        lost = await made.inbox.take(ConsumerLost)
        assert isinstance(lost.error, PermissionRefused)
        assert f"may not read '{queue_name}'" in lost.error.message
        assert not lost.missing


@in_loop
async def test_a_user_without_any_right_is_refused_at_the_door(broker: TestBroker, limited: Callable[..., str]) -> None:
    url = await asyncio.to_thread(limited, "", "", "")
    user = parse_url(url).user
    await ctl(broker, "clear_permissions", "-p", broker.parsed.vhost, user)
    made = Lab(url)
    with pytest.raises(VhostRefused):
        await made.connect()


@in_loop
async def test_a_delayed_job_of_a_deleted_queue_is_kept_in_unrouted(broker: TestBroker, queue_name: str) -> None:
    async with lab(broker.url) as made:
        publisher = await made.publisher()
        await places.ensure_ladder(publisher.connection, queue_name)
        job = a_job(queue_name)
        assert await publisher.publish_confirmed(delayed(job, 0.3)) == STORED
        await on_channel(publisher.connection, lambda channel, done: channel.queue_delete(queue_name, callback=done))
        await made.take_unrouted(job.job.id)


@in_loop
async def test_a_broker_that_has_just_started_is_waited_for(own_broker: TestBroker, queue_name: str) -> None:
    """For a second or so it takes logins while its queues still elect their leaders."""
    async with lab(own_broker.url) as made:
        publisher = await made.publisher()
        await declare.declare_startup(publisher.connection, publisher)
        await places.ensure_user_queue(publisher.connection, queue_name)
    own_broker.restart()
    async with lab(own_broker.url) as made:
        publisher = await made.publisher()
        assert await declare.queue_depth(publisher.connection, queue_name) == (0, 0)
        await declare.declare_startup(publisher.connection, publisher)
