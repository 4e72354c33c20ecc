"""One child process as the parent holds it: started, signalled as a group, reaped only when the group was killed."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Final

from jobrunner.execution.descent import living_descendants

SHARED_VARIABLES: Final = (
    *("JOBRUNNER_URL", "JOBRUNNER_URL_FILE", "JOBRUNNER_AUTHKEY", "JOBRUNNER_AUTHKEY_FILE"),
    *("JOBRUNNER_TLS_CA_FILE", "JOBRUNNER_TLS_CERT_FILE", "JOBRUNNER_TLS_KEY_FILE", "JOBRUNNER_TLS_SERVER_NAME"),
)
"""What `share_broker` leaves in the environment of jobs."""

KILL_ROUNDS: Final = 20
"""How often the descendants of a child are looked up while it is killed: they may start others until they are dead."""

_FAILPOINT: Final = ("JOBRUNNER_FAILPOINT", "JOBRUNNER_FAILPOINT_FIFO")


_INSTEAD: Final = {"JOBRUNNER_URL": "JOBRUNNER_URL_FILE", "JOBRUNNER_AUTHKEY_FILE": "JOBRUNNER_AUTHKEY"}
"""Where one is given, the other may not be."""


def child_environment(
    environment: Mapping[str, str], *, share_broker: bool, broker: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The worker's environment without every `JOBRUNNER_*`. An armed failpoint reaches the child, not its jobs.

    broker: with share_broker, the variables of what the worker did not find in its environment.
    """
    given = dict(broker or {}) if share_broker else {}
    shared = set(SHARED_VARIABLES) - {_INSTEAD.get(name) for name in given} if share_broker else set()
    kept = {*_FAILPOINT, *shared}
    found = {name: value for name, value in environment.items() if not name.startswith("JOBRUNNER_") or name in kept}
    return found | given


class Process:
    """A child in its own session, with its control socket and the read ends of its stdout and stderr.

    Its pid is its group's id. It stays a zombie until `reap`, so neither number can become another process's before;
    nothing else may wait for it.
    on_exit: called on the loop when it has exited, where the system can tell (Linux 5.3); elsewhere the end of its
    control socket tells, by `assume_exited`.
    Raises: OSError when the system can start no process.
    """

    def __init__(self, environment: dict[str, str], on_exit: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._exited = asyncio.Event()
        self._stacks: IO[bytes] | None = None
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                self._stacks = _scratch()
                self._popen = _start(theirs.fileno(), self._stacks.fileno(), environment)
        except BaseException:
            self.control.close()
            if self._stacks is not None:
                self._stacks.close()
            raise
        self.pid = self._popen.pid
        assert self._popen.stdout is not None  # noqa: S101 - asked for
        assert self._popen.stderr is not None  # noqa: S101 - asked for
        self.stdout_fd = os.dup(self._popen.stdout.fileno())
        self.stderr_fd = os.dup(self._popen.stderr.fileno())
        self._popen.stdout.close()
        self._popen.stderr.close()
        self._pidfd = _watch(self.pid)
        if self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self._exit_seen)

    @property
    def exited(self) -> bool:
        """Whether it is a zombie by now, as far as the system has told."""
        return self._exited.is_set()

    def assume_exited(self) -> None:
        """Where the system does not tell of an exit, the closed control socket does."""
        if self._pidfd is None:
            self._exited.set()

    async def exited_within(self, timeout_s: float) -> bool:
        """Wait for its exit. Gives whether it came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._exited.wait()
        return self._exited.is_set()

    def signal_group(self, number: signal.Signals) -> None:
        """Signal every process of the group. One that is gone or out of reach is no error."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def kill_all(self) -> None:
        """SIGKILL to the group, and before to what has left it for a session of its own.

        The child is stopped meanwhile: it takes in the orphans of those that are killed, and starts nothing new.
        """
        if self._popen.returncode is None and not self.exited:
            self.signal_child(signal.SIGSTOP)
            for _ in range(KILL_ROUNDS):
                left = living_descendants(self.pid)
                for pid in left:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                if not left:
                    break
        self.signal_group(signal.SIGKILL)

    def signal_child(self, number: signal.Signals) -> None:
        """Signal the child alone."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ask_stacks(self) -> None:
        """Let the child write the stacks of its threads, for `stacks` to read: it takes some milliseconds."""
        # its descriptor shares this one's offset
        if self._stacks is not None:
            self._stacks.seek(0)
            self._stacks.truncate()
            self.signal_child(signal.SIGUSR1)

    def stacks(self) -> str:
        """What it has written."""
        if self._stacks is None:
            return ""
        self._stacks.seek(0)
        return self._stacks.read().decode(errors="replace")

    def reap(self) -> int:
        """Take in the zombie. Gives its exit code, or the negative number of the signal that ended it."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._stacks is not None:
            self._stacks.close()
            self._stacks = None
        return self._popen.wait()

    def _exit_seen(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
        self._exited.set()
        self._on_exit()


def _scratch() -> IO[bytes]:
    """A file without a name; in memory where the system can, so that a full disk stops no child."""
    if sys.platform != "linux":
        return tempfile.TemporaryFile()
    return os.fdopen(os.memfd_create("jobrunner-stacks"), "w+b")


def _start(control_fd: int, stacks_fd: int, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "jobrunner.execution.child", str(control_fd), str(os.getpid()), str(stacks_fd)],
        pass_fds=(control_fd, stacks_fd),
        close_fds=True,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def _watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the process exits. Source: pidfd_open(2); None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, or a container that forbids the call
        return None
