"""Configuration files: the project's, the user's, and the profiles in them; where each value stands.

Nothing here knows what a value means: URLs are `config`'s, options the command line's.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from jobrunner.errors import ConfigInvalid

PROJECT_FILE: Final = "jobrunner.toml"
TOP_KEYS: Final = ("url", "url_file", "authkey_file", "profile", "connect_timeout")
TLS_KEYS: Final = ("ca_file", "cert_file", "key_file", "server_name")
BESIDES: Final = {"broker": ("route",)}
"""Keys of tables that are no options of their command: what holds for the connection to the broker."""

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?")
_AT_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)")
_PARTS_OF_A_KEY = re.compile(r'"[^"]*"|\'[^\']*\'|[^.\s]+')


@dataclass(frozen=True)
class Layer:
    """One table that may hold top-level keys: a file's own, or that of a profile in it.

    inside: the tables that lead to it, such as ("tool", "jobrunner") or ("profiles", "prod").
    """

    path: Path
    text: str
    inside: tuple[str, ...]
    values: dict[str, Any]
    is_profile: bool = False

    def place(self, *keys: str) -> str:
        """`FILE:LINE` of a key, the file as seen from the current folder."""
        return f"{_shown(self.path)}:{line_of(self.text, (*self.inside, *keys))}"


@dataclass(frozen=True)
class Files:
    """The layers in force, strongest first, and where files were looked for.

    profile: the name in force, or None. paths: (file, whether it was read).
    """

    layers: tuple[Layer, ...] = ()
    profile: str | None = None
    paths: tuple[tuple[Path, bool], ...] = ()

    def get(self, key: str) -> tuple[Any, Layer] | None:
        """A top-level value and the layer it stands in, or None."""
        return next(((layer.values[key], layer) for layer in self.layers if key in layer.values), None)

    def tls(self) -> dict[str, str]:
        """The `[tls]` table in force; a relative path is one beside the file it stands in."""
        merged: dict[str, str] = {}
        for layer in self.layers:
            for key, value in layer.values.get("tls", {}).items():
                merged.setdefault(key, value if key == "server_name" else str(layer.path.parent / value))
        return merged

    def table(self, section: str, known: Collection[str]) -> dict[str, Any]:
        """A command's table, put together from all layers. Raises: ConfigInvalid for a key not in `known`."""
        merged: dict[str, Any] = {}
        for layer in self.layers:
            values = layer.values.get(section, {})
            if not isinstance(values, dict):
                raise ConfigInvalid(problem=f"{layer.place(section)}: [{section}] is not a table.")
            for key, value in values.items():
                if key in BESIDES.get(section, ()):
                    continue
                if key not in known:
                    raise _unknown(layer, (section,), key, [*known, *BESIDES.get(section, ())])
                merged.setdefault(key, value)
        return merged

    def setting(self, section: str, key: str) -> tuple[Any, Layer] | None:
        """A value of a table and the layer it stands in, or None. Raises: ConfigInvalid for what is no table."""
        for layer in self.layers:
            table = layer.values.get(section, {})
            if not isinstance(table, dict):
                raise ConfigInvalid(problem=f"{layer.place(section)}: [{section}] is not a table.")
            if key in table:
                return table[key], layer
        return None

    def profiles(self) -> list[str]:
        """The profiles that the files have, each with its broker's host where a URL says it: `prod (rabbit.prod)`."""
        hosts: dict[str, str] = {}
        for layer in self.layers:
            for name, values in layer.values.get("profiles", {}).items():
                url = str(values.get("url", "")) if isinstance(values, dict) else ""
                hosts.setdefault(name, url.partition("//")[2].rpartition("@")[2].partition("/")[0])
        return [f"{name} ({host})" if host else name for name, host in sorted(hosts.items())]

    def place(self, section: str, key: str) -> str:
        """`FILE:LINE` of a command's key that `table` gave."""
        layer = next(layer for layer in self.layers if key in layer.values.get(section, {}))
        return layer.place(section, key)


def find(folder: Path, *, explicit: str | None, profile: str | None, sections: Collection[str] | None) -> Files:
    """Read the files that hold for `folder`.

    explicit: this file instead of the project's. profile: as typed or from the environment; else the files' own key
    `profile`. sections: names of the tables that commands may have; None: whatever they are. Raises: ConfigInvalid.
    """
    project = _read(Path(explicit), required=True) if explicit else _nearest_project(folder)
    user_path = user_file()
    user = _read(user_path, required=False)
    bases = [layer for layer in (project, user) if layer is not None]
    for layer in bases:
        _check(layer, sections)
    name = profile or next((str(layer.values["profile"]) for layer in bases if "profile" in layer.values), None)
    paths = [(layer.path, True) for layer in bases]
    if user is None:
        paths.append((user_path, False))
    profiles = _profile_layers(bases, name, sections) if name else []
    return Files(layers=(*profiles, *bases), profile=name, paths=tuple(paths))


