"""Where the broker is and how jobrunner was told: URLs, configuration files, environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import msgspec

from jobrunner.configfile import TLS_KEYS, Files
from jobrunner.durations import parse_duration
from jobrunner.errors import BadDuration, ConfigInvalid, OptionsClash, UrlInvalid, UrlNotAmqp
from jobrunner.statedir import local_broker_url
from jobrunner.urltext import split_url

if TYPE_CHECKING:
    from jobrunner.keyring import KeyRing

DEFAULT_URL: Final = "amqp://guest:guest@localhost:5672/%2F"
DEFAULT_CONNECT_TIMEOUT_S: Final = 10.0
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


@dataclass(frozen=True)
class Flags:
    """What was typed, before any other source. None: not typed.

    profile_typed: whether the profile in force was typed too; then its URL goes before the environment's.
    """

    url: str | None = None
    profile_typed: bool = False
    connect_timeout_s: float | None = None
    authkey_file: str | None = None


@dataclass(frozen=True)
class Settings:
    """Where the broker is and how long to wait for it.

    connect_timeout_s: for connecting, and for a confirm. connect_timeout_origin: where that came from.
    """

    url: BrokerUrl
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    connect_timeout_origin: str = "default"
    profile: str | None = None


def load(flags: Flags, environ: Mapping[str, str], files: Files) -> Settings:
    """Flag, else environment, else files, else a running local broker, else the default.

    Raises: UrlInvalid, UrlNotAmqp, OptionsClash, ConfigInvalid, KeyInvalid, KeyFileOpen.
    """
    text, origin = _find_url(flags, environ, files)
    timeout_s, timeout_origin = _find_timeout(flags, files)
    url = parse_url(text, origin)
    route, _ = route_of(environ, files)
    if route != url.route:
        url = msgspec.structs.replace(url, route=route)
    if url.tls:
        url = msgspec.structs.replace(url, **{key: value for key, (value, _) in tls_of(environ, files).items()})
    if (ring := _find_ring(flags, environ, files)) is not None:
        url = msgspec.structs.replace(url, ring=ring)
    return Settings(url=url, connect_timeout_s=timeout_s, connect_timeout_origin=timeout_origin, profile=files.profile)


def tls_of(environ: Mapping[str, str], files: Files) -> dict[str, tuple[str, str]]:
    """The keys of `[tls]` in force, each with where it came from: `JOBRUNNER_TLS_CA_FILE` and so on go before files."""
    found = {key: (value, "[tls]") for key, value in files.tls().items()}
    for key in TLS_KEYS:
        variable = f"JOBRUNNER_TLS_{key.upper()}"
        if value := environ.get(variable):
            found[key] = (value, variable)
    return found


def route_of(environ: Mapping[str, str], files: Files) -> tuple[str, str]:
    """`route` of `[broker]` in force and where it came from. Raises: ConfigInvalid for one that does not exist."""
    value, origin = "queues", "default"
    if found := files.setting("broker", "route"):
        value, origin = found[0], found[1].place("broker", "route")
    if named := environ.get("JOBRUNNER_BROKER_ROUTE"):
        value, origin = named, "JOBRUNNER_BROKER_ROUTE"
    if value not in ROUTES:
        raise ConfigInvalid(problem=f"{origin}: route is 'queues' or 'jobs', not '{value}'.", hint='route = "jobs"')
    return value, origin


def _find_url(flags: Flags, environ: Mapping[str, str], files: Files) -> tuple[str, str]:
    """The URL's text and its origin."""
    if flags.url:
        return flags.url, "--url"
    in_files = _url_in_files(files)
    if flags.profile_typed and in_files and in_files[2]:
        return in_files[0], in_files[1]
    from_env, from_file = environ.get("JOBRUNNER_URL"), environ.get("JOBRUNNER_URL_FILE")
    if from_env and from_file:
        raise OptionsClash(problem="JOBRUNNER_URL and JOBRUNNER_URL_FILE both name a broker.", hint="unset one")
    if from_env:
        return from_env, "JOBRUNNER_URL"
    if from_file:
        return _read_secret(Path(from_file), "JOBRUNNER_URL_FILE"), "JOBRUNNER_URL_FILE"
    if in_files:
        return in_files[0], in_files[1]
    if local := local_broker_url():
        return local, LOCAL_BROKER
    return DEFAULT_URL, "default"


def _url_in_files(files: Files) -> tuple[str, str, bool] | None:
    """Text, origin, and whether a profile named it. One layer may not hold both keys."""
    for layer in files.layers:
        url, url_file = layer.values.get("url"), layer.values.get("url_file")
        if url and url_file:
            raise OptionsClash(problem=f"{layer.place('url')}: url and url_file both name a broker.")
        if url:
            return str(url), layer.place("url"), layer.is_profile
        if url_file:
            place = layer.place("url_file")
            return _read_secret(layer.path.parent / str(url_file), place), place, layer.is_profile
    return None


def _read_secret(path: Path, origin: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigInvalid(problem=f"{path}: {reason} (from {origin}).") from exc


def _find_ring(flags: Flags, environ: Mapping[str, str], files: Files) -> "KeyRing | None":
    found = files.get("authkey_file")
    in_files = (found[1].path.parent / str(found[0]), found[1].place("authkey_file")) if found else None
    if not (in_files or flags.authkey_file or any(map(environ.get, ("JOBRUNNER_AUTHKEY_FILE", "JOBRUNNER_AUTHKEY")))):
        return None
    from jobrunner.keyring import find_ring

    return find_ring(flags.authkey_file, environ, in_files)


def _find_timeout(flags: Flags, files: Files) -> tuple[float, str]:
    if flags.connect_timeout_s is not None:
        return flags.connect_timeout_s, "--connect-timeout"
    found = files.get("connect_timeout")
    if found is None:
        return DEFAULT_CONNECT_TIMEOUT_S, "default"
    value, layer = found
    place = layer.place("connect_timeout")
    try:
        if seconds := parse_duration(str(value)):
            return seconds, place
        raise BadDuration(value=str(value))
    except BadDuration as exc:
        raise ConfigInvalid(problem=f"{place}: connect_timeout: {exc.message}", hint=exc.hint) from exc
