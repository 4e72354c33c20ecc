"""The command as people run it: in a process of its own, with or without a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import COMMAND, ROOT
from tests.support.eventually import eventually

LIMIT_S = 90.0
CTRL_C = "\x03"
READING = re.compile(r"(\rreading the ledger[^\r\n]*\x1b\[K)+\r\x1b\[K")


class Home:
    """A folder with an environment of its own: no configuration, no state, no variable of ours but what is given."""

    def __init__(self, folder: Path, url: str | None = None, tasks: str | None = None) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBRUNNER_", "XDG_"))}
        self.environ = kept | {
            "HOME": str(folder),
            "JOBRUNNER_STATE_DIR": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm",
            "COLUMNS": "100",
        }
        for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
            self.environ.pop(name, None)
        if url is not None:
            self.environ["JOBRUNNER_URL"] = url
        if tasks is not None:
            (folder / "tasks.py").write_text(tasks)

    def run(
        self, *args: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command, piped, to its end."""
        done = subprocess.run(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.environ | dict(environ or {}),
            input=stdin,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def enqueue(self, *args: str) -> str:
        """The id of a new job; with `--wait` its result."""
        done = self.run("enqueue", *args)
        assert done.returncode == 0, done
        return done.stdout.strip()

    def state_of(self, job_id: str) -> str:
        """The state of a job."""
        return str(json.loads(self.run("show", job_id, "--json").stdout)["state"])

    @contextmanager
    def started(self, *args: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The command in the background, its output in `out.txt` and `err.txt` of the folder; killed at the end."""
        with (self.folder / "out.txt").open("wb") as out, (self.folder / "err.txt").open("wb") as err:
            process = subprocess.Popen(
                [*COMMAND, *args], cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def piped(self, *args: str, stdin: int = subprocess.DEVNULL) -> Iterator["subprocess.Popen[str]"]:
        """The command in the background, with pipes for its streams; killed at the end."""
        with subprocess.Popen(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def worker(self, *args: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker that is ready; its log is `err.txt`."""
        with self.started("worker", "--procs", "2", "--grace", "5s", *args) as process:
            eventually(lambda: self.has_logged("worker.started"), timeout_s=60)
            yield process
            process.terminate()
            process.wait(LIMIT_S)

    def has_logged(self, words: str) -> None:
        """Assert that the background command has written this to stderr."""
        assert words in self.log()

    def log(self) -> str:
        """What the background command has written to stderr."""
        return (self.folder / "err.txt").read_text()

    def on_terminal(
        self,
        *args: str,
        until: Callable[[str], bool] | None = None,
        typed: str = CTRL_C,
        environ: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Run the command on a terminal of 100 columns: its exit code and what stays there, lines ended by LF.

        A slow machine draws how far the view has read; that line is wiped again.

        until: given what it has written so far, whether that is enough; then this is typed.
        """
        primary, secondary = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.environ | {"NO_COLOR": "1"} | dict(environ or {}),
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - nothing here runs in threads
        )
        os.close(secondary)
        try:
            text = READING.sub("", _read_all(primary, until, typed))
            return process.wait(LIMIT_S), text.replace("\r\n", "\n")
        finally:
            process.kill()
            process.wait()
            os.close(primary)


def _take_terminal() -> None:
    """Its stdin is its terminal, so that Ctrl-C there is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_all(handle: int, until: Callable[[str], bool] | None, typed: str) -> str:
    """Everything until the other side is closed."""
    text = b""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if not select.select([handle], [], [], 1)[0]:
            continue
        try:
            chunk = os.read(handle, 65_536)
        except OSError:  # Linux: EIO once the last process has closed the terminal
            break
        if not chunk:
            break
        text += chunk
        if until is not None and until(text.decode(errors="ignore").replace("\r\n", "\n")):
            os.write(handle, typed.encode())
            until = None
    return text.decode()
