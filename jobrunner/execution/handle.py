"""One child as its slot holds it: from its start, through its jobs, to the order in which it ends."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobrunner import attempts
from jobrunner.execution import endings, frames
from jobrunner.execution.guard import Guard
from jobrunner.execution.lifecycle import EXIT_S, HELLO_S, KILL_S, LEAVE_S, READY_S, STACKS_S, Died, Ending, State
from jobrunner.execution.link import Link
from jobrunner.execution.messages import (
    Finished,
    Found,
    PoolMessage,
    PoolSettings,
    Progress,
    SlotDown,
    SlotReady,
    Work,
)
from jobrunner.execution.output import HeadTail
from jobrunner.execution.process import Process
from jobrunner.execution.running import Run, Runs
from jobrunner.outcome import Interrupted, Outcome, Succeeded


@dataclass(frozen=True, slots=True)
class Surface:
    """What a child's handle needs of its pool."""

    settings: PoolSettings
    environment: dict[str, str]
    guard: Guard
    memory: endings.MemoryEvents
    post: Callable[[PoolMessage], None]


class Handle:
    """Starts a child, gives it work, ends it in the one right order (`until_gone`).

    slot: from 0. on_nearly: told when it comes near its memory limit. on_ready: given for a successor that is to be
    ready before it is needed; told instead of the pool, until `step_in`. Raises: OSError when the system can start no
    process.
    """

    def __init__(
        self, slot: int, pool: Surface, on_nearly: Callable[[], None], on_ready: Callable[[], None] | None = None
    ) -> None:
        self._on_nearly = on_nearly
        self._waits = on_ready
        self._ready = frames.Ready(functions=[])
        self.state = State.STARTING
        self.is_stale = False
        """To be replaced when it is free."""
        self._slot = slot
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._process = Process(pool.environment, self._exit_seen)
        pool.guard.add(self._process.pid)
        self._runs = Runs(self._process, pool.settings.worker, self._loop)
        self._ending: asyncio.Future[Ending] = self._loop.create_future()
        self._settled = asyncio.Event()
        self._late: frames.Result | None = None
        self._fatal: frames.Fatal | None = None
        self._pinged = False
        self._ready_at: float | None = None
        self._link = Link(self._loop, self._process.control, self._on_frame, self._on_lost)
        self._boot_timer = self._loop.call_later(HELLO_S, self._too_late, f"it did not start within {HELLO_S:g} s")
        self._link.send(endings.setup_frame(slot, pool.settings))

    # --- its end ----------------------------------------------------------------------------------------------------

    async def until_gone(self) -> Died:
        """Wait until it has to end, and end it: the kill order. Gives how it died, once nothing of it is left.

        Until `reap` the leader is a zombie, so the numbers of process and group are still its own.
        """
        ending = await self._ending
        process = self._process
        fault = ending.fault
        if ending.leave_s and not await process.exited_within(ending.leave_s) and self._runs.current is not None:
            fault = fault or "it closed its control socket"
        if not process.exited and ending.term_s:
            process.signal_group(ending.signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ending.term_s):
                    await self._settled.wait()
        process.kill_all()
        process.assume_exited()
        while not await process.exited_within(KILL_S):
            process.signal_group(signal.SIGKILL)
        process.signal_group(signal.SIGKILL)  # members that were started while the first one struck
        self._link.drain()
        self._pool.guard.remove(process.pid)
        died = self._died(process.reap(), fault)
        if self._runs.current is not None:
            outcome = self._late_success(ending) or ending.outcome
            self._finish(outcome or endings.crashed(died.code, fault, self._pool.memory), ready=False)
        self._link.close()
        self._runs.close()
        return died

    def _died(self, code: int, fault: str) -> Died:
        if self._ready_at is not None:
            ready_s = time.monotonic() - self._ready_at
            return Died(code, fault or endings.died_by(code), ready_s=ready_s, has_run=self._runs.count > 0)
        if self._fatal is not None:
            return Died(code, self._fatal.reason, app=self._fatal.app)
        stderr = self._runs.stderr.take()
        line = stderr.last_line() if stderr is not None else ""
        return Died(code, fault or line or endings.died_by(code))

    def _late_success(self, ending: Ending) -> Outcome | None:
        """The result of a function that was interrupted and ended well all the same, before it was killed.

        Not after a timeout: its time was over. Not of a command: many exit with 0 when they are told to stop.
        """
        late, run = self._late, self._runs.current
        if late is None or run is None or run.work.task is None or not isinstance(ending.outcome, Interrupted):
            return None
        return late.outcome if isinstance(late.outcome, Succeeded) else None

    def _begin_end(self, ending: Ending) -> None:
        """End the child, unless that is under way."""
        if self.state is State.ENDING:
            return
        was_free = self.state is State.FREE and self._waits is None
        self.state = State.ENDING
        self._boot_timer.cancel()
        self._ending.set_result(ending)
        if was_free:
            self._pool.post(SlotDown(slot=self._slot))

    # --- what the child and the system tell -------------------------------------------------------------------------

    def _on_frame(self, frame: frames.Up) -> None:
        match frame:
            case frames.Result():
                self._on_result(frame)
            case frames.Found():
                self._on_found(frame)
            case frames.Pong():
                self._pinged = False
            case frames.Progress(number=number, fraction=fraction, text=text):
                if self._runs.current is not None and number == self._runs.current.number:
                    self._pool.post(Progress(slot=self._slot, fraction=fraction, text=text))
            case frames.Hello(protocol=frames.PROTOCOL) if self.state is State.STARTING:
                self._boot_timer.cancel()
                late = f"its apps were not imported within {READY_S:g} s"
                self._boot_timer = self._loop.call_later(READY_S, self._too_late, late)
            case frames.Ready() if self.state is State.STARTING:
                self._on_ready(frame)
            case frames.Fatal() if self.state is State.STARTING:
                self._fatal = frame
                self._begin_end(Ending(leave_s=EXIT_S))
            case _:
                self._begin_end(Ending(term_s=0.0, fault=f"it sent {type(frame).__name__} out of order"))

    def _on_ready(self, ready: frames.Ready) -> None:
        self._boot_timer.cancel()
        self._ready_at = time.monotonic()
        self.state = State.FREE
        self._ready = ready
        if self._waits is not None:
            self._waits()
        else:
            self.step_in()

    def _on_result(self, result: frames.Result) -> None:
        run = self._runs.current
        if run is None or result.number != run.number:
            return  # of an earlier job, or a second one: only the first counts
        if self.state is State.ENDING:
            self._late = self._late or result
            self._settled.set()
            return
        stays = result.leaves is None and not self.is_stale
        if stays:
            self.state = State.FREE
        self._finish(result.outcome, ready=stays)
        if not stays:
            self.retire()
        elif result.nearly:
            self._on_nearly()

    def _on_found(self, found: frames.Found) -> None:
        run = self._runs.current
        if run is not None and found.number == run.number and self.state is State.BUSY:
            self._runs.drop()
            self.state = State.FREE
            self._pool.post(Found(slot=self._slot, function=found.function))

    def _on_lost(self, fault: str) -> None:
        """Nothing more comes from the child: it exits, has closed its socket, or must be killed for what it sent."""
        self._settled.set()
        if fault:
            self._begin_end(Ending(term_s=0.0, fault=fault))
        else:
            self._process.assume_exited()
            self._begin_end(Ending(leave_s=EXIT_S))

    def _exit_seen(self) -> None:
        self._settled.set()
        self._link.drain()
        self._begin_end(Ending())

    def _too_late(self, fault: str) -> None:
        self._begin_end(Ending(term_s=0.0, fault=fault))

    # --- runs -------------------------------------------------------------------------------------------------------

    def run(self, work: Work) -> None:
        """Hand a job to the child, which must be free."""
        self.state = State.BUSY
        run = self._runs.begin(work, self._on_deadline)
        self._link.send(endings.job_frame(work, run.number, run.deadline))

    def _finish(self, outcome: Outcome, *, ready: bool) -> None:
        run, outcome = self._runs.end(outcome)
        if run.work.argv is not None:
            outcome = endings.of_memory(outcome, self._pool.memory)
        ran = self._runs.ran
        self._pool.post(Finished(slot=self._slot, key=run.work.key, outcome=outcome, ran=ran, ready=ready))

    def _on_deadline(self, run: Run, timeout_s: float) -> None:
        self._link.drain()  # a result that is complete by now is the outcome
        if self._runs.current is run:
            self._begin_end(Ending(outcome=endings.timed_out(timeout_s)))

    def interrupt(self, term_s: float, number: signal.Signals = signal.SIGTERM) -> None:
        """Kill the run with that signal, then SIGKILL, unless its result is there. `Finished` follows either way."""
        run = self._runs.current
        self._link.drain()
        if run is not None and self._runs.current is run:
            self._begin_end(Ending(outcome=Interrupted(), term_s=term_s, signal=number))

    @property
    def ran(self) -> attempts.Run:
        """Where and when the current run started, or the last one ran."""
        return self._runs.ran

    def output(self) -> tuple[HeadTail | None, HeadTail | None]:
        """What the current run has written so far to stdout and stderr, as far as it was read."""
        return self._runs.stdout.kept, self._runs.stderr.kept

    # --- asked by the slot ------------------------------------------------------------------------------------------

    def step_in(self) -> None:
        """It is the slot's child from now on, if it was not before."""
        self._waits = None
        if self.state is State.FREE and self.is_stale:
            self.retire()
        elif self.state is State.FREE:
            self._pool.post(SlotReady(slot=self._slot, functions=self._ready.functions))

    def retire(self) -> None:
        """Let the child, which runs nothing, exit by itself."""
        self._link.send(frames.encode(frames.Stop()))
        self._begin_end(Ending(leave_s=LEAVE_S))

    def kill(self) -> None:
        """End the child, which was never ready, at once."""
        self._begin_end(Ending(term_s=0.0))

    def ping(self) -> None:
        """Called every 10 s: a free child that has not answered the last time is stuck."""
        if self.state is not State.FREE:
            self._pinged = False
        elif self._pinged:
            self._begin_end(Ending(term_s=0.0, fault="it does not answer"))
        else:
            self._pinged = True
            self._link.send(frames.encode(frames.Ping(number=self._runs.count)))

    def stacks(self, on_text: Callable[[str], None]) -> None:
        """Let the child write the stacks of its threads; `on_text` gets them. Not one that starts or ends."""
        if self.state in (State.FREE, State.BUSY):
            self._process.ask_stacks()
            self._loop.call_later(
                STACKS_S, lambda: on_text("" if self.state is State.ENDING else self._process.stacks())
            )
