"""TLS with a real broker: listeners with good, bad and demanding certificates are opened in it, next to its own."""

import base64
import datetime as dt
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from jobrunner.broker.connection import Connection, ConnectionDown
from jobrunner.brokerurl import BrokerUrl, parse_url
from jobrunner.errors import JobrunnerError
from jobrunner.local import probe
from tests.broker.lab import Inbox, in_loop
from tests.support.broker import TestBroker
from tests.support.command import Commands

ANY_CERT = "{verify, verify_none}"
DEMANDS = "{verify, verify_peer}, {fail_if_no_peer_cert, true}"


@dataclass
class Realm:
    """Ports of the broker by what they offer, and the files that a client needs."""

    broker: TestBroker
    host: str
    ports: dict[str, int]
    folder: Path

    def url(self, port: str, **tls: str) -> BrokerUrl:
        """To that port. tls: keys of `[tls]`; files by their name in the folder; trusts the good authority."""
        url = self.broker.parsed
        files = {key: value if key == "server_name" else str(self.folder / value) for key, value in tls.items()}
        files.setdefault("ca_file", str(self.folder / "ca.pem"))
        return msgspec.structs.replace(url, host=self.host, port=self.ports[port], tls=True, **files)


def pem(*parts: trustme.Blob) -> bytes:
    return b"".join(part.bytes() for part in parts)


def listener(broker: TestBroker, port: int, certificate: tuple[bytes, bytes], authority: bytes, options: str) -> str:
    """Erlang for one more listener. Certificates travel in it, so that no file has to be where the broker is."""
    chain, key = (base64.b64encode(part).decode() for part in certificate)
    trusted = base64.b64encode(authority).decode()
    address = "0.0.0.0" if broker.address != "127.0.0.1" else "127.0.0.1"
    return (
        f'Read(fun() -> [{{_, Cert, _}} | _] = Pem("{chain}"), [{{Kind, Key, _}}] = Pem("{key}"),'
        f' [{{_, CA, _}}] = Pem("{trusted}"), rabbit_networking:start_ssl_listener({{"{address}", {port}}},'
        f" [{{cert, Cert}}, {{key, {{Kind, Key}}}}, {{cacerts, [CA]}}, {options}], 2) end)"
    )


def open_listeners(broker: TestBroker, *each: str) -> None:
    helpers = "Pem = fun(Text) -> public_key:pem_decode(base64:decode(Text)) end, Read = fun(F) -> F() end, "
    done = broker.ctl("eval", f"application:ensure_all_started(ssl), {helpers}{', '.join(each)}.")
    assert "ok" in done, done


