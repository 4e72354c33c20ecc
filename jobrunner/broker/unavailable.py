"""Queues that are there and cannot be served, because their process in the broker is gone.

Up to RabbitMQ 4.0 who consumes such a queue loses the whole connection, with all deliveries on it (rabbitmq-server pull
request 13625). So it is left out for a while, and the other queues of the worker are served.
"""

from collections.abc import Sequence

FIRST_S = 1.0
"""How long a queue is left out at first: RabbitMQ 3.10 also fails, now and then, at one that is just being made."""

AGAIN_S = 5.0
LARGEST_S = 60.0
"""How long it is left out then, and at most: each further try may cost the connection."""


class Unavailable:
    """The queues of one connection that are left out. Times are monotonic seconds; epochs those of the connection."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._works: dict[str, int] = {}

    def works(self, queue: str, epoch: int) -> None:
        """It is consumed."""
        self._works[queue] = epoch
        self._tries.pop(queue, None)

    def suspect(self, queue: str, epoch: int, now: float) -> float | None:
        """The broker failed while it was asked for this queue. Gives the seconds for which it is left out, once for
        each connection; None where another slot consumes it.
        """
        if epoch in (self._works.get(queue), self._noted.get(queue)):
            return None
        self._noted[queue] = epoch
        tries = self._tries[queue] = self._tries.get(queue, 0) + 1
        wait_s = FIRST_S if tries == 1 else min(LARGEST_S, AGAIN_S * 2.0 ** min(tries - 2, 10))
        self._until[queue] = now + wait_s
        return wait_s

    def of(self, queues: Sequence[str], now: float) -> tuple[Sequence[str], float | None]:
        """Those that can be consumed, and in how many seconds there may be more."""
        if not self._until:
            return queues, None
        self._until = {queue: until for queue, until in self._until.items() if until > now}
        left_out = [self._until[queue] - now for queue in queues if queue in self._until]
        return [queue for queue in queues if queue not in self._until], min(left_out, default=None)
