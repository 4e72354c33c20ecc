"""How a run ended, as the parent sees it: what a child cannot tell itself."""

import signal
from pathlib import Path
from typing import Final

import msgspec

from jobrunner.durations import format_duration
from jobrunner.execution import frames
from jobrunner.execution.commands import signal_name
from jobrunner.execution.messages import PoolSettings, Work
from jobrunner.execution.output import RESULT_BYTES, HeadTail
from jobrunner.outcome import Crashed, Error, Failed, Outcome, Rejected, Succeeded, TimedOut, clip

MAX_JSON_BYTES: Final = 2 * 1024 * 1024
"""Largest result of a command as JSON: only binary output, escaped, can exceed it with less than 1 MiB."""

_encoder = msgspec.json.Encoder()


def job_frame(work: Work, number: int, deadline: float | None) -> bytes:
    """The frames that hand `work` to a child. deadline: seconds since the epoch."""
    body = work.raw if work.argv is None else work.stdin
    job = frames.Job(
        number=number,
        id=work.id,
        attempt=work.attempt,
        max_attempts=work.max_attempts,
        queue=work.queue,
        task=work.task,
        args=work.args,
        kwargs=work.kwargs,
        batch=work.batch,
        argv=work.argv,
        env=work.env,
        cwd=work.cwd,
        deadline=deadline,
        run=work.run,
        seq=work.seq,
        input=work.input,
        after=work.after,
        after_run=work.after_run,
        has_body=body is not None,
    )
    encoded = frames.encode(job)
    return encoded if body is None else frames.encode(frames.Body(data=body)) + encoded


def setup_frame(slot: int, settings: PoolSettings) -> bytes:
    """The first frame to a child. slot: from 0."""
    setup = frames.Setup(
        worker=settings.worker,
        slot=slot + 1,
        apps=list(settings.apps),
        allow_import=list(settings.allow_import),
        raw_handler=settings.raw_handler,
        max_jobs=settings.max_jobs,
        max_memory_bytes=settings.max_memory_bytes,
    )
    return frames.encode(setup)


def complete(outcome: Outcome, stdout: HeadTail | None, stderr: HeadTail | None) -> Outcome:
    """A command's outcome, with what the parent has: the output as the result, its last line as the error text."""
    match outcome:
        case Succeeded():
            return _with_output(stdout) if stdout is not None else Succeeded(result=msgspec.Raw(b'""'))
        case Failed(error=error) | Rejected(error=error) if not error.message:
            line = stderr.last_line() if stderr is not None else ""
            message = clip(line) or f"exit code {error.exit}"
            return type(outcome)(error=msgspec.structs.replace(error, message=message))
        case _:
            return outcome


def _with_output(stdout: HeadTail) -> Succeeded:
    text, truncated = stdout.first(RESULT_BYTES)
    data = _encoder.encode(text)
    while len(data) > MAX_JSON_BYTES:
        truncated = True
        text = text[: len(text) * MAX_JSON_BYTES // len(data) - 1]
        data = _encoder.encode(text)
    return Succeeded(result=msgspec.Raw(data), truncated=truncated)


def timed_out(timeout_s: float) -> TimedOut:
    """The outcome of a run that was killed at its deadline."""
    return TimedOut(error=Error(reason="timeout", message=f"still running after {format_duration(timeout_s)}: killed"))


def crashed(code: int, fault: str, memory: "MemoryEvents") -> Crashed:
    """The outcome of a run whose process died. code: as from `Popen.wait`. fault: why we killed it, if we did."""
    if fault:
        return Crashed(error=Error(reason="crash", message=f"the process was killed: {fault}"))
    if code >= 0:
        return Crashed(error=Error(reason="crash", message=f"the process died: {died_by(code)}", exit=code))
    name = signal_name(-code)
    if -code == signal.SIGKILL and memory.has_killed():
        return _out_of_memory("process")
    return Crashed(error=Error(reason="crash", message=f"the process died: {name}", signal=name))


def of_memory(outcome: Outcome, memory: "MemoryEvents") -> Outcome:
    """The outcome of a command: its child sees the signal that has ended it, and not that it was for want of memory."""
    match outcome:
        case Crashed(error=Error(reason="crash", signal=signal.SIGKILL.name)) if memory.has_killed():
            return _out_of_memory("command")
        case _:
            return outcome


def _out_of_memory(what: str) -> Crashed:
    message = f"the {what} was killed: this machine or container ran out of memory"
    return Crashed(error=Error(reason="oom", message=message, signal=signal.SIGKILL.name))


def died_by(code: int) -> str:
    """`exit code 3` or `SIGSEGV`."""
    return f"exit code {code}" if code >= 0 else signal_name(-code)


class MemoryEvents:
    """Whether the kernel's out-of-memory killer struck in this process's cgroup, which the children share.

    Source: Linux kernel documentation "Control Group v2", memory.events. Where there is no such file the answer is no.
    """

    def __init__(self) -> None:
        self._file = _events_file()
        self._kills = self._count()

    def has_killed(self) -> bool:
        """Whether it killed since this was last asked."""
        kills = self._count()
        before, self._kills = self._kills, kills
        return kills > before

    def _count(self) -> int:
        if self._file is None:
            return 0
        try:
            pairs = [line.split() for line in self._file.read_text(encoding="ascii").splitlines()]
        except OSError:
            return 0
        return next((int(count) for name, count in pairs if name == "oom_kill"), 0)


def _events_file() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if path is None else Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events"
