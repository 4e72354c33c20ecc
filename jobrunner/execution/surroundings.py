"""What a job finds around it and must not leave changed: environment, folder, umask, signals, descriptors, threads."""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from jobrunner.execution.variables import Variables

OURS: Final = "JOBRUNNER_JOB_"
"""Variables that are another one for each job."""

FD_SLACK: Final = 64
"""More descriptors left open than this: the child is replaced."""

_WATCHED_SIGNALS: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGALRM,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_SWEEPS: Final = 100

# signal.getsignal makes an enum of each answer: 12 µs for these eight, after each job
_getsignal: Final[Callable[[int], Any]] = importlib.import_module("_signal").getsignal


class Surroundings:
    """The state of this process before its first job, to which it returns after each.

    repair_signals: called after a job took SIGUSR1 for itself.
    """

    def __init__(self, repair_signals: Callable[[], None]) -> None:
        self.pid = os.getpid()
        self._folder = os.getcwd()  # noqa: PTH109 - here and below: a Path for each job costs more than the call
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._handlers = tuple(_getsignal(number) for number in _WATCHED_SIGNALS)
        self._repair_signals = repair_signals
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._files = _identities()
        self._lowest_fd = _lowest_free_fd()
        self._data: dict[Any, Any] = os.environ._data  # type: ignore[attr-defined] # noqa: SLF001 - compared as a whole: 0.3 µs
        self._variables = Variables()
        self._base = dict(self._data)
        self._during = self._base
        self._added: dict[str, str] = {}

    def enter(self, variables: dict[str, str], folder: str | None) -> None:
        """Set the job's variables and go to its folder.

        The variables stay until the next job, which usually changes only one of them. Raises: OSError for the folder,
        ValueError for a variable that no environment can hold.
        """
        for name in self._added.keys() - variables.keys():
            key = os.fsencode(name)
            if key in self._base:
                os.environ[name] = os.fsdecode(self._base[key])
            else:
                os.environ.pop(name, None)
        for name, value in variables.items():
            if self._added.get(name) == value:
                continue
            if name.startswith(OURS):
                self._variables.set(name, value)
            else:
                os.environ[name] = value
        self._added = variables
        self._during = self._data.copy()
        if folder is not None:
            os.chdir(folder)

    def restore(self) -> str | None:
        """Undo what a job changed. Gives what cannot be undone, as the reason to replace this process; or None."""
        os.umask(self._umask)
        if self._data != self._during:
            self._restore_environment()
        problems = (
            self._restore_streams(),
            self._restore_folder(),
            self._restore_signals(),
            self._leftover_files(),
            _leftover_threads(),
        )
        return next(filter(None, problems), None)

    def _restore_environment(self) -> None:
        for key in self._data.keys() - self._during.keys():
            del os.environ[os.fsdecode(key)]
        for key, value in self._during.items():
            if self._data.get(key) != value:
                os.environ[os.fsdecode(key)] = os.fsdecode(value)

    def _restore_folder(self) -> str | None:
        try:
            if os.getcwd() != self._folder:  # noqa: PTH109
                os.chdir(self._folder)
        except OSError:
            try:
                os.chdir(self._folder)
            except OSError:
                return "its folder is gone"
        return None

    def _restore_streams(self) -> str | None:
        sys.stdin, sys.stdout, sys.stderr = self._streams
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            if _identities() == self._files:
                return None
        except (OSError, ValueError):
            pass
        return "a job closed or redirected its standard streams"

    def _restore_signals(self) -> str | None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number, handler in zip(_WATCHED_SIGNALS, self._handlers, strict=True):
            if _getsignal(number) is handler:
                continue
            if handler is None:
                return "a job took a signal that was not Python's"
            signal.signal(number, handler)
            if number == signal.SIGUSR1:
                self._repair_signals()
        return None

    def _leftover_files(self) -> str | None:
        if _lowest_free_fd() - self._lowest_fd > FD_SLACK:
            return f"jobs left more than {FD_SLACK} files open"
        return None


def _identities() -> tuple[tuple[int, int], ...]:
    return tuple((status.st_dev, status.st_ino) for status in map(os.fstat, (0, 1, 2)))


def _lowest_free_fd() -> int:
    """Grows with the files left open: the system always gives the lowest free number. Much cheaper than to count."""
    try:
        fd = os.dup(1)
    except OSError:
        return sys.maxsize  # none is left
    os.close(fd)
    return fd


def _leftover_threads() -> str | None:
    """Non-daemon threads of a job. `threading` is looked at only if the job has imported it."""
    threading = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:
        return None
    main = threading.main_thread()
    if any(thread is not main and not thread.daemon for thread in threading.enumerate()):
        return "a job left a thread running"
    return None


class Descendants:
    """The processes below this one. Those that the apps started while they were imported may stay."""

    def __init__(self) -> None:
        self._kept = set(_children())
        self._unknown = _reap() and not self._kept

    def sweep(self) -> str | None:
        """End what a job left behind: its processes and, on Linux, their orphans, which this process adopts.

        Gives "a job left processes running" when there were some, None otherwise.
        """
        if self._unknown:
            return None
        found = False
        for _ in range(_SWEEPS):
            if not _reap():
                break
            left = [pid for pid in _children() if pid not in self._kept]
            found = found or bool(left) or not self._kept
            killed = [pid for pid in left if _kill(pid)]
            if not killed:
                break  # none, or not told which: then the whole group is killed with this process
            with contextlib.suppress(ChildProcessError):
                os.waitpid(killed[0], 0)
        return "a job left processes running" if found else None


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _reap() -> bool:
    """Take in dead children. Gives whether living ones are left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[int]:
    """The living children, those of every thread. Source: proc(5), /proc/pid/task/tid/children."""
    pids: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):  # noqa: PTH208
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:  # noqa: PTH123
                pids += map(int, file.read().split())
    return pids