@pytest.fixture(scope="session")
def realm(broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Realm:
    folder = tmp_path_factory.mktemp("tls")
    host, now = broker.address, dt.datetime.now(dt.UTC)
    ca, other = trustme.CA(), trustme.CA()
    good = ca.issue_cert(host, "rabbit.internal")
    week = dt.timedelta(days=7)
    expired = ca.issue_cert(host, not_before=now - 2 * week, not_after=now - week)
    client, stranger = ca.issue_cert("worker@example.org"), other.issue_cert("worker@example.org")
    for name, part in {"ca.pem": ca.cert_pem, "other.pem": other.cert_pem}.items():
        part.write_to_path(folder / name)
    for name, cert in {"client": client, "stranger": stranger}.items():
        (folder / f"{name}.crt").write_bytes(pem(*cert.cert_chain_pems))
        cert.private_key_pem.write_to_path(folder / f"{name}.key")

    def served(cert: trustme.LeafCert) -> tuple[bytes, bytes]:
        return pem(cert.cert_chain_pems[0]), pem(cert.private_key_pem)

    offers = {
        "good": (served(good), ANY_CERT),
        "expired": (served(expired), ANY_CERT),
        "self-signed": ((pem(other.cert_pem), pem(other.private_key_pem)), ANY_CERT),
        "demanding": (served(good), DEMANDS),
        "demanding-1.2": (served(good), f"{DEMANDS}, {{versions, ['tlsv1.2']}}"),
        "old": (served(good), f"{ANY_CERT}, {{versions, ['tlsv1.1']}}"),
    }
    ports = {name: probe.free_port() for name in offers}
    authority = pem(ca.cert_pem)
    open_listeners(
        broker,
        *(listener(broker, ports[name], served, authority, options) for name, (served, options) in offers.items()),
    )
    return Realm(broker, host, ports | {"plain": broker.port if host == "127.0.0.1" else 5672}, folder)


async def outcome(url: BrokerUrl) -> JobrunnerError | None:
    """The error of one try, None if it connects."""
    connection = Connection(url, role="test", notify=lambda _: None, connect_timeout_s=10.0)
    try:
        await connection.connect_once()
    except JobrunnerError as exc:
        return exc
    finally:
        await connection.close()
    return None


CONNECTS: list[dict[str, str]] = [
    {"port": "good"},
    {"port": "good", "server_name": "rabbit.internal"},
    {"port": "demanding", "cert_file": "client.crt", "key_file": "client.key"},
    {"port": "demanding-1.2", "cert_file": "client.crt", "key_file": "client.key"},
]


@pytest.mark.parametrize("given", CONNECTS, ids=lambda given: "-".join(given.values()))
@in_loop
async def test_a_certificate_that_is_right_is_taken(realm: Realm, given: dict[str, str]) -> None:
    assert await outcome(realm.url(**given)) is None


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "wrong CA": (
        {"port": "good", "ca_file": "other.pem"},
        "The broker's certificate comes from an authority that is not in {folder}/other.pem.",
    ),
    "wrong name": (
        {"port": "good", "server_name": "rabbit.prod"},
        "The broker's certificate is for '{host}', 'rabbit.internal', not 'rabbit.prod'.",
    ),
    "expired": ({"port": "expired"}, "The broker's certificate has expired."),
    "self-signed": ({"port": "self-signed"}, "The broker's certificate is self-signed, and not in {folder}/ca.pem."),
    "demanded": ({"port": "demanding"}, "The broker at {address} demands a client certificate."),
    "demanded in 1.2": ({"port": "demanding-1.2"}, "The broker at {address} demands a client certificate."),
    "a stranger's": (
        {"port": "demanding", "cert_file": "stranger.crt", "key_file": "stranger.key"},
        "The broker at {address} does not accept the certificate {folder}/stranger.crt.",
    ),
    "only TLS 1.1": ({"port": "old"}, "The broker at {address} offers no TLS that is safe enough, from 1.2 on."),
    "plain port": ({"port": "plain"}, "The broker does not speak TLS at {address}."),
}


@pytest.mark.parametrize("case", REFUSED)
@in_loop
async def test_whatever_is_wrong_is_refused_and_said(realm: Realm, case: str) -> None:
    given, sentence = REFUSED[case]
    url = realm.url(**given)
    error = await outcome(url)
    assert error is not None, "it connected"
    assert (error.code, error.exit_code) == ("tls", 3)
    names = {"folder": realm.folder, "host": realm.host, "address": url.address}
    assert error.message == sentence.format(**names)
    assert error.hint


@in_loop
async def test_an_amqp_url_for_a_tls_port_is_told_to_try_amqps(realm: Realm) -> None:
    error = await outcome(msgspec.structs.replace(realm.url("good"), tls=False))
    assert error is not None
    assert "amqps://" in error.message


@in_loop
async def test_a_certificate_that_is_away_for_a_moment_does_not_end_a_worker(realm: Realm) -> None:
    inbox = Inbox()
    url = realm.url("good", ca_file="renewed.pem")
    connection = Connection(url, role="test", notify=inbox.put)
    connection.start()
    down = await inbox.take(ConnectionDown)
    assert down.error.message.endswith("renewed.pem: No such file or directory.")
    assert down.retry_in_s is not None
    await connection.close()


