"""Where the broker is and how jobrunner was told: URLs, configuration files, environment."""

from urllib.parse import unquote, urlsplit

import msgspec

from jobrunner.errors import UrlInvalid, UrlNotAmqp

_LOOPBACK = ("localhost", "::1")
_WEB_PORTS = {15672, 15671}


class BrokerUrl(msgspec.Struct, frozen=True, kw_only=True):
    """An AMQP URL, taken apart. Its `repr` and `masked` never show the password.

    origin: where it came from, for messages: `--url`, `JOBRUNNER_URL`, a file, `local broker`, `default`.
    """

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: bool = False
    origin: str = "--url"

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the broker is on this machine: localhost, 127.0.0.0/8 or ::1."""
        return self.host in _LOOPBACK or self.host.startswith("127.")

    @property
    def masked(self) -> str:
        """The URL for people: no password, and no user when it is `guest`'s or a local broker's own."""
        scheme = "amqps" if self.tls else "amqp"
        user = "" if self.user == "guest" or self.origin == "local broker" else f"{self.user}@"
        vhost = "%2F" if self.vhost == "/" else self.vhost
        return f"{scheme}://{user}{self.address}/{vhost}"

    def __repr__(self) -> str:
        return f"<BrokerUrl {self.masked}>"


def parse_url(text: str, origin: str = "--url") -> BrokerUrl:
    """The parts of an AMQP URI.

    Source: RabbitMQ docs "AMQP 0-9-1 URI Specification": no path is the vhost `/`, percent-encoding in every part.
    Raises: UrlNotAmqp, UrlInvalid.
    """
    try:
        parts = urlsplit(text.strip())
    except ValueError as exc:
        raise UrlInvalid(reason=str(exc)) from exc
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
