"""The child: `python -m jobrunner.execution.child CONTROL_FD PARENT_PID [STACKS_FD]`. Boot, then one job at a time.

It imports neither broker nor command line, and `asyncio` only for the first `async def` job.
"""

import os
import sys
from types import TracebackType
from typing import NoReturn

import msgspec

from jobrunner import registry
from jobrunner.execution import boot, frames
from jobrunner.execution.failures import printable
from jobrunner.execution.progress import Reporter
from jobrunner.execution.surroundings import Descendants, Surroundings
from jobrunner.execution.tasks import Tasks
from jobrunner.failpoint import arm, failpoint, is_armed
from jobrunner.outcome import clip

NEARLY = 0.75
"""Of the memory limit: from there on a successor is started, which takes over when it is ready."""

_CHUNK_BYTES = 64 * 1024


class Control:
    """The socket to the parent. Plain blocking reads and writes: `socket` need not be imported."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parser = frames.DownParser()
        self._waiting: list[frames.Down] = []

    def take(self) -> frames.Down:
        """The next frame. When the parent is gone, this process is gone too."""
        while not self._waiting:
            data = os.read(self._fd, _CHUNK_BYTES)
            if not data:
                os._exit(0)
            self._waiting = self._parser.feed(data)
            self._waiting.reverse()
        return self._waiting.pop()

    def send(self, frame: frames.Up) -> None:
        """Write a frame. Raises: OSError when the parent is gone or a job has closed the socket."""
        data = frames.encode(frame)
        if isinstance(frame, frames.Result) and is_armed("child.mid_frame"):
            self._write(data[: len(data) // 2])
            failpoint("child.mid_frame")
            data = data[len(data) // 2 :]
        self._write(data)

    def _write(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        while written < len(data):
            written += os.write(self._fd, data[written:])


class Child:
    """The loop over the parent's frames."""

    def __init__(self, control: Control, setup: frames.Setup, surroundings: Surroundings, tasks: Tasks) -> None:
        self._control = control
        self._setup = setup
        self._surroundings = surroundings
        self._tasks = tasks
        self._descendants = Descendants()
        self._jobs = 0
        self._nearly = False

    def serve(self) -> NoReturn:
        """Take frames until told to stop."""
        body: bytes | None = None
        while True:
            match self._control.take():
                case frames.Job() as job:
                    self._run(job, body)
                    body = None
                case frames.Body(data=data):
                    body = data
                case frames.Ping(number=number):
                    self._control.send(frames.Pong(number=number))
                case frames.Stop():
                    _leave()
                case frames.Setup():
                    os._exit(1)

    def _run(self, job: frames.Job, body: bytes | None) -> None:
        done = self._tasks.run(job, body)
        if isinstance(done, registry.FunctionSpec):
            self._control.send(frames.Found(number=job.number, function=done))
            return
        leaves = self._after_job(job, done.fatal)
        result = frames.Result(number=job.number, outcome=done.outcome, leaves=leaves, nearly=self._nearly)
        self._control.send(result)
        if leaves is not None:
            _leave()

    def _after_job(self, job: frames.Job, fatal: str | None) -> str | None:
        """Tidy up. Gives why this process must be replaced, or None."""
        self._jobs += 1
        left = self._descendants.sweep()
        changed = self._surroundings.restore()
        if fatal or changed:
            return fatal or changed
        if left and job.argv is None:
            return left  # a module may hold on to a process that is gone now
        if self._setup.max_jobs is not None and self._jobs >= self._setup.max_jobs:
            return f"ran {self._jobs} jobs"
        limit_bytes = self._setup.max_memory_bytes
        if limit_bytes is not None:
            used_bytes = memory_bytes()
            self._nearly = used_bytes > NEARLY * limit_bytes
            if used_bytes > limit_bytes:
                return "grew over its memory limit"
        return None


def memory_bytes() -> int:
    """Memory in use by this process (resident); where the system does not tell, its highest so far."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _leave() -> NoReturn:
    """Exit with the exit handlers of the user's libraries, unless a thread would hold that up for ever."""
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        os._exit(0)
    sys.exit(0)


def _import_apps(setup: frames.Setup) -> tuple[str, str] | None:
    """Import what jobs are taken from. Gives the app that cannot be imported and why, or None."""
    for name in [*setup.apps, *([setup.raw_handler.partition(":")[0]] if setup.raw_handler else [])]:
        try:
            __import__(name)
        except BaseException as exc:  # noqa: BLE001 - a module may also call sys.exit()
            _show(exc)
            return name, _reason(exc)
    return None


def _show(exc: BaseException) -> None:
    """The whole traceback, for the worker's log. Imported only now: half a megabyte that a child need not carry."""
    import traceback

    traceback.print_exception(exc)


def _reason(exc: BaseException) -> str:
    """The error with the place in the user's source: `No module named 'PIL' (tasks.py:3)`."""
    text = str(exc) if isinstance(exc, ImportError) else f"{type(exc).__name__}: {exc}"
    place = _place(exc.__traceback__)
    if isinstance(exc, SyntaxError):
        text, place = f"SyntaxError: {exc.msg}", f"{os.path.basename(exc.filename or '?')}:{exc.lineno}"  # noqa: PTH119
    return f"{text} ({place})" if place else text


def _place(frames_: TracebackType | None) -> str | None:
    place = None
    while frames_ is not None:
        code = frames_.tb_frame.f_code
        if code.co_filename != __file__ and not code.co_filename.startswith("<frozen "):
            place = f"{os.path.basename(code.co_filename)}:{frames_.tb_lineno}"  # noqa: PTH119
        frames_ = frames_.tb_next
    return place


def _add_path() -> None:
    """The worker's folder is on the path of the apps, also where Python was told to leave it out."""
    folder = os.getcwd()  # noqa: PTH109
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def main() -> NoReturn:
    """Boot, import the apps, serve."""
    control_fd, parent_pid, *stacks = (int(word) for word in sys.argv[1:])
    boot.become_child(parent_pid)
    control = Control(boot.adopt_fd(control_fd))
    stacks_fd = boot.adopt_fd(stacks[0]) if stacks else 2
    boot.dump_stacks_on_signal(stacks_fd)
    arm()
    for name in ("JOBRUNNER_FAILPOINT", "JOBRUNNER_FAILPOINT_FIFO"):
        os.environ.pop(name, None)
    control.send(frames.Hello(pid=os.getpid()))
    setup = control.take()
    if not isinstance(setup, frames.Setup):
        raise msgspec.ValidationError(f"the first frame is {type(setup).__name__}")
    sys.argv[1:] = []
    _add_path()
    broken = _import_apps(setup)
    if broken is not None:
        control.send(frames.Fatal(app=broken[0], reason=clip(printable(broken[1]))))
        os._exit(1)
    surroundings = Surroundings(lambda: boot.dump_stacks_on_signal(stacks_fd))
    tasks = Tasks(setup, surroundings, Reporter(control.send))
    if setup.raw_handler and not tasks.has_raw_handler:
        module, _, function = setup.raw_handler.partition(":")
        control.send(frames.Fatal(app=module, reason=f"it has no function '{function}'"))
        os._exit(1)
    control.send(frames.Ready(functions=registry.specs()))
    Child(control, setup, surroundings, tasks).serve()


if __name__ == "__main__":
    main()