def user_file() -> Path:
    """The user's own file, such as `~/.config/jobrunner/config.toml`."""
    from platformdirs import user_config_path

    return user_config_path("jobrunner") / "config.toml"


def _nearest_project(folder: Path) -> Layer | None:
    for place in (folder, *folder.parents):
        if (found := _read(place / PROJECT_FILE, required=False)) is not None:
            return found
        if (found := _read(place / "pyproject.toml", required=False, inside=("tool", "jobrunner"))) is not None:
            return found
    return None


def _read(path: Path, *, required: bool, inside: tuple[str, ...] = ()) -> Layer | None:
    """The layer of a file; None if there is no such file, or no such table in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        if required:
            raise ConfigInvalid(problem=f"{_shown(path)}: no such file.") from exc
        return None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigInvalid(problem=f"{_shown(path)}: {reason}.") from exc
    if inside and ".".join(inside) not in text:
        return None
    import tomllib

    try:
        values: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message = str(exc)
        line = found[1] if (found := _AT_LINE.search(message)) else text.count("\n") + 1
        raise ConfigInvalid(problem=f"{_shown(path)}:{line}: not TOML: {_AT_LINE.sub('', message)}.") from exc
    for name in inside:
        values = values.get(name)
        if not isinstance(values, dict):
            return None
    return Layer(path=path, text=text, inside=inside, values=values)


def _profile_layers(bases: list[Layer], name: str, sections: Collection[str] | None) -> list[Layer]:
    names = {key for layer in bases for key in layer.values.get("profiles", {})}
    if name not in names:
        near = get_close_matches(name, names, n=1)
        suggestion = f" Did you mean '{near[0]}'?" if near else ""
        hint = f"Profiles: {', '.join(sorted(names))}" if names else "[profiles.NAME] in jobrunner.toml"
        raise ConfigInvalid(problem=f"There is no profile '{name}'.{suggestion}", hint=hint)
    layers = []
    for base in bases:
        values = base.values.get("profiles", {}).get(name)
        if values is None:
            continue
        inside = (*base.inside, "profiles", name)
        layer = Layer(path=base.path, text=base.text, inside=inside, values=values, is_profile=True)
        _check(layer, sections)
        layers.append(layer)
    return layers


def _check(layer: Layer, sections: Collection[str] | None) -> None:
    known = [*TOP_KEYS, *(sections or ()), "tls"] + ([] if layer.is_profile else ["profiles"])
    for key, value in layer.values.items():
        if key not in known and not (sections is None and isinstance(value, dict)):
            raise _unknown(layer, (), key, known)
        if key in ("url", "url_file", "authkey_file", "profile") and not isinstance(value, str):
            raise ConfigInvalid(problem=f"{layer.place(key)}: {key} is not text.")
        if key in ("tls", "profiles") and not isinstance(value, dict):
            raise ConfigInvalid(problem=f"{layer.place(key)}: [{key}] is not a table.")
    for key, value in layer.values.get("tls", {}).items():
        if key not in TLS_KEYS:
            raise _unknown(layer, ("tls",), key, TLS_KEYS)
        if not isinstance(value, str):
            raise ConfigInvalid(problem=f"{layer.place('tls', key)}: {key} is not text.")


def _unknown(layer: Layer, section: tuple[str, ...], key: str, known: Collection[str]) -> ConfigInvalid:
    near = get_close_matches(key, known, n=1)
    where = f" in [{'.'.join(section)}]" if section else ""
    suggestion = f" Did you mean '{near[0]}'?" if near else ""
    if len(known) <= 8 and not near:
        suggestion = f" Known: {', '.join(sorted(known))}"
    return ConfigInvalid(problem=f"{layer.place(*section, key)}: unknown key '{key}'{where}.{suggestion}")


def line_of(text: str, keys: tuple[str, ...]) -> int:
    """The line, from 1, on which a key is set; its table's, or 1, when it is written in a way not looked for."""
    table: tuple[str, ...] = ()
    best = 1
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            table = _split(header[1])
            if table == keys:
                return number
            if keys[: len(table)] == table:
                best = number
            continue
        name, equals, _ = line.partition("=")
        if equals and (*table, *_split(name)) == keys:
            return number
    return best


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PARTS_OF_A_KEY.findall(dotted))


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
