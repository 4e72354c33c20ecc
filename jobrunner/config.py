"""How jobrunner was told where the broker is: options, environment, configuration files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from jobrunner.brokerurl import LOCAL_BROKER, ROUTES, BrokerUrl, parse_url
from jobrunner.configfile import TLS_KEYS, Files
from jobrunner.durations import parse_duration
from jobrunner.errors import BadDuration, ConfigInvalid, OptionsClash
from jobrunner.statedir import local_broker_url

if TYPE_CHECKING:
    from jobrunner.keyring import KeyRing

DEFAULT_URL: Final = "amqp://guest:guest@localhost:5672/%2F"
DEFAULT_CONNECT_TIMEOUT_S: Final = 10.0


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
