"""The borders of the worker, for tests that drive it by its inbox: what it sends is kept, nothing goes anywhere."""

import asyncio
import dataclasses
import functools
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from jobrunner import attempts, events
from jobrunner.broker.consumer import Delivery
from jobrunner.broker.publisher import Answer, Message, Stored
from jobrunner.brokerurl import parse_url
from jobrunner.envelope import Envelope
from jobrunner.execution.output import HeadTail
from jobrunner.execution.pool import Work
from jobrunner.worker.loop import Worker
from jobrunner.worker.settings import WorkerSettings


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on a loop of its own. What it has started there and not awaited ends with it."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@dataclasses.dataclass
class Publishes:
    """Stands where the publisher is: keeps each message with the way to answer it."""

    open: list[tuple[Message, Callable[[Answer], None]]] = dataclasses.field(default_factory=list)
    seen: list[Message] = dataclasses.field(default_factory=list)

    def publish(self, message: Message, on_answer: Callable[[Answer], None]) -> None:
        self.open.append((message, on_answer))
        self.seen.append(message)

    def answer(self, answer: Answer | None = None) -> None:
        waiting, self.open = self.open, []
        for _, on_answer in waiting:
            on_answer(answer or Stored())

    def kinds(self) -> list[str]:
        """Of each message since the start: `retry`, `dead letter`, or the event's kind."""
        kinds = []
        for message in self.seen:
            if message.type == events.EVENT_TYPE:
                kinds.append(events.kind_of(events.decode(message.body)))
            else:
                kinds.append(f"job to {message.exchange}")
        return kinds


@dataclasses.dataclass
class Wire:
    """What a slot's consumer was told: in order."""

    slot: int
    log: list[tuple[str, int]]

    def ack(self, delivery: Delivery) -> bool:
        self.log.append(("ack" if delivery.is_current else "stale ack", delivery.tag))
        return delivery.is_current

    def nack(self, delivery: Delivery) -> bool:
        self.log.append(("nack", delivery.tag))
        return True

    def start(self) -> None:
        self.log.append(("start", self.slot))

    def resume(self) -> None:
        self.log.append(("resume", self.slot))

    def listen(self, queues: tuple[str, ...]) -> None:
        self.log.append(("listen", len(queues)))

    async def pause(self) -> None:
        self.log.append(("pause", self.slot))

    async def close(self) -> None:
        self.log.append(("close", self.slot))


@dataclasses.dataclass
class Processes:
    """Stands where the pool is."""

    started: list[tuple[int, Work]] = dataclasses.field(default_factory=list)
    interrupted: list[int] = dataclasses.field(default_factory=list)
    written: dict[int, tuple[HeadTail | None, HeadTail | None]] = dataclasses.field(default_factory=dict)

    def run(self, slot: int, work: Work) -> None:
        self.started.append((slot, work))

    def interrupt(self, slot: int, term_s: float, number: int = signal.SIGTERM) -> None:
        assert term_s > 0
        assert number
        self.interrupted.append(slot)

    def running(self, slot: int) -> attempts.Run:
        return attempts.Run(worker="w1", host="h", pid=1000 + slot, started_at=1.0)

    def output(self, slot: int) -> tuple[HeadTail | None, HeadTail | None]:
        return self.written.get(slot, (None, None))


class Bench:
    """A worker between those borders. Needs a running loop."""

    def __init__(self, procs: int = 2, **settings: Any) -> None:
        self.worker = Worker(
            WorkerSettings(
                url=parse_url("amqp://127.0.0.1:1/"),
                queues=settings.pop("queues", ("task_queue",)),
                procs=procs,
                name="w1",
                apps=("tasks",),
                **{"lost_after_s": 0.0} | settings,
            )
        )
        self.wire: list[tuple[str, int]] = []
        self.publishes = Publishes()
        self.pool = Processes()
        self.worker.slots.consumers = [Wire(slot, self.wire) for slot in range(procs + 1)]  # type: ignore[misc]
        self.worker.settler.publisher = self.publishes  # type: ignore[assignment]
        self.worker.pool = self.worker.stopping._pool = self.pool  # type: ignore[assignment]
        self.worker.steering.pool = self.pool  # type: ignore[assignment]
        self.tags = 0

    def handle_all(self) -> None:
        """Everything that is in the inbox."""
        while self.worker.inbox._messages:
            self.worker.handle(self.worker.inbox._messages.popleft())

    def delivery(self, sealed: Envelope, slot: int = 0, *, channel: Any = None, **facts: Any) -> Delivery:
        """A delivery of that job on a channel that stands."""
        self.tags += 1
        return Delivery(
            epoch=1,
            slot=slot,
            tag=self.tags,
            body=sealed.body,
            message_id=sealed.job.id,
            headers=sealed.state.headers(),
            queue=self.worker.settings.queues[0],
            channel=channel or Standing(),
            **facts,
        )


@dataclasses.dataclass
class Standing:
    """A channel, as far as a delivery asks."""

    usable: bool = True
