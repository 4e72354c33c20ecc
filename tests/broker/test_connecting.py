import asyncio
import socket
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from jobrunner.broker.connection import Connection, ConnectionDown, ConnectionUp
from jobrunner.brokerurl import parse_url
from jobrunner.errors import BrokerLost, BrokerTimeout, JobrunnerError
from tests.broker.lab import Inbox, in_loop, lab
from tests.support.broker import TestBroker
from tests.support.eventually import eventually_async
from tests.support.proxy import Proxy


async def refused(url: str, timeout_s: float = 5.0) -> JobrunnerError:
    """The error of one try."""
    inbox = Inbox()
    connection = Connection(parse_url(url), role="test", notify=inbox.put, connect_timeout_s=timeout_s)
    with pytest.raises(JobrunnerError) as caught:
        await connection.connect_once()
    assert not connection.is_open
    # the error is raised, not announced as well, and nothing is tried again
    assert inbox.seen == []
    return caught.value


def changed(broker: TestBroker, **parts: str) -> str:
    """The broker's URL with another user, password, host or vhost."""
    url = broker.parsed
    known = {"user": url.user, "password": url.password, "host": f"{url.host}:{url.port}", "vhost": url.vhost} | parts
    return "amqp://{user}:{password}@{host}/{vhost}".format(**{k: quote(v, safe=":,") for k, v in known.items()})


@in_loop
async def test_one_connection_knows_its_broker(broker: TestBroker) -> None:
    async with lab(broker.url) as made:
        connection = await made.connect("consume")
        assert (connection.is_open, connection.epoch, connection.blocked) == (True, 1, None)
        assert connection.server_version == broker.version
        assert connection.server_properties["product"] == "RabbitMQ"
        assert ConnectionUp("consume", 1) in made.inbox.seen
        assert broker.parsed.password not in repr(connection) or broker.parsed.password == "guest"


@in_loop
async def test_a_closed_port_is_told_as_refused() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        error = await refused(f"amqp://127.0.0.1:{port}")
    assert error.code == "broker_refused"
    assert error.message == f"Cannot reach the broker at 127.0.0.1:{port}: connection refused."


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
@in_loop
async def test_an_unknown_host_is_told_as_such(host: str) -> None:
    assert (await refused(f"amqp://{host}")).code == "broker_unknown_host"


@in_loop
async def test_a_wrong_password_is_told_as_such(broker: TestBroker) -> None:
    error = await refused(changed(broker, password="wrong"))
    assert error.code == "login_refused"
    assert "wrong" not in error.message.replace("wrong password", "")


@in_loop
async def test_a_missing_virtual_host_is_told_as_such(broker: TestBroker) -> None:
    assert (await refused(changed(broker, vhost="no-such-vhost"))).code == "vhost_missing"


@in_loop
async def test_a_virtual_host_without_rights_is_told_as_such(
    broker: TestBroker, make_vhost: Callable[..., str]
) -> None:
    vhost = parse_url(make_vhost()).vhost
    await asyncio.to_thread(broker.ctl, "clear_permissions", "-p", vhost, broker.parsed.user)
    error = await refused(changed(broker, vhost=vhost))
    assert error.code == "vhost_refused"
    assert vhost in error.message


