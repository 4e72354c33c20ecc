"""`doctor` at a real broker, at each stage of what can be wrong with it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobrunner.broker import topology
from jobrunner.broker.probing import PROBE_TYPE
from jobrunner.broker.publisher import STORED, Message
from jobrunner.broker.topology import Queue
from jobrunner.brokerurl import BrokerUrl, parse_url
from jobrunner.cli.asking import policies
from jobrunner.config import Settings
from jobrunner.doctor import check as checks
from jobrunner.doctor import checkup as checkups
from jobrunner.doctor import rounds
from jobrunner.doctor.check import Check
from jobrunner.doctor.checkup import Wishes, checkup
from jobrunner.doctor.entities import Entities, create
from jobrunner.doctor.management import Api
from jobrunner.doctor.reach import login, to_nodes
from jobrunner.doctor.told import Told
from tests.broker.lab import in_loop, lab, on_channel
from tests.support.broker import Container, TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.proxy import Proxy

pytestmark = pytest.mark.timeout(240)


async def examine(url: BrokerUrl, *, timeout_s: float = 15.0, **wishes: Any) -> dict[str, Check]:
    """Name -> finding."""
    settings = Settings(url=url, connect_timeout_s=timeout_s)
    return {check.name: check async for check in checkup(settings, Wishes(**wishes))}


def errors(found: dict[str, Check]) -> list[str]:
    return [f"{check.name}: {check.text}" for check in found.values() if check.level == "error"]


def names_of_all(broker: TestBroker, vhost: str) -> set[str]:
    return set(broker.ctl("-q", "list_queues", "-p", vhost, "name").split()[1:])


@in_loop
async def test_it_changes_nothing_but_with_fix_and_then_all_is_well(
    broker: TestBroker, make_vhost: Callable[..., str]
) -> None:
    url = parse_url(make_vhost(quorum=True))
    found = await examine(url)
    assert errors(found) == []
    assert "nothing is declared yet" in found["entities"].text
    assert names_of_all(broker, url.vhost) == set()

    fixed = await examine(url, fix=True)
    assert errors(fixed) == []
    for name in (
        "name",
        "port",
        "login",
        "fix",
        "rights",
        "entities",
        "alarms",
        "size",
        "round trip",
        "ladder",
        "ledger",
    ):
        assert fixed[name].level == "ok", fixed[name]
    assert fixed["rights"].text.endswith("may create, enqueue, run jobs, look, retry and cancel")
    assert broker.version in fixed["version"].text
    declared = names_of_all(broker, url.vhost)
    assert declared == {each.name for each in topology.everything([topology.DEFAULT_QUEUE]) if isinstance(each, Queue)}
    async with lab(text_of(url)) as made:
        connection = await made.connect()
        for queue in (topology.UNROUTED, topology.DEAD):
            answer = await on_channel(
                connection, lambda ch, done, n=queue: ch.queue_declare(n, passive=True, callback=done)
            )
            assert answer.method.message_count == 0


def text_of(url: BrokerUrl) -> str:
    return f"amqp://{url.user}:{url.password}@{url.host}:{url.port}/{url.vhost}"


@in_loop
async def test_what_is_missing_or_different_is_named_with_its_fix(
    make_vhost: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = parse_url(make_vhost(quorum=True))
    async with lab(text_of(url)) as made:
        connection = await made.connect()
        await create(connection, topology.DEFAULT_QUEUE)
        level = topology.level(3)  # where a message of 1.6 s comes after its one level
        key = "*." * 24 + "0." * 4 + "#"
        unbind = lambda ch, done: ch.exchange_unbind(topology.JOBS, level, routing_key=key, callback=done)  # noqa: E731
        await on_channel(connection, unbind)
        from_ledger = lambda ch, done: ch.queue_unbind(topology.LEDGER, topology.EVENTS, "#", callback=done)  # noqa: E731
        await on_channel(connection, from_ledger)
        with monkeypatch.context() as patch:
            patch.setattr(rounds, "LADDER_S", 4.0)  # a message that never comes: no need to wait long for it
            found = await examine(url)
        assert {check.name for check in found.values() if check.level == "error"} == {"ladder", "ledger"}
        assert "did not come within" in found["ladder"].text
        assert errors(await examine(url, fix=True)) == []

        async def looked(*, may_create: bool = True) -> Check:
            entities = Entities(connection)
            await entities.look(may_create=may_create)
            return entities.check(may_create=may_create, user="app")

        await on_channel(connection, lambda ch, done: ch.queue_delete(topology.DEAD, callback=done))
        missing = await looked()
        assert (missing.text, missing.fix) == (f"1 missing: {topology.DEAD}", "jobrunner doctor --fix")
        assert (await looked(may_create=False)).fix == "an administrator runs  jobrunner queues declare"
        classic = {"x-queue-type": "classic"}
        make = lambda ch, done: ch.queue_declare(topology.DEAD, durable=True, arguments=classic, callback=done)  # noqa: E731
        await on_channel(connection, make)
        assert f"The queue '{topology.DEAD}' has other settings" in (await looked()).text


@in_loop
async def test_the_causes_of_a_refused_login_are_told_apart(broker: TestBroker, make_vhost: Callable[..., str]) -> None:
    url = broker.parsed
    change = msgspec.structs.replace
    bare = parse_url(make_vhost()).vhost
    await asyncio.to_thread(broker.ctl, "clear_permissions", "-p", bare, url.user)
    cases = {
        "login_refused": (change(url, password="wrong"), "rabbitmqctl authenticate_user"),
        "vhost_missing": (change(url, vhost="nowhere"), "rabbitmqctl add_vhost nowhere"),
        "vhost_refused": (change(url, vhost=bare), f"rabbitmqctl set_permissions -p {bare} {url.user}"),
    }
    for code, (refused, fix) in cases.items():
        found = await examine(refused)
        login = found["login"]
        assert (login.level, login.code) == ("error", code)
        assert (login.fix or "").startswith(fix), login.fix
        assert "not looked at" in found["rest"].text
        assert "workers" not in found


@in_loop
async def test_a_user_without_rights_is_told_what_an_administrator_types(
    broker: TestBroker, make_vhost: Callable[..., str]
) -> None:
    url = parse_url(make_vhost())
    await asyncio.to_thread(broker.ctl, "set_permissions", "-p", url.vhost, url.user, "", "", "")
    found = await examine(url)
    assert found["login"].level == "ok"
    assert (found["rights"].level, found["rights"].fix is None) == ("error", False)
    assert found["entities"].fix == "an administrator runs  jobrunner queues declare"
    assert found["alarms"].level == "unknown"
    assert (await examine(url, fix=True))["fix"].level == "error"


@in_loop
async def test_a_broker_that_takes_nothing_is_told_within_seconds(broker: TestBroker) -> None:
    await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0")
    try:
        found = await examine(broker.parsed)
    finally:
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
    assert found["alarms"].level == "error"
    assert found["alarms"].code == "broker_blocked"
    assert "not tried while the broker takes nothing" in found["rest"].text
    assert found["entities"].level in ("ok", "error")  # what needs no publish was looked at


def test_what_a_stopped_doctor_leaves_behind_the_audit_removes(make_vhost: Callable[..., str], tmp_path: Path) -> None:
    url = make_vhost(quorum=True)

    async def leave() -> None:
        async with lab(url) as made:
            await create(await made.connect(), topology.DEFAULT_QUEUE)
            publisher = await made.publisher()
            message = Message(topology.UNROUTED, "x", b"later", "nonce.probe", PROBE_TYPE)
            assert await publisher.publish_confirmed(message) == STORED

    asyncio.run(leave())
    commands = Commands(tmp_path, {"JOBRUNNER_URL": url})
    assert "removed: no job" in commands.run("audit", "--repair", "--yes").stdout
    assert commands.json("audit")["unrouted_messages"] == 0


@in_loop
async def test_of_a_cluster_one_node_that_can_be_reached_is_enough(broker: TestBroker) -> None:
    url = msgspec.structs.replace(broker.parsed, others=(("127.0.0.1", 1),))
    settings = Settings(url=url, connect_timeout_s=15.0)
    found = await to_nodes(settings)
    assert [(check.name, check.level) for check in found if check.name == "port"] == [
        ("port", "ok"),
        ("port", "warning"),
    ]
    check, connection = await login(settings)
    assert connection is not None
    await connection.close()
    assert (check.level, f"127.0.0.1:{url.port}" in check.text) == ("ok", True)
    alone = Settings(url=msgspec.structs.replace(url, port=1), connect_timeout_s=15.0)
    assert {check.level for check in await to_nodes(alone) if check.name == "port"} == {"error"}


@in_loop
async def test_silence_at_any_stage_ends_in_time(broker: TestBroker) -> None:
    async with Proxy(broker.url) as proxy:
        proxy.stall()
        began = time.monotonic()
        found = await examine(parse_url(proxy.url), timeout_s=1.0)
        assert found["port"].level == "ok"
        assert found["login"].code == "broker_timeout"
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("how", ["stall", "cut"])
@in_loop
async def test_a_broker_that_goes_away_in_the_midst_is_told_not_raised(
    broker: TestBroker, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((checks, "CHECK_S"), (checkups, "WHOLE_S"), (rounds, "ANSWER_S")):
        monkeypatch.setattr(module, name, 1.0)
    async with Proxy(broker.url) as proxy:
        settings = Settings(url=parse_url(proxy.url), connect_timeout_s=2.0)
        found = []
        async for check in checkup(settings, Wishes(management="http://127.0.0.1:1")):
            found.append(check)
            if check.name == "version":
                proxy.stall() if how == "stall" else proxy.cut()
                proxy.refusing = True
    assert any(check.level == "error" for check in found)
    assert found[-1].name == "policies"


def test_the_management_api_tells_of_policies_that_drop_messages(
    broker: TestBroker, make_vhost: Callable[..., str]
) -> None:
    url = parse_url(make_vhost(quorum=True))
    if not isinstance(broker, Container):  # the private node has no plugins
        _, check = asyncio.run(told_by(url, "http://127.0.0.1:1"))
        assert check.level == "unknown"
        return
    asyncio.run(declared(url))
    api = f"http://{url.user}:{url.password}@{broker.address}:15672"
    told, check = asyncio.run(told_by(url, api))
    assert (check.level, "refuses" in check.text) == ("unknown", True)
    assert told.policies().level == "unknown"
    broker.ctl("set_user_tags", url.user, "monitoring")
    try:
        told, check = asyncio.run(told_by(url, api))
        assert check.level == "ok"
        assert told.policies().level in ("warning", "unknown")  # nothing dead-letters what RabbitMQ itself drops
        clock = told.clock()
        assert clock is not None
        assert clock.level == "ok"
        assert [found.name for found in told.disk()] == ["disk"]
        text = '{"max-length": 5, "consumer-timeout": 3600000}'
        broker.ctl("set_policy", "-p", url.vhost, "bad", ".*", text, "--apply-to", "queues")

        def seen() -> None:
            told, _ = asyncio.run(told_by(url, api))
            assert "policy 'bad' sets max-length on" in told.policies().text
            assert "1h" in told.timeouts().text

        eventually(seen, 60, 0.2)
        inside = msgspec.structs.replace(url, host=broker.address)
        assert asyncio.run(policies(Settings(inside)))[topology.DEFAULT_QUEUE] == "bad"
    finally:
        broker.ctl("set_user_tags", url.user)


async def told_by(url: BrokerUrl, address: str) -> tuple[Told, Check]:
    told = Told(Api(url, address), is_private=False)
    return told, await told.ask()


async def declared(url: BrokerUrl) -> None:
    async with lab(text_of(url)) as made:
        await create(await made.connect(), topology.DEFAULT_QUEUE)
