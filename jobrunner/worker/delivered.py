"""A delivered job, and what this worker knows of it until it is acked."""

from typing import TYPE_CHECKING

import msgspec

from jobrunner.broker.consumer import Delivery
from jobrunner.envelope import Envelope
from jobrunner.retry import Limits

if TYPE_CHECKING:
    from jobrunner import attempts
    from jobrunner.broker.publisher import Message
    from jobrunner.outcome import Verdict


class CancelNote(msgspec.Struct, frozen=True):
    """Someone wants a job no more. at: monotonic seconds when this worker began to kill it."""

    reason: str
    by: str | None
    signal: str | None = None
    at: float = 0.0


class Run:
    """One delivered job from its arrival to its ack.

    delivery: the newest delivery of this message; replaced when the broker delivers it again meanwhile. twins: earlier
    ones that still stand: the queue held this run twice.
    child: the process that runs or ran it. started: monotonic seconds.
    open: the publishes that are not confirmed yet, by their place in the plan; None before they are planned.
    cancel: why it is being killed. logged_bytes: of stdout and stderr, published while it runs.
    failed: those of them that are not in flight and must go out again. by_copy: how it is handed back.
    """

    __slots__ = (
        "announced",
        "by_copy",
        "cancel",
        "child",
        "delivery",
        "envelope",
        "failed",
        "foreign",
        "key",
        "limits",
        "logged_bytes",
        "open",
        "ran",
        "started",
        "tries",
        "twins",
        "verdict",
    )

    def __init__(self, envelope: Envelope, delivery: Delivery, limits: Limits) -> None:
        self.envelope = envelope
        self.key = envelope.key
        self.delivery = delivery
        self.limits = limits
        self.foreign = envelope.body is not delivery.body
        self.child: int | None = None
        self.started = 0.0
        self.announced = False
        self.cancel: CancelNote | None = None
        self.logged_bytes = [0, 0]
        self.ran: attempts.Run | None = None
        self.verdict: Verdict | None = None
        self.open: dict[int, Message] | None = None
        self.failed: set[int] = set()
        self.tries = 0
        self.twins: list[Delivery] = []
        self.by_copy = False

    def adopt(self, delivery: Delivery) -> None:
        """Join another delivery of this run. All that stand are settled with it: one guards it when another is lost."""
        self.twins = [twin for twin in (*self.twins, self.delivery) if twin.is_current]
        self.delivery = delivery

    @property
    def deliveries(self) -> list[Delivery]:
        """All that are to be settled with it."""
        return [self.delivery, *self.twins]
