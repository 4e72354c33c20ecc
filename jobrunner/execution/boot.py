"""What a child does to itself before anything of the user's is imported."""

import contextlib
import faulthandler
import fcntl
import os
import resource
import signal
import sys
from typing import Final

_HIGH_FD: Final = 1000
"""Where the control socket goes, so that a job that closes the first descriptors does not reach it."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_IGNORED_BY_PYTHON: Final = {signal.SIGPIPE, getattr(signal, "SIGXFSZ", signal.SIGPIPE)}


def become_child(parent_pid: int) -> None:
    """Die with the parent, adopt what jobs leave behind, undo what passed through exec. Exits when it is too late."""
    if sys.platform == "linux":
        _set_process_options()
    if os.getppid() != parent_pid:
        os._exit(0)  # the parent died before it could take us with it
    _reset_signals()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    for stream in (sys.stdout, sys.stderr):
        # line by line: what was printed survives a kill; and no print fails because of the locale
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]


def _set_process_options() -> None:
    """Source: prctl(2), proc(5). The kernel's out-of-memory killer should take the job, not its worker."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("500")


def _reset_signals() -> None:
    """The signal mask and ignored signals survive exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _IGNORED_BY_PYTHON:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def adopt_fd(fd: int) -> int:
    """Move a descriptor out of the way of jobs: high, closed on exec and in forks. Gives its new number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = _HIGH_FD if soft == resource.RLIM_INFINITY or soft > _HIGH_FD + 8 else max(3, soft // 2)
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    os.close(fd)
    os.register_at_fork(after_in_child=lambda: _close(moved))
    return moved


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # the job has closed it itself
        os.close(fd)


def dump_stacks_on_signal(fd: int) -> None:
    """On SIGUSR1 write the stacks of all threads to `fd`, also while a job holds the GIL."""
    faulthandler.unregister(signal.SIGUSR1)
    # never called: faulthandler goes before it. It marks the signal as taken, so that a job's own handler is noticed
    signal.signal(signal.SIGUSR1, _taken)
    faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True)


def _taken(_number: int, _frame: object) -> None:
    pass
