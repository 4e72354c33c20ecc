import asyncio
import os
import resource
from pathlib import Path

import msgspec
import pytest

from jobrunner.broker.backoff import BACKOFF_FIRST_S, BACKOFF_LARGEST_S, jittered
from jobrunner.broker.connection import Connection, ConnectionDown
from jobrunner.broker.parameters import parameters
from jobrunner.brokerurl import parse_url
from jobrunner.errors import BrokerLost, ConfigInvalid

URL = parse_url("amqp://app:secret@broker.example:5673/shop")


@pytest.mark.parametrize("tries", [0, 1, 5, 6, 1000])
def test_waits_between_tries_are_spread_and_bounded(tries: int) -> None:
    waits = [jittered(tries) for _ in range(500)]
    ceiling_s = min(BACKOFF_LARGEST_S, 2**tries)
    assert min(waits) >= BACKOFF_FIRST_S
    assert max(waits) <= ceiling_s
    # full jitter: workers that lost the same broker do not come back together
    assert max(waits) - min(waits) > 0.8 * (ceiling_s - BACKOFF_FIRST_S)


def test_a_connection_keeps_heartbeats_and_tells_the_broker_who_it_is() -> None:
    found = parameters(URL, "consume", heartbeat_s=20, timeout_s=10.0)
    assert (found.host, found.port, found.virtual_host, found.heartbeat) == ("broker.example", 5673, "shop", 20)
    assert found.client_properties is not None
    assert found.client_properties["connection_name"] == "jobrunner consume"
    assert found.tcp_options == {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
    assert found.ssl_options is None
    assert found.blocked_connection_timeout is None  # a worker waits for the end of an alarm


def test_a_tls_url_verifies_chain_and_name_from_version_1_2_on() -> None:
    found = parameters(parse_url("amqps://broker.example"), "x", heartbeat_s=20, timeout_s=10.0).ssl_options
    assert found is not None
    assert found.context.check_hostname
    assert found.context.verify_mode.name == "CERT_REQUIRED"
    assert found.context.minimum_version.name == "TLSv1_2"
    assert found.server_hostname == "broker.example"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"ca_file": "none.pem"}, "[tls] ca_file none.pem: No such file or directory."),
        ({"ca_file": "text.pem"}, "[tls] ca_file text.pem: no certificate in PEM form."),
        ({"cert_file": "none.pem"}, "[tls] cert_file none.pem: No such file or directory."),
        ({"cert_file": "text.pem", "key_file": "text.pem"}, "certificate and key do not fit, or are not PEM."),
        ({"key_file": "text.pem"}, "[tls] key_file needs a cert_file."),
    ],
)
def test_a_file_of_tls_that_cannot_be_used_is_named(
    files: dict[str, str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pem").write_text("no certificate")
    url = msgspec.structs.replace(parse_url("amqps://broker.example"), **files)
    with pytest.raises(ConfigInvalid) as caught:
        parameters(url, "x", heartbeat_s=20, timeout_s=10.0)
    assert problem in caught.value.message


def test_before_it_is_connected_it_says_so() -> None:
    connection = Connection(URL, role="publish", notify=print)
    assert (connection.is_open, connection.epoch, connection.server_version) == (False, 0, "")
    assert repr(connection) == "<Connection publish amqp://app@broker.example:5673/shop epoch=0>"
    connection.abort("nothing happens")
    asyncio.run(connection.close())
    with pytest.raises(BrokerLost, match="not connected"):
        connection.open_channel(print, print)


def test_a_process_that_can_open_no_file_fails_to_connect_and_lives() -> None:
    """pika would raise where nobody can catch it."""

    async def attempt() -> object:
        told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        connection = Connection(parse_url("amqp://127.0.0.1:1/"), role="publish", notify=told.set_result)
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 1)  # what a look-up needs is open from now on
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            connection.start()
            async with asyncio.timeout(10):
                return await told
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await connection.close()

    down = asyncio.run(attempt())
    assert isinstance(down, ConnectionDown)
    assert "Too many open files" in down.error.message
    assert down.retry_in_s is not None
