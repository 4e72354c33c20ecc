"""The way to the broker, stage by stage: name, port, TLS, login. Each stage tells more than the next one's failure."""

import asyncio
import socket
import ssl
import time
from typing import Final

import msgspec

from jobrunner.broker import tls
from jobrunner.broker.connection import Connection
from jobrunner.broker.explain import explain
from jobrunner.brokerurl import BrokerUrl
from jobrunner.config import Settings
from jobrunner.doctor.check import GIVE_RIGHTS, Check, of_error, ok, unknown, warning
from jobrunner.errors import GuestRemote, JobrunnerError, LoginRefused, TlsRefused

SOON_S: Final = 14 * 86_400.0
"""A certificate that expires sooner is told of."""

FIXES: Final = {
    "login_refused": "rabbitmqctl authenticate_user {user}  (asks for the password) · rabbitmqctl list_users",
    "guest_remote": "rabbitmqctl add_user app · rabbitmqctl set_permissions -p {vhost} app '.*' '.*' '.*'",
    "vhost_refused": GIVE_RIGHTS,
}


async def to_nodes(settings: Settings) -> list[Check]:
    """Name, port and TLS of each node, up to what fails. In a cluster one that can be reached is enough: then what
    fails at others is a warning.
    """
    ways = []
    for node in settings.url.nodes:
        way, found = Way(node, settings.connect_timeout_s), []
        for stage in (way.name, way.port, way.tls):
            found.append(await stage())
            if found[-1].level == "error":
                break
        ways.append(found)
    is_open = any(found[-1].level != "error" for found in ways)
    return [
        msgspec.structs.replace(check, level="warning") if is_open and check.level == "error" else check
        for found in ways
        for check in found
    ]


async def login(settings: Settings) -> tuple[Check, Connection | None]:
    """User, password and virtual host: the four causes of a refusal, each with its own fix; and the connection."""
    url = settings.url
    connection = Connection(url, role="doctor", notify=lambda _: None, connect_timeout_s=settings.connect_timeout_s)
    try:
        await connection.connect_once()
    except JobrunnerError as exc:
        fix = FIXES.get(exc.code, exc.hint).format(user=url.user, vhost=url.vhost)
        if isinstance(exc, LoginRefused | GuestRemote):
            fix += f" · the URL is from {url.origin}"
        return Check(name="login", level="error", text=exc.message, fix=fix or None, code=exc.code), None
    at = f" at {connection.url.address}" if url.others else ""
    return ok("login", f"user '{url.user}' in virtual host '{url.vhost}'{at}"), connection


class Way:
    """The way to one node."""

    def __init__(self, url: BrokerUrl, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s

    async def name(self) -> Check:
        """Its addresses."""
        url = self._url
        try:
            async with asyncio.timeout(self._timeout_s):
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as exc:
            return of_error("name", explain(exc, url, self._timeout_s))
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        return ok("name", f"{url.host} (from {url.origin}) is {', '.join(addresses[:4])}")

    async def port(self) -> Check:
        """Whether something listens there."""
        url, began = self._url, time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, writer = await asyncio.open_connection(url.host, url.port)
        except (OSError, TimeoutError) as exc:
            return of_error("port", explain(exc, url, self._timeout_s))
        writer.transport.abort()
        return ok("port", f"{url.address} answers in {(time.monotonic() - began) * 1000:.0f} ms")

    async def tls(self) -> Check:
        """The handshake, or what it means that there is none."""
        url = self._url
        if not url.tls:
            if url.is_loopback:
                return ok("tls", "not used; the broker is on this machine")
            fix = "amqps:// · [tls] ca_file, if its certificate is not of a public authority"
            return warning("tls", f"passwords and jobs cross the network to {url.host} in the clear", fix)
        try:
            async with asyncio.timeout(self._timeout_s):
                name = url.server_name or url.host
                _, writer = await asyncio.open_connection(
                    url.host, url.port, ssl=tls.context_of(url), server_hostname=name
                )
        except TlsRefused as exc:
            return of_error("tls", exc)
        except JobrunnerError as exc:
            return of_error("tls", exc)
        except (OSError, TimeoutError) as exc:
            found = explain(exc, url, self._timeout_s)
            return of_error("tls", await tls.named(found, url) if isinstance(found, TlsRefused) else found)
        try:
            return _certificate(writer)
        finally:
            writer.transport.abort()


def _certificate(writer: asyncio.StreamWriter) -> Check:
    version = writer.get_extra_info("ssl_object").version()
    ends = (writer.get_extra_info("peercert") or {}).get("notAfter")
    if ends is None:
        return unknown("tls", f"{version}; until when its certificate holds is not known")
    left_s = ssl.cert_time_to_seconds(ends) - time.time()
    text = f"{version}, certificate until {ends}"
    if left_s < SOON_S:
        return warning("tls", f"{text}: {max(0, int(left_s // 86_400))} days left", "a new certificate for the broker")
    return ok("tls", text)


def skipped(names: list[str], why: str) -> Check:
    """What could not be looked at."""
    return unknown("rest", f"not looked at, because {why}: {', '.join(names)}")
