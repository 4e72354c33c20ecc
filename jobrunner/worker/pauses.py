"""Paused queues, as a worker knows them: told by the stream of cancels, which it reads before it consumes and later."""

import time
from collections.abc import Sequence

from jobrunner import events
from jobrunner.outcome import HandBack
from jobrunner.worker import journal
from jobrunner.worker.settling import Settler
from jobrunner.worker.slots import Slots


class Pauses:
    """The newest word on each of this worker's queues. queues: in the order in which they are looked at."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues = tuple(queues)
        self._newest: dict[str, events.Pause] = {}

    def take(self, event: events.Pause) -> None:
        """A word on a queue; an older one than is known changes nothing."""
        known = self._newest.get(event.queue)
        if event.queue in self._queues and (known is None or event.at > known.at):
            self._newest[event.queue] = event

    def active(self, now: float) -> tuple[str, ...]:
        """The queues to consume at that time, in seconds since the epoch."""
        return tuple(queue for queue in self._queues if not self._holds(queue, now))

    def in_force(self, now: float) -> list[events.Pause]:
        """The words that keep it from the others."""
        return [self._newest[queue] for queue in self._queues if self._holds(queue, now)]

    def apply(self, slots: Slots, settler: Settler) -> None:
        """Consume what is active now, if that has changed; jobs of the others that were not started go back."""
        now = time.time()
        active, before = self.active(now), slots.queues
        if active == before:
            return
        slots.listen(active)
        for pause in self.in_force(now):
            if pause.queue in before:
                journal.queue_paused(pause)
        for queue in active:
            if queue not in before:
                journal.queue_resumed(queue)
        for run in [run for run in slots.held.values() if run.delivery.queue not in active]:
            del slots.held[run.key]
            settler.settle(run, HandBack())

    def _holds(self, queue: str, now: float) -> bool:
        found = self._newest.get(queue)
        return found is not None and found.holds(now)
