"""What others ask of a running worker, and what it tells of its running jobs: cancels, pings, output, heartbeats."""

import signal
import time

from jobrunner import attempts, events
from jobrunner.broker.control import Request, reply_message
from jobrunner.broker.following import live_message
from jobrunner.broker.publisher import event_message
from jobrunner.broker.waiting import SLOT
from jobrunner.execution.output import KEPT_BYTES, HeadTail
from jobrunner.execution.pool import Pool, Progress
from jobrunner.outcome import Cancelled, HandBack, Park, RunAgain, Verdict
from jobrunner.worker import journal, settlement
from jobrunner.worker.delivered import CancelNote, Run
from jobrunner.worker.presence import HEARTBEAT_S, Presence
from jobrunner.worker.settling import Settler
from jobrunner.worker.slots import Slots
from jobrunner.worker.tombstones import Tombstones

STARTED_AFTER_S = 0.25
"""A job that runs shorter has one event, its end."""

FOLLOWED_S = 15.0
"""Who follows a job's output asks again before this is over."""

PROGRESS_S = 1.0
"""Between two reports of one slot."""

TERM_S = 5.0
"""From the first signal of a cancel to SIGKILL."""


class Steering:
    """The worker as others see it."""

    def __init__(self, presence: Presence, settler: Settler, slots: Slots, pool: Pool, tombstones: Tombstones) -> None:
        self.presence = presence
        self.pool = pool
        self._settler = settler
        self._slots = slots
        self._tombstones = tombstones
        self._heartbeat = 0.0
        self._followed: dict[str, float] = {}
        self._progress: dict[int, Progress] = {}
        self._progress_told: dict[int, float] = {}

    # --- asked ------------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> None:
        """Do what is asked, and reply. A verb of a later version is answered like a ping."""
        jobs: dict[str, str] = {}
        if request.verb == "cancel":
            # told directly as well as through the stream, whichever is first: so that it counts at once
            cancel = events.Cancel(
                at=request.at,
                jobs=request.jobs,
                run=request.run,
                reason=request.reason,
                signal=request.signal,
                by=request.by,
            )
            self._tombstones.add(cancel)
            self.cancel(cancel)
            jobs = self._states_of(request.jobs)
        if request.verb == "follow":
            now = time.monotonic()
            going_on = {job_id: until for job_id, until in self._followed.items() if until > now}
            self._followed = going_on | dict.fromkeys(request.jobs, now + FOLLOWED_S)
        if request.verb == "stack":
            for slot, run in self._slots.busy.items():
                if run.envelope.job.id in request.jobs:
                    self.pool.stacks(slot, lambda text: self._reply(request, jobs, text))
                    return
        self._reply(request, jobs, None)

    def _reply(self, request: Request, jobs: dict[str, str], stack: str | None) -> None:
        running = {slot: (run, self.pool.running(slot)) for slot, run in self._slots.busy.items()}
        known = {run.key for run, _ in running.values()}
        here = [run for run in self._settler.runs.values() if run.delivery.slot != SLOT and run.key not in known]
        held = [run.envelope.job.id for run in here]
        self._settler.announce(reply_message(request, self.presence.reply(running, jobs, stack, held)))

    def _states_of(self, chains: dict[str, int]) -> dict[str, str]:
        """What each job is here: all in one pass, for there may be thousands of them, and of those that have ended."""
        here: dict[str, str] = {}
        for run in self._settler.runs.values():
            job_id = run.envelope.job.id
            if run.envelope.state.chain <= chains.get(job_id, -1):
                state = "running" if run.cancel is not None else "ended" if run.verdict is not None else "noted"
                here.setdefault(job_id, state)
        ended = {job_id for job_id, _ in self._settler.settled}
        return {job_id: here.get(job_id, "ended" if job_id in ended else "noted") for job_id in chains}

    def cancel(self, event: events.Cancel) -> None:
        """Kill what runs here of a cancel; give up what waits for a process."""
        name = f"SIG{(event.signal or 'TERM').removeprefix('SIG')}"
        number = signal.Signals.__members__.get(name, signal.SIGTERM)  # whatever was sent: it must not end this worker
        for run in list(self._settler.runs.values()):
            note = self._tombstones.find(run.envelope)
            if note is None or run.cancel is not None or run.verdict is not None:
                continue
            if run.key in self._slots.held:
                del self._slots.held[run.key]
                self._settler.settle(run, Cancelled(reason=note.reason, by=note.by))
            elif run.child is not None:
                run.cancel = CancelNote(event.reason, event.by, number.name, time.monotonic())
                self.pool.interrupt(run.child, TERM_S, number)

    def verdict_of(self, run: Run, verdict: Verdict) -> Verdict:
        """A job that is being cancelled neither runs again nor goes back; one that succeeded has succeeded."""
        if run.cancel is None or not isinstance(verdict, HandBack | RunAgain | Park):
            return verdict
        took_s = time.monotonic() - run.cancel.at
        name = run.cancel.signal if took_s < TERM_S else "SIGKILL"
        return Cancelled(reason=run.cancel.reason, by=run.cancel.by, signal=name, took_s=round(took_s, 3))

    # --- told -------------------------------------------------------------------------------------------------------

    def come(self, functions: list[str]) -> None:
        """A process is ready: tell of it if it is the first, or if it knows other functions, as after a reload."""
        if not self._heartbeat or functions != self.presence.functions:
            self.presence.functions = functions
            self._tell("online")

    def go(self) -> None:
        """An orderly end, of one that had come."""
        if self._heartbeat:
            self._tell("offline")

    def _tell(self, phase: str) -> None:
        self._heartbeat = time.monotonic()
        event = self.presence.event(phase, busy=len(self._slots.busy), done=self._settler.done)
        self._settler.announce(event_message(event))

    def tick(self, now: float) -> None:
        """Ten times a second: announce long runs and what they have written; every 20 s a heartbeat. now: monotonic."""
        for slot, run in self._slots.busy.items():
            if now - run.started < STARTED_AFTER_S:
                continue
            ran = self.pool.running(slot)
            if not run.announced:
                run.announced = True
                self._settler.announce(settlement.started(run, ran, time.time()))
                journal.started(run)
            self._tell_output(slot, run, ran)
        for slot in list(self._progress):
            if now - self._progress_told.get(slot, float("-inf")) >= PROGRESS_S:
                self.tell_progress(slot)
        if self._heartbeat and now - self._heartbeat >= HEARTBEAT_S:
            self._tell("heartbeat")

    def _tell_output(self, slot: int, run: Run, ran: attempts.Run) -> None:
        now = time.monotonic()
        for index, kept in enumerate(self.pool.output(slot)):
            if kept is None or run.logged_bytes[index] >= kept.total_bytes:
                continue
            if run.logged_bytes[index] < min(len(kept.head), KEPT_BYTES):
                self._publish_output(run, ran, index, kept)
            elif self._followed.get(run.envelope.job.id, 0.0) > now:
                self._send_on(run, ran, index, kept)

    def progress(self, said: Progress) -> None:
        """What a job says of itself. The newest is told, once a second at most and before its end."""
        self._progress[said.slot] = said

    def tell_progress(self, slot: int) -> None:
        """Publish what the slot's job said last, if that is not told yet."""
        said, run = self._progress.pop(slot, None), self._slots.busy.get(slot)
        if said is None or run is None:
            return
        self._progress_told[slot] = time.monotonic()
        event = events.Progress(
            at=time.time(), fraction=said.fraction, text=said.text, **settlement.facts_of(run.envelope)
        )
        self._settler.announce(event_message(event))

    def _publish_output(self, run: Run, ran: attempts.Run, index: int, kept: HeadTail) -> None:
        begin = run.logged_bytes[index]
        data = bytes(kept.head[begin : min(len(kept.head), KEPT_BYTES)])
        text, used = whole_characters(data)
        if text:
            run.logged_bytes[index] = begin + used
            self._settler.announce(event_message(_log(run, ran, index, text, begin)))

    def _send_on(self, run: Run, ran: attempts.Run, index: int, kept: HeadTail) -> None:
        """What is written beyond the first 64 KiB, to whoever follows now: the ledger does not keep it."""
        begin = run.logged_bytes[index]
        if begin < len(kept.head):  # of a command more is kept at hand than the ledger gets: it is the result
            data = bytes(kept.head[begin : begin + KEPT_BYTES])
        else:
            begin = max(begin, kept.total_bytes - len(kept.tail))
            data = kept.tail[begin - kept.total_bytes :]
        text, used = whole_characters(data)
        if text:
            run.logged_bytes[index] = begin + used
            self._settler.announce(live_message(_log(run, ran, index, text, begin)))


def _log(run: Run, ran: attempts.Run, index: int, text: str, begin: int) -> events.Log:
    return events.Log(
        at=time.time(),
        stream=("out", "err")[index],
        text=text,
        offset_bytes=begin,
        started_at=ran.started_at,
        worker=ran.worker,
        **settlement.facts_of(run.envelope),
    )


def whole_characters(data: bytes) -> tuple[str, int]:
    """The text of `data` up to its last whole character, and how many bytes that is. What is not UTF-8 is replaced."""
    for cut in range(min(4, len(data))):
        part = data[: len(data) - cut]
        try:
            return part.decode(), len(part)
        except UnicodeDecodeError as exc:
            if exc.reason != "unexpected end of data" or exc.end < len(part):
                break
    return data.decode(errors="replace"), len(data)
