"""How deliveries come to a free slot: one queue by a lasting consumer; several in order of preference.

With several, three lasting consumers would give a busy slot one job of each. So a free slot asks each queue in turn and
gets one message from the first that has any; if none has, it consumes from all, takes the first delivery, and cancels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from pika import spec

from jobrunner.broker.amqp import AmqpChannel

OnMessage = Callable[[str, Any, spec.BasicProperties, bytes], None]
"""Called with the queue, the method frame's method, the properties and the body."""


class Watcher(Protocol):
    """Who knows which queues can be consumed."""

    def usable(self, queues: Sequence[str]) -> Sequence[str]:
        """Those of these that the broker can serve."""

    def consumed(self, queue: str) -> None:
        """The broker serves it."""

    def ready(self) -> None:
        """All of them are consumed, or the first delivery has come."""


class Feed:
    """The flow of deliveries on one open channel, for as long as that channel lives.

    queues: those of `all_queues` that are consumed now, in the same order. on_message: a delivery. watcher: told once
    when all of them are consumed or the first delivery has come.
    """

    def __init__(
        self,
        channel: AmqpChannel,
        all_queues: Sequence[str],
        queues: Sequence[str],
        on_message: OnMessage,
        watcher: Watcher,
    ) -> None:
        self._channel = channel
        self._first = all_queues[0]
        self._queues = queues
        self._round = queues
        self._on_message = on_message
        self._watcher = watcher
        self._told_ready = False
        self._several = len(all_queues) > 1
        self._tags: dict[str, str] = {}  # consumer tag -> queue, from consume to cancel-ok
        self._unready: set[str] = set()
        self._number = 0
        self._asking = False
        self._busy = False
        self._stopped = False
        self._on_idle: Callable[[], None] | None = None
        if self._several:
            channel.add_callback(self._on_get_empty, [spec.Basic.GetEmpty], one_shot=False)
        self._asked = 0

    def queue_of(self, tag: str) -> str:
        """The queue of a consumer tag; of none the one that was asked last."""
        asked = self._round[self._asked] if self._asked < len(self._round) else self._first
        return self._tags.get(tag, asked)

    @property
    def unanswered(self) -> list[str]:
        """The queues that the broker was asked for without an answer so far."""
        asked = [self._round[self._asked]] if self._asking else []
        return [*asked, *(self._tags[tag] for tag in self._unready if tag in self._tags)]

    def listen(self, queues: Sequence[str]) -> None:
        """Consume these from now on. What is on its way from another goes back; what runs goes on."""
        self._queues = queues
        self._cancel_all()  # the answer to the last cancel begins anew
        if not self._stopped:
            self.go_on()

    def go_on(self) -> None:
        """Let deliveries come."""
        self._stopped = False
        if self._tags or self._asking:
            return  # cancel-ok, or the answer to what was asked, takes it from here
        if not self._several:
            self._consume_all()
        elif not self._busy:
            self._ask(0)

    def stop(self, on_idle: Callable[[], None]) -> None:
        """Let no more deliveries come; `on_idle` is called when none can be under way."""
        self._stopped = True
        self._on_idle = on_idle
        self._cancel_all()
        self._check_idle()

    def settled(self) -> None:
        """The slot is free again."""
        if self._several:
            self._busy = False
            if not self._stopped:
                self.go_on()

    # --- consuming --------------------------------------------------------------------------------------------------

    def _consume_all(self) -> None:
        for queue in self._watcher.usable(self._queues):
            self._number += 1
            tag = f"jobrunner.{self._number}"
            self._tags[tag] = queue
            self._unready.add(tag)
            self._channel.basic_consume(queue, self._on_deliver, consumer_tag=tag, callback=self._on_consume_ok)

    def _on_consume_ok(self, method_frame: Any) -> None:
        tag = method_frame.method.consumer_tag
        self._unready.discard(tag)
        if tag in self._tags:
            self._watcher.consumed(self._tags[tag])
        if not self._unready:
            self._ready()

    def _ready(self) -> None:
        if not self._told_ready:
            self._told_ready = True
            self._watcher.ready()

    def _on_deliver(self, _channel: Any, method: Any, properties: spec.BasicProperties, body: bytes) -> None:
        queue = self._tags[method.consumer_tag]
        if self._several:
            self._take()
            self._cancel_all()
        self._on_message(queue, method, properties, body)

    def _take(self) -> None:
        self._busy = True
        self._ready()

    def _cancel_all(self) -> None:
        for tag in self._tags:
            # a second cancel of one tag does nothing; what is delivered from here on goes back by nack (AmqpChannel)
            self._channel.basic_cancel(tag, callback=self._on_cancel_ok)

    def _on_cancel_ok(self, method_frame: Any) -> None:
        self._tags.pop(method_frame.method.consumer_tag, None)
        if self._tags:
            return
        if self._stopped:
            self._check_idle()
        else:
            self.go_on()

    def _check_idle(self) -> None:
        if self._stopped and not self._tags and not self._asking and self._on_idle is not None:
            on_idle, self._on_idle = self._on_idle, None
            on_idle()

    # --- asking several queues in turn ------------------------------------------------------------------------------

    def _ask(self, index: int) -> None:
        if not index:
            self._round = self._watcher.usable(self._queues)
        self._asking = not self._stopped and index < len(self._round)
        if self._asking:
            self._asked = index
            self._channel.queue_declare(self._round[index], passive=True, callback=partial(self._on_depth, index))
        elif self._stopped:
            self._check_idle()
        else:
            self._consume_all()

    def _on_depth(self, index: int, method_frame: Any) -> None:
        # never a get from an empty queue: the broker writes each into the queue's log
        if method_frame.method.message_count and not self._stopped and self._round[index] in self._queues:
            self._channel.basic_get(self._round[index], self._on_get_ok)
        else:
            self._ask(index + 1)

    def _on_get_ok(self, channel: Any, method: Any, properties: spec.BasicProperties, body: bytes) -> None:
        self._asking = False
        if self._stopped:
            channel.hand_back(method, properties, body)
            self._check_idle()
            return
        queue = self._round[self._asked]
        if queue not in self._queues:  # not to be consumed any more, since it was asked
            channel.hand_back(method, properties, body)
            self._ask(self._asked + 1)
            return
        self._watcher.consumed(queue)
        self._take()
        self._on_message(queue, method, properties, body)

    def _on_get_empty(self, _method_frame: Any) -> None:
        self._ask(self._asked + 1)