def test_commands_a_worker_and_the_doctor_use_the_table_tls(realm: Realm, tmp_path: Path) -> None:
    shutil.copytree(realm.folder, tmp_path / "tls")
    files = {"ca_file": "tls/ca.pem", "cert_file": "tls/client.crt", "key_file": "tls/client.key"}
    lines = [f'{key} = "{value}"' for key, value in files.items()]
    (tmp_path / "jobrunner.toml").write_text("\n".join(["[tls]", *lines]))
    (tmp_path / "tasks.py").write_text("from jobrunner import job\n\n\n@job\ndef add(a, b):\n    return a + b\n")
    found = realm.broker.parsed
    address = f"{realm.host}:{realm.ports['demanding']}"
    url = f"amqps://{found.user}:{found.password}@{address}/{found.vhost}"
    commands = Commands(tmp_path, {"JOBRUNNER_URL": url})
    queue = f"tls-{realm.ports['demanding']}"
    job_id = commands.run("enqueue", "-q", queue, "tasks:add", "2", "3").stdout.strip()
    commands.run("worker", "--burst", "-p", "1", "-q", queue, "-A", "tasks")
    assert commands.run("result", job_id).stdout == "5\n"
    rows = [line.split("\t") for line in commands.run("doctor", code=None).stdout.splitlines()]
    seen = {row[1]: row[2:] for row in rows}
    assert seen["tls"][0] == "ok"
    assert seen["tls"][1].startswith("TLSv1.3, certificate until ")
    assert seen["login"][0] == "ok"

    refused = commands.run("list", code=3, env={"JOBRUNNER_TLS_CA_FILE": "tls/other.pem"})
    assert refused.stderr.startswith(
        "error: The broker's certificate comes from an authority that is not in tls/other.pem"
    )
    assert found.password not in refused.stderr
    missing = commands.run("list", code=2, env={"JOBRUNNER_TLS_CA_FILE": "none.pem"})
    assert missing.stderr.startswith("error: [tls] ca_file none.pem: No such file or directory.")


@pytest.fixture
def remote(broker: TestBroker) -> Iterator[Callable[..., BrokerUrl]]:
    """The broker as another machine sees it: `guest` exists, and may come from loopback only.

    RabbitMQ takes for loopback what reaches it at an address 127.0.0.0/8.
    """
    forbid = 'application:set_env(rabbit, loopback_users, [<<"guest">>])'
    port = probe.free_port()
    listen = f'rabbit_networking:start_tcp_listener({{"0.0.0.0", {port}}}, 2)'
    before = broker.ctl("eval", f"{{ok, Was}} = application:get_env(rabbit, loopback_users), {forbid}, {listen}, Was.")
    broker.ctl("add_user", "guest", "guest")

    def url(**parts: Any) -> BrokerUrl:
        host = broker.address if broker.address != "127.0.0.1" else own_address()
        guest = parse_url(f"amqp://guest:guest@{host}:{port}/{broker.parsed.vhost}")
        return msgspec.structs.replace(guest, **parts)

    yield url
    broker.ctl("delete_user", "guest")
    broker.ctl("eval", f"application:set_env(rabbit, loopback_users, {before.strip()}).")


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("192.0.2.1", 9))  # nothing is sent: it only chooses the way
        return str(one.getsockname()[0])


@in_loop
async def test_guest_from_another_machine_gets_a_sentence_of_its_own(
    broker: TestBroker, remote: Callable[..., BrokerUrl]
) -> None:
    error = await outcome(remote())
    assert error is not None
    assert error.code == "guest_remote"
    assert error.message == "The user 'guest' may only connect from the broker's own machine."
    ours = broker.parsed
    assert await outcome(remote(user=ours.user, password=ours.password)) is None  # others may
    wrong = await outcome(remote(user=ours.user, password="wrong"))
    assert wrong is not None
    assert wrong.code == "login_refused"