@in_loop
async def test_a_silent_peer_ends_the_try_in_time(broker: TestBroker) -> None:
    async with Proxy(broker.url) as proxy:
        proxy.stall()
        began = time.monotonic()
        error = await refused(proxy.url, 0.4)
        assert isinstance(error, BrokerTimeout)
        assert 0.4 <= time.monotonic() - began < 8  # the default is 10 s
        assert error.message == f"No answer from 127.0.0.1:{proxy.port} within 0.4 s."


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00", b""])
@in_loop
async def test_a_server_that_speaks_something_else_is_no_broker(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        error = await refused(f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert isinstance(error, BrokerLost)
    assert "may not be an AMQP port" in error.message


@in_loop
async def test_a_cut_connection_comes_back_with_the_next_epoch(broker: TestBroker) -> None:
    async with lab(broker.url) as made, Proxy(broker.url) as proxy:
        connection = await made.connect(url=proxy.url)
        await made.inbox.take(ConnectionUp)
        for epoch in (1, 2):
            made.inbox.seen.clear()
            proxy.cut(reset=epoch == 1)
            down = await made.inbox.take(ConnectionDown)
            assert down.epoch == epoch
            assert isinstance(down.error, BrokerLost)
            assert down.retry_in_s is not None
            assert 0.5 <= down.retry_in_s <= 2.0
            assert not connection.is_open
            assert (await made.inbox.take(ConnectionUp)).epoch == epoch + 1


@in_loop
async def test_of_a_cluster_the_node_that_answers_is_found_and_left_for_another_when_it_is_gone(
    broker: TestBroker,
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{reserved.getsockname()[1]}"
        async with lab(broker.url) as made, Proxy(broker.url) as one, Proxy(broker.url) as other:
            nodes = {f"127.0.0.1:{proxy.port}": proxy for proxy in (one, other)}
            connection = await made.connect(url=changed(broker, host=",".join([gone, *nodes])))
            for epoch in (1, 2, 3):

                def connected(epoch: int = epoch) -> None:
                    assert (connection.is_open, connection.epoch) == (True, epoch)

                await eventually_async(connected, 30)
                here = nodes[connection.url.address]
                for proxy in nodes.values():
                    proxy.refusing = proxy is here
                here.cut()


@in_loop
async def test_where_no_node_answers_one_of_them_is_named_in_time() -> None:
    with socket.socket() as first, socket.socket() as second:
        for reserved in (first, second):
            reserved.bind(("127.0.0.1", 0))
        second.listen()  # connects, and never says a word
        ports = [reserved.getsockname()[1] for reserved in (first, second)]
        began = time.monotonic()
        error = await refused(f"amqp://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}", timeout_s=2.0)
    assert error.code in ("broker_refused", "broker_timeout")
    assert time.monotonic() - began < 10


@in_loop
async def test_started_without_a_broker_it_tries_until_there_is_one(broker: TestBroker) -> None:
    async with Proxy(broker.url) as proxy:
        inbox = Inbox()
        connection = Connection(parse_url(proxy.url), role="test", notify=inbox.put)
        proxy.refusing = True
        connection.start()
        connection.start()
        waits = [(await inbox.take(ConnectionDown)).retry_in_s for _ in range(2)]
        assert all(wait is not None and 0.5 <= wait <= 2 for wait in waits)
        assert proxy.connections == 2  # one try at a time
        proxy.refusing = False
        await inbox.take(ConnectionUp)
        await connection.close()


@in_loop
async def test_a_refused_login_is_tried_again_only_every_half_minute(broker: TestBroker) -> None:
    inbox = Inbox()
    connection = Connection(parse_url(changed(broker, password="wrong")), role="test", notify=inbox.put)
    connection.start()
    down = await inbox.take(ConnectionDown)
    assert (down.error.code, down.retry_in_s) == ("login_refused", 30.0)
    await connection.close()


@in_loop
async def test_abort_does_not_wait_for_a_frozen_peer_and_connects_again(broker: TestBroker) -> None:
    async with lab(broker.url) as made, Proxy(broker.url) as proxy:
        connection = await made.connect(url=proxy.url)
        made.inbox.seen.clear()
        proxy.stall()
        began = time.monotonic()
        connection.abort("a test")
        assert not connection.is_open
        down = await made.inbox.take(ConnectionDown)
        assert time.monotonic() - began < 10
        assert down.error.message.endswith("ended: a test.")
        proxy.flow()
        assert (await made.inbox.take(ConnectionUp)).epoch == 2


@in_loop
async def test_close_gives_up_on_a_frozen_peer(broker: TestBroker) -> None:
    async with lab(broker.url) as made, Proxy(broker.url) as proxy:
        connection = await made.connect(url=proxy.url)
        proxy.stall()
        began = time.monotonic()
        await connection.close(timeout_s=0.2)
        assert time.monotonic() - began < 10
        await connection.close()
        assert not made.inbox.holds(ConnectionDown)


@in_loop
async def test_closing_while_it_connects_leaves_nothing(broker: TestBroker) -> None:
    async with Proxy(broker.url) as proxy:
        inbox = Inbox()
        for wait_s in (0.0, 0.001, 0.01, 0.05):
            connection = Connection(parse_url(proxy.url), role="test", notify=inbox.put)
            proxy.stall("down")
            connection.start()
            await asyncio.sleep(wait_s)
            await connection.close()
            assert not connection.is_open
            proxy.flow()
        assert inbox.seen == []


@in_loop
async def test_a_cancelled_try_leaves_nothing(broker: TestBroker) -> None:
    async with Proxy(broker.url) as proxy:
        proxy.stall()
        connection = Connection(parse_url(proxy.url), role="test", notify=Inbox().put)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.connect_once()
        assert not connection.is_open
