"""What the commands about the private broker write: its line, its progress, its log."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jobrunner.cli import out
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.local.lifecycle import Progress, StartOptions
    from jobrunner.statedir import LocalBroker

NONE_RUNS = "No private broker runs here."


def start_showing_progress(shared: Shared, options: "StartOptions") -> "LocalBroker":
    """Start it, with one line on stderr that is redrawn on a terminal. Raises: as `lifecycle.start`."""
    from jobrunner.local import lifecycle

    line = ProgressLine(sys.stderr, silent=shared.quiet or shared.json)
    try:
        return lifecycle.start(options, line.draw)
    finally:
        line.clear()


def warn_of_ignored(shared: Shared, found: "LocalBroker", options: "StartOptions") -> None:
    """Name the options that ask for another broker than the one that ran already."""
    folder = None if options.data_dir is None else str(options.data_dir.resolve())
    asked = {
        "--port": (options.port, found.port),
        "--engine": (None if options.engine == "auto" else options.engine, found.engine),
        "--data": (folder, str(Path(found.data_dir).resolve())),
    }
    ignored = [name for name, (wanted, has) in asked.items() if wanted not in (None, has)]
    if ignored:
        shared.warn(f"It ran already, without {' and '.join(ignored)}.  To start it anew:  jobrunner broker stop")


def which(found: "LocalBroker") -> str:
    """Version and process, for sentences."""
    return f"RabbitMQ {found.version}, " + (f"container {found.container}" if found.container else f"pid {found.pid}")


def _url(found: "LocalBroker", *, secrets: bool) -> str:
    from jobrunner.brokerurl import parse_url

    return found.url if secrets else parse_url(found.url, origin="local broker").masked


def facts(found: "LocalBroker", *, secrets: bool = False) -> dict[str, Any]:
    """Its JSON document. secrets: with the password in the URL."""
    return {
        "running": True,
        "url": _url(found, secrets=secrets),
        "pid": found.pid,
        "container": found.container,
        "version": found.version,
        "engine": found.engine,
        "port": found.port,
        "data_dir": found.data_dir,
        "started_in_s": found.started_in_s,
    }


def show(shared: Shared, found: "LocalBroker", *, secrets: bool = False) -> None:
    """Its line on stdout."""
    url = _url(found, secrets=secrets)
    if shared.json:
        out.emit_json(facts(found, secrets=secrets))
    elif shared.quiet:
        out.emit(url)
    else:
        process = f"container {found.container}" if found.container else f"pid {found.pid}"
        out.emit(f"{shared.mark('✓')} RabbitMQ {found.version}  {url}  {process}")


def show_none(shared: Shared) -> None:
    """That none runs."""
    if shared.json:
        out.emit_json({"running": False})
    elif not shared.quiet:
        out.emit(NONE_RUNS)
        shared.talk("  Start one:  jobrunner broker start")


class ProgressLine:
    """`starting RabbitMQ 3.10.8 … 4 s of about 8`, redrawn on a terminal, else written once."""

    def __init__(self, stream: TextIO, *, silent: bool) -> None:
        self._stream = stream
        self._redraws = stream.isatty()
        self._shown = ""
        self._silent = silent

    def draw(self, progress: "Progress") -> None:
        """Bring it up to date."""
        about = round(progress.expected_s)
        if self._redraws:
            text = f"starting {progress.product} … {int(progress.elapsed_s)} s of about {about}"
        else:
            text = f"starting {progress.product} … about {about} s"
        if self._silent or text == self._shown or (self._shown and not self._redraws):
            return
        self._shown = text
        text = out.plain(text, self._stream)
        self._stream.write(f"\r{text}\x1b[K" if self._redraws else f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Leave the terminal's line empty for what comes next."""
        if self._shown and self._redraws:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class Follower:
    """Copies what is added to some log files."""

    def __init__(self, stream: TextIO, paths: list[Path], *, quiet: bool) -> None:
        self._stream = stream
        self._seen = {path: path.stat().st_size if path.exists() else 0 for path in paths}
        self._quiet = quiet

    def show_new(self, _progress: object = None) -> None:
        """Copy what has been added since the last call."""
        for path, seen in self._seen.items():
            try:
                with path.open("rb") as file:
                    file.seek(seen if path.stat().st_size >= seen else 0)  # smaller: rotated, or made anew
                    added = file.read()
                    self._seen[path] = file.tell()
            except OSError:  # not there yet
                continue
            if added and not self._quiet:
                self._stream.write(out.printable(added.decode(errors="replace"), keep="\n\t"))
                self._stream.flush()
