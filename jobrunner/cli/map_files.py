"""What `map` writes besides its results: the log of jobs, and a folder for each input."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

import msgspec

from jobrunner.cli.enqueue_result import text_of
from jobrunner.errors import BadValue, JobrunnerError
from jobrunner.mapping.items import Ended
from jobrunner.mapping.recipe import Recipe

COLUMNS: Final = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")
"""Those of GNU parallel. Source: parallel(1), --joblog."""


@contextmanager
def opened_log(path: str, recipe: Recipe, *, appends: bool) -> Iterator["JobLog"]:
    """The log of jobs. appends: go on with a file that is there. Raises: BadValue."""
    try:
        file = open(path, "a" if appends else "w", encoding="utf-8", errors="replace", newline="\n")  # noqa: PTH123, SIM115
    except OSError as exc:
        raise BadValue(problem=f"Cannot write '{path}': {exc.strerror}.", hint="--joblog FILE") from exc
    with file:
        yield JobLog(file, recipe)


class JobLog:
    """A line for each input that has ended, as it ends."""

    def __init__(self, file: TextIO, recipe: Recipe) -> None:
        self._file = file
        self._recipe = recipe
        if not file.tell():
            file.write("\t".join(COLUMNS) + "\n")

    def write(self, ended: Ended) -> None:
        """Add a line. Send and Receive are bytes: none is sent, and what came is the output or the result."""
        row = (
            str(ended.seq),
            ended.host or "-",
            f"{ended.started_at or 0.0:.3f}",
            f"{ended.took_s or 0.0:10.3f}",
            "0",
            str(ended.stdout.total_bytes if ended.stdout else len(bytes(ended.result or b""))),
            str(_exit_value(ended)),
            str(_signal_number(ended)),
            self._shown(ended),
        )
        self._file.write("\t".join(row) + "\n")

    def _shown(self, ended: Ended) -> str:
        try:
            shown = self._recipe.shown_for(ended.given, ended.seq)
        except JobrunnerError:  # no job could be made of it
            shown = self._recipe.shown
        return shown.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")

    def flush(self) -> None:
        """Pass on what was written."""
        self._file.flush()


def _exit_value(ended: Ended) -> int:
    if ended.state == "succeeded":
        return 0
    if ended.error is not None and ended.error.exit is not None:
        return ended.error.exit
    return 1 if ended.state == "dead" else -1


def _signal_number(ended: Ended) -> int:
    name = ended.error.signal if ended.error is not None else None
    return int(getattr(signal, name, 0)) if name else 0


class Results:
    """`DIR/<seq>/` for each input: `input`; of a command `stdout`, `stderr`, of a function `result.json`; `error`."""

    def __init__(self, folder: str, *, is_command: bool) -> None:
        self._folder = Path(folder)
        self._is_command = is_command
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BadValue(problem=f"Cannot make '{folder}': {exc.strerror}.", hint="--results DIR") from exc

    def write(self, ended: Ended) -> None:
        """Write the files of one input; those of an earlier try are replaced. Raises: BadValue."""
        folder = self._folder / str(ended.seq)
        files = {"input": ended.text}
        if self._is_command:
            files |= {"stdout": _stdout(ended), "stderr": text_of(ended.stderr)}
        elif ended.state == "succeeded":
            files["result.json"] = bytes(ended.result or b"null").decode() + "\n"
        if ended.state != "succeeded":
            files["error"] = f"{ended.state}: {ended.error.headline}\n" if ended.error else f"{ended.state}\n"
        try:
            folder.mkdir(exist_ok=True)
            for name in ("stdout", "stderr", "result.json", "error"):
                if name not in files:
                    (folder / name).unlink(missing_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8", errors="replace", newline="")
        except OSError as exc:
            place = os.fspath(folder)
            raise BadValue(problem=f"Cannot write to '{place}': {exc.strerror}.", hint="--results DIR") from exc


def _stdout(ended: Ended) -> str:
    return output_of(ended) if ended.state == "succeeded" else text_of(ended.stdout)


def output_of(ended: Ended) -> str:
    """The stdout of a command that succeeded."""
    value = msgspec.json.decode(ended.result or b"null")
    return value if isinstance(value, str) else text_of(ended.stdout)
