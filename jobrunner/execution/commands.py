"""A command job, in the child: start the program, wait for it, read its exit status.

The program is in the child's own process group, so that a kill of the group reaches it, and writes straight into the
child's stdout and stderr pipes: the parent keeps the output and makes the result of it.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Final

from jobrunner.execution import frames
from jobrunner.execution.failures import rejected
from jobrunner.execution.progress import FILE_VARIABLE, ProgressFile
from jobrunner.outcome import ERROR_CHARS, Crashed, Error, Failed, Outcome, Succeeded, clip

REASON_FILE: Final = "JOBRUNNER_JOB_REASON_FILE"
LOOK_S: Final = 0.2
"""How often a command's progress is looked at."""

EXIT_PERMANENT: Final = 65
"""EX_DATAERR of sysexits.h: the input is wrong and stays wrong."""

EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_FOUND: Final = 127

_DEFAULT_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored by Python, and what is ignored stays so through exec."""

_FOR_THE_COMMAND: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
"""Those with which a cancel may end it, and which would end this process at once."""


def run_command(
    job: frames.Job,
    stdin: bytes | None,
    environment: dict[str, str],
    worker: str,
    tell: Callable[[float | None, str | None], None],
) -> Outcome:
    """Run `job.argv` to its end, in the current folder. tell: called with its progress, as `Reporter.report`.

    The result of a success is left empty: the parent has the output. An error without a message gets the last line of
    stderr there.
    """
    argv = job.argv or []
    with (
        _scratch("reason") as (reason_fd, reason_path),
        _scratch("progress") as (progress_fd, progress_path),
        _input(stdin) as actions,
    ):
        environment = {**environment, REASON_FILE: reason_path, FILE_VARIABLE: progress_path}
        try:
            pid = _spawn(argv, environment, actions)
        except ValueError as exc:  # a NUL character
            return rejected("malformed", f"the command line or its environment is not valid: {exc}")
        except OSError as exc:
            return _cannot_start(argv[0], exc, worker)
        status = _wait(pid, ProgressFile(progress_fd, tell))
        os.lseek(reason_fd, 0, os.SEEK_SET)
        reason = os.read(reason_fd, 4 * ERROR_CHARS).decode("utf-8", "replace").strip()
    return _outcome(os.waitstatus_to_exitcode(status), clip(reason))


def _wait(pid: int, progress: ProgressFile) -> int:
    """The command's status, once it has ended. Its progress is told meanwhile: the timer's signal breaks into the wait,
    Python looks, and waits on, so that the end is seen at once and nothing runs in between.
    """

    def look(_number: int, _frame: object) -> None:
        progress.look()
        signal.setitimer(signal.ITIMER_REAL, LOOK_S)  # only now, so that no look begins within another

    # The command gets a signal with the group and may need a while to end; until then this process must live.
    previous = {number: signal.signal(number, _passed_on) for number in _FOR_THE_COMMAND}
    previous_alarm = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_S)
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_alarm)
        for number, handler in previous.items():
            signal.signal(number, handler)
    progress.look()
    return status


def _passed_on(_number: int, _frame: object) -> None:
    """It is for the command."""


def _outcome(code: int, reason: str) -> Outcome:
    if code == 0:
        return Succeeded()
    if code < 0:
        name = signal_name(-code)
        return Crashed(error=Error(reason="crash", message=reason or f"the command died: {name}", signal=name))
    if code == EXIT_PERMANENT:
        return rejected("permanent", reason, exit_code=code)
    if code in (EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND):
        return rejected("cannot_start", reason, exit_code=code)
    return Failed(error=Error(reason="exit", message=reason, exit=code))


def signal_name(number: int) -> str:
    """`SIGSEGV` for 11; for a real-time signal its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _spawn(argv: list[str], environment: dict[str, str], actions: list[tuple[int, int, int]]) -> int:
    """Start the first program of that name on the command's own PATH. Raises: OSError of the most telling try.

    posix_spawn, not subprocess: it does not copy the page tables of a large child, and `subprocess` costs 2 MB.
    """
    denied: OSError | None = None
    missing: OSError | None = None
    for path in _candidates(argv[0], environment):
        try:
            return os.posix_spawn(
                path, argv, environment, file_actions=actions, setsigmask=(), setsigdef=_DEFAULT_SIGNALS
            )
        except (FileNotFoundError, NotADirectoryError) as exc:
            missing = exc
        except PermissionError as exc:
            denied = exc
    raise denied or missing or FileNotFoundError(argv[0])


def _candidates(program: str, environment: dict[str, str]) -> list[str]:
    if "/" in program:
        return [program]
    return [os.path.join(folder, program) for folder in os.get_exec_path(environment)]  # noqa: PTH118


def _cannot_start(program: str, exc: OSError, worker: str) -> Outcome:
    shown = clip(program, 200)
    if isinstance(exc, FileNotFoundError) and "/" not in program:
        message, code = f"'{shown}' is not installed on worker {worker} (exit 127).", EXIT_NOT_FOUND
    elif isinstance(exc, FileNotFoundError | NotADirectoryError) and not os.path.exists(program):  # noqa: PTH110
        message, code = f"'{shown}' does not exist on worker {worker} (exit 127).", EXIT_NOT_FOUND
    else:
        message = f"'{shown}' cannot be started on worker {worker}: {exc.strerror} (exit 126)."
        code = EXIT_NOT_EXECUTABLE
    return rejected("cannot_start", message, exit_code=code)


@contextlib.contextmanager
def _scratch(name: str) -> Iterator[tuple[int, str]]:
    """A file into which the command may write why it failed or how far it is, and its path.

    On Linux it lives in memory and is named through this process, so that nothing is left behind by a kill.
    """
    if sys.platform == "linux":
        fd = os.memfd_create(name)
        try:
            yield fd, f"/proc/{os.getpid()}/fd/{fd}"
        finally:
            os.close(fd)
    else:
        import tempfile

        fd, path = tempfile.mkstemp(prefix=f"jobrunner-{name}-")
        try:
            yield fd, path
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108


@contextlib.contextmanager
def _input(stdin: bytes | None) -> Iterator[list[tuple[int, int, int]]]:
    """What makes `stdin` the command's standard input; without it that stays `/dev/null`.

    A file and not a pipe: nobody has to feed it while the command runs.
    """
    if not stdin:
        yield []
        return
    if sys.platform == "linux":
        fd = os.memfd_create("stdin")
    else:
        import tempfile

        fd, path = tempfile.mkstemp(prefix="jobrunner-stdin-")
        os.unlink(path)  # noqa: PTH108
    try:
        left = memoryview(stdin)
        while left:
            left = left[os.write(fd, left) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield [(os.POSIX_SPAWN_DUP2, fd, 0)]
    finally:
        os.close(fd)
