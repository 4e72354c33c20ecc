"""Jobs for tests: good ones, and every kind of bad one."""

import asyncio
import contextlib
import ctypes
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from jobrunner import Permanent, Retry, context, job

SHELL_TREE = 'trap "" TERM; sleep 98 & (trap "" TERM; sleep 98) & sleep 98'
"""Three processes, none of which ends on SIGTERM."""

THREAD_SIGNALS = 0b11 << 31
"""Signals 32 and 33 in a mask of /proc: glibc keeps them for itself, so nobody can reset them."""

_kept: list[Any] = []


def _wait_forever() -> None:
    threading.Event().wait()


# --- good ones ------------------------------------------------------------------------------------------------------


@job
def noop() -> None:
    pass


@job(retries=0, timeout="1h")
def with_wishes() -> list[Any]:
    return [context.max_attempts, context.deadline is not None]


@job
def add(a: int, b: int = 1) -> int:
    return a + b


@job(retries=7, backoff="2s..1m", timeout="5m", queue="slow")
def with_defaults() -> None:
    pass


@job
async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0.01)
    return a + b


@job
async def fail_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("late")


@job
def facts() -> dict[str, Any]:
    names = ("id", "attempt", "max_attempts", "idempotency_key", "queue", "worker", "deadline")
    return {name: getattr(context, name) for name in names}


@job
def variables(prefix: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}


@job
def folder() -> str:
    return str(Path.cwd())


@job
def process() -> dict[str, Any]:
    """What can be seen of this process."""
    pid = os.getpid()
    names = _open_files()
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "pid": pid,
        "parent": os.getppid(),
        "leads_group": os.getpgid(0) == os.getsid(0) == pid,
        "files": names,
        "blocked": int(status["SigBlk"], 16) & ~THREAD_SIGNALS,
        "ignored": int(status["SigIgn"], 16) & ~THREAD_SIGNALS,
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "modules": sorted(sys.modules),
    }


def _open_files() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found[entry.name] = str(entry.readlink())
    return found


@job
def say(text: str, error: str = "") -> None:
    print(text)
    print(error, end="", file=sys.stderr)


@job
def write_directly(text: str) -> None:
    os.write(1, text.encode())
    subprocess.run(["sh", "-c", f"echo {text} by a child >&2"], check=True)


@job
def give(kind: str) -> Any:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    return {
        "nan": [1, {"x": math.nan}],
        "infinity": math.inf,
        "object": object(),
        "cyclic": cyclic,
        "surrogate": "\ud800",
        "large": "x" * 1024 * 1024,
        "none inside": [None, 1.5],
        "set": {1},
        "big integer": 2**70,
    }[kind]


def raw(body: bytes) -> dict[str, Any]:
    """Not registered: for `raw_handler` and `allow_import`."""
    return {"size": len(body), "start": body[:3].hex()}


def _private() -> None:
    pass


# --- ways to fail ---------------------------------------------------------------------------------------------------


@job
def fail(message: str = "no luck") -> None:
    raise ValueError(message)


@job
def fail_deeply() -> None:
    try:
        fail("inner")
    except ValueError as exc:
        raise RuntimeError("outer") from exc


@job
def fail_binding_inside() -> None:
    add()  # type: ignore[call-arg]


@job
def give_up() -> None:
    raise Permanent("no such user")


@job
def ask_again(after: Any) -> None:
    raise Retry("busy", after=after)


@job
def unprintable() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise KeyError("nobody reads me")

    raise Nasty


@job
def surrogates() -> None:
    raise ValueError("\ud800" + "x" * 1000)


@job
def leave(how: str) -> None:
    raise {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt(), "GeneratorExit": GeneratorExit()}[how]


@job
def run_out_of_memory() -> None:
    raise MemoryError


@job
def recurse() -> None:
    recurse()


@job
def die(number: int) -> None:
    print("last words", flush=True)
    os.kill(os.getpid(), number)
    _wait_forever()


@job
def exit_at_once(code: int) -> None:
    os._exit(code)


# --- ways to stay ---------------------------------------------------------------------------------------------------


@job
def spin() -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - it is the point
            continue


@job
def hold_gil() -> None:
    while True:  # a signal with a handler ends sleep(3)
        ctypes.PyDLL(None).sleep(99)


@job
def wait_in_shell(marker: str) -> None:
    subprocess.run(["sh", "-c", f"echo $$ > {marker}; {SHELL_TREE}"], check=False)


@job
def wait(marker: str) -> None:
    Path(marker).write_text(str(os.getpid()))
    _wait_forever()


@job
def finish_when_told(marker: str) -> str:
    """Ends well on SIGTERM."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    Path(marker).write_text(str(os.getpid()))
    while not told.wait(0.05):
        pass
    return "told"


# --- ways to leave a mess -------------------------------------------------------------------------------------------


@job
def mess(kind: str) -> str:
    {
        "fork": os.fork,
        "fork and fail": _fork_and_fail,
        "close stdout": lambda: os.close(1),
        "close sys.stdout": sys.stdout.close,
        "close all streams": lambda: os.closerange(0, 3),
        "close 3 to 255": lambda: os.closerange(3, 256),
        "redirect stdout": lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 1),
        "replace sys.stdout": lambda: setattr(sys, "stdout", None),
        "change folder": lambda: os.chdir("/"),
        "change umask": lambda: os.umask(0o777),
        "change environment": _spoil_environment,
        "ignore signals": lambda: [signal.signal(number, signal.SIG_IGN) for number in (15, 2, 1)],
        "take SIGUSR1": lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL),
        "handle SIGTERM": lambda: signal.signal(signal.SIGTERM, lambda *_: None),
        "alarm": lambda: signal.setitimer(signal.ITIMER_REAL, 0.01),
        "block signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD}),
        "thread": lambda: threading.Thread(target=_wait_forever).start(),
        "daemon thread": lambda: threading.Thread(target=_wait_forever, daemon=True).start(),
        "files": lambda: _kept.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(200)),
        "process": lambda: _kept.append(subprocess.Popen(["sleep", "97"])),
        "orphan": lambda: subprocess.run(["sh", "-c", "sleep 97 & (setsid sleep 97 &)"], check=True),
        "memory": lambda: _kept.append(bytearray(b"x") * 80 * 1024 * 1024),
    }[kind]()
    return kind


def _fork_and_fail() -> None:
    os.fork()
    raise ValueError("both of us")


def _spoil_environment() -> None:
    os.environ["SPOILED"] = "yes"
    os.environ["HOME"] = "/nowhere"
    os.environ["JOBRUNNER_JOB_WORKER"] = "me"
    del os.environ["PATH"]


@job
def write_to_the_parent(data: str) -> None:
    """Into the control socket, which a job has no business to do."""
    for name, target in _open_files().items():
        if int(name) > 2 and target.startswith("socket:"):
            os.write(int(name), bytes.fromhex(data))
    _wait_forever()


@job
def close_everything() -> None:
    os.closerange(3, 5000)
    _wait_forever()


# --- progress -------------------------------------------------------------------------------------------------------


@job
def reports_progress(steps: int) -> None:
    for step in range(steps):
        context.progress(step / steps, f"step {step}")


@job
def reports_from_threads() -> str:
    """Four threads report while a result of 900 KB goes up; they end after it."""

    def report() -> None:
        with contextlib.suppress(RuntimeError):  # the job is over
            for step in range(20_000):
                context.progress(step / 20_000, "x" * 300)

    for _ in range(4):
        threading.Thread(target=report, daemon=True).start()
    return "y" * 900_000
