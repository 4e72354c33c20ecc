"""Does what a page says: writes its files, types its commands on a terminal, keeps its workers running."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.docs import pages
from tests.support.eventually import eventually

LIMIT_S = 90.0
_STAYS = re.compile(r"jobrunner (dev|worker)\b[^|;&]*$")
_READY = "worker.started"
_VARYING = [
    (re.compile(r"^([✓✗!] )[0-9a-z]{8}\b"), r"\1<id>"),
    (re.compile(r"\b[0-9a-hjkmnp-tv-z]{16}\b"), "<id>"),
    (re.compile(r"\berror: [0-9a-z]{8}\b"), "error: <id>"),
    (re.compile(r"^((?:hint|  Follow it): .* )[0-9a-hjkmnp-tv-z]{4}$"), r"\1<id>"),
    (re.compile(r"[A-Z][a-z]{2} \d\d:\d\d:\d\d [+-]\d\d:\d\d"), "<time>"),
    (re.compile(r"\b\d{3,}\b"), "<number>"),
]


def normal(line: str) -> str:
    """A line without what differs from run to run: ids, times, process numbers."""
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return line.strip()


class Session:
    """One page's session in a folder of its own. state: the state folder whose private broker is used."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self._log = folder / ".worker.log"
        self._worker: subprocess.Popen[bytes] | None = None
        bin_folder = folder / ".bin"
        bin_folder.mkdir()
        for name in ("jobrunner", "pytest"):
            command = bin_folder / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
            command.chmod(0o755)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("JOBRUNNER_") and key != "CI"}
        self._environ = kept | {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(pages.ROOT),
            "JOBRUNNER_STATE_DIR": str(state),
            "NO_COLOR": "1",
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            # as pytest finds it where the package is installed, without what else is installed here
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "jobrunner.pytest_plugin",
        }

    def play(self, page: Path) -> None:
        """The blocks of a page in their order. Raises: AssertionError where it says what is not so."""
        for block in pages.blocks(page, "python", "console"):
            if block.language == "console":
                for step in pages.steps(block):
                    self._type(step, block)
            elif block.file_name:
                (self.folder / block.file_name).write_text(block.text, encoding="utf-8")
                self.stop_worker()
            else:
                self._run_script(block)

    def _type(self, step: pages.Step, block: pages.Block) -> None:
        if _STAYS.fullmatch(step.typed):
            self._start_worker(step.typed)
            return
        if step.typed.startswith("jobrunner broker stop"):
            self.stop_worker()
        elif self._worker is None:
            self._start_worker("jobrunner dev")
        code, output = self.on_terminal(step.typed)
        context = f"{block}\n$ {step.typed}\n{output}\n--- worker:\n{self._log.read_text(errors='replace')[-3000:]}"
        if step.shown:
            shown, got = ([normal(line) for line in lines] for lines in (step.shown, output.splitlines()))
            assert got == shown, context
        is_error = any(line.startswith("error:") for line in step.shown) and "echo $?" not in step.typed
        assert (code != 0) == is_error, f"exit code {code}: {context}"

    def on_terminal(self, line: str) -> tuple[int, str]:
        """The exit code of a shell line and what it wrote to its terminal."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        output, deadline = b"", time.monotonic() + LIMIT_S
        try:
            while (part := _read(ours)) is None or part:
                output += part or b""
                assert time.monotonic() < deadline, f"{line}: no end after {LIMIT_S:.0f} s: {output.decode()}"
            return process.wait(60), output.decode().replace("\r\n", "\n")
        finally:
            os.close(ours)
            if process.poll() is None:
                process.kill()
                process.wait()

    def _run_script(self, block: pages.Block) -> None:
        """A program of its own, told where the broker is."""
        _, told = self.on_terminal("jobrunner broker status --secrets")
        url = re.search(r"amqp://\S+", told)
        assert url is not None, told
        environ = self._environ | {"JOBRUNNER_URL": url[0]}
        command = [sys.executable, "-c", block.text]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"

    def _start_worker(self, line: str) -> None:
        """What a page leaves running in another terminal."""
        self.stop_worker()
        with self._log.open("wb") as log:
            self._worker = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def ready() -> None:
            log = self._log.read_text(errors="replace")
            assert self._worker is not None
            assert self._worker.poll() is None, f"{line} ended:\n{log}"
            assert _READY in log, log

        eventually(ready, timeout_s=60)

    def stop_worker(self) -> None:
        """Ctrl-C in the other terminal."""
        if self._worker is None:
            return
        self._worker.send_signal(signal.SIGINT)
        try:
            assert self._worker.wait(60) == 0, self._log.read_text(errors="replace")
        finally:
            if self._worker.poll() is None:
                self._worker.kill()
                self._worker.wait()
            self._worker = None

    def leave(self) -> None:
        """Nothing stays."""
        try:
            self.stop_worker()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _read(descriptor: int) -> bytes | None:
    """The next bytes of a terminal; empty at its end, None where there are none for a tenth of a second."""
    import select

    if not select.select([descriptor], [], [], 0.1)[0]:
        return None
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""
