"""Where a broker is and how one gets in: an AMQP URL, taken apart, with all that goes along with it."""

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import msgspec

from jobrunner.errors import UrlInvalid, UrlNotAmqp
from jobrunner.urltext import split_url

if TYPE_CHECKING:
    from jobrunner.keyring import KeyRing

LOCAL_BROKER: Final = "local broker"
"""The origin of the URL of this user's own private broker."""

ROUTES: Final = ("queues", "jobs")
"""How a program publishes jobs: straight to their queues by name, or through the exchange `jobrunner.v1.jobs`."""

_LOOPBACK = ("localhost", "::1")
_WEB_PORTS = {15672, 15671}


class BrokerUrl(msgspec.Struct, frozen=True, kw_only=True):
    """An AMQP URL, taken apart. Its `repr` and `masked` never show the password.

    origin: where it came from, for messages: `--url`, `JOBRUNNER_URL`, a file, `local broker`, `default`.
    ca_file, cert_file, key_file, server_name: the `[tls]` table; None takes the system's authorities, no certificate of
    our own, and the host's name.
    route: one of `ROUTES`. `jobs` is for users who may not publish to queues by name.
    others: host and port of the other nodes of a cluster.
    ring: the keys with which everything that goes there is signed, and all that comes from there is verified; None:
    nothing is.
    """

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: bool = False
    origin: str = "--url"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    route: str = "queues"
    others: tuple[tuple[str, int], ...] = ()
    ring: "KeyRing | None" = None

    @property
    def address(self) -> str:
        """host:port; of a cluster each node's, with commas between."""
        return ",".join(f"{host}:{port}" for host, port in ((self.host, self.port), *self.others))

    @property
    def nodes(self) -> tuple["BrokerUrl", ...]:
        """A URL for each node."""
        places = dict.fromkeys(((self.host, self.port), *self.others))
        return tuple(msgspec.structs.replace(self, host=host, port=port, others=()) for host, port in places)

    @property
    def is_loopback(self) -> bool:
        """Whether the broker is on this machine: localhost, 127.0.0.0/8 or ::1; of a cluster, every node."""
        hosts = (self.host, *(host for host, _ in self.others))
        return all(host in _LOOPBACK or _is_127(host) for host in hosts)

    @property
    def is_local_broker(self) -> bool:
        """Whether it is this user's own private broker, found through the state folder."""
        return self.origin == LOCAL_BROKER

    @property
    def masked(self) -> str:
        """The URL for people: no password, and no user when it is `guest`'s or a local broker's own."""
        scheme = "amqps" if self.tls else "amqp"
        user = "" if self.user == "guest" or self.is_local_broker else f"{self.user}@"
        vhost = "%2F" if self.vhost == "/" else self.vhost
        return f"{scheme}://{user}{self.address}/{vhost}"

    def variables(self) -> dict[str, str]:
        """With these, and what is in our environment, another process finds this broker and its keys. Secret."""
        tls = {"CA_FILE": self.ca_file, "CERT_FILE": self.cert_file, "KEY_FILE": self.key_file}
        tls["SERVER_NAME"] = self.server_name
        found = {f"JOBRUNNER_TLS_{name}": value for name, value in tls.items() if value is not None}
        if not self.origin.startswith("JOBRUNNER_URL"):
            found["JOBRUNNER_URL"] = self._text()
        if self.ring is not None and self.ring.path is not None:
            found["JOBRUNNER_AUTHKEY_FILE"] = str(self.ring.path.absolute())
        return found

    def _text(self) -> str:
        places = ((self.host, self.port), *self.others)
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places)
        user, password, vhost = (quote(part, safe="") for part in (self.user, self.password, self.vhost))
        return f"amqp{'s' if self.tls else ''}://{user}:{password}@{hosts}/{vhost}"

    def __repr__(self) -> str:
        return f"<BrokerUrl {self.masked}>"


def _is_127(host: str) -> bool:
    """An address, not a name: 127.0.0.1.example.org may be anywhere."""
    return host.startswith("127.") and host.isascii() and host.replace(".", "").isdecimal()


def parse_url(text: str, origin: str = "--url") -> BrokerUrl:
    """The parts of an AMQP URI, which may name several hosts, with commas between: the nodes of a cluster.

    Raises: UrlNotAmqp, UrlInvalid.
    """
    scheme, mark, rest = text.strip().partition("://")
    netloc, slash, path = rest.partition("/")
    user, at, hosts = netloc.rpartition("@")
    first, *more = hosts.split(",")
    url = _parse_one(f"{scheme}{mark}{user}{at}{first}{slash}{path}", origin)
    if not more:
        return url
    others = [_parse_one(f"{scheme}{mark}{host}", origin) for host in more]
    return msgspec.structs.replace(url, others=tuple((other.host, other.port) for other in others))


def _parse_one(text: str, origin: str) -> BrokerUrl:
    """Of one host.

    Source: RabbitMQ docs "AMQP 0-9-1 URI Specification": no path is the vhost `/`, percent-encoding in every part.
    Raises: UrlNotAmqp, UrlInvalid.
    """
    parts = split_url(text.strip())
    try:
        port = parts.port
    except ValueError as exc:
        shown = parts.netloc.rpartition(":")[2]
        problem = "is out of range 0-65535" if shown.isdigit() else "is not a number"
        raise UrlInvalid(reason=f"port '{shown}' {problem}") from exc
    if parts.scheme in ("http", "https") or port in _WEB_PORTS:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise UrlNotAmqp(url=shown, suggestion=f"amqp://{parts.hostname or 'localhost'}:5672/%2F")
    if parts.scheme not in ("amqp", "amqps"):
        what = f"'{parts.scheme}' is no scheme of it" if parts.scheme else "it does not begin with amqp:// or amqps://"
        raise UrlInvalid(reason=what)
    if not parts.hostname:
        raise UrlInvalid(reason="it names no host")
    if parts.path.count("/") > 1:
        raise UrlInvalid(reason=f"the virtual host '{parts.path[1:]}' holds a '/'; write it as %2F")
    tls = parts.scheme == "amqps"
    return BrokerUrl(
        host=parts.hostname,
        port=port or (5671 if tls else 5672),
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        vhost=unquote(parts.path[1:]) if len(parts.path) > 1 else "/",
        tls=tls,
        origin=origin,
    )
