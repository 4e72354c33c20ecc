"""Publishing: every message persistent unless it says otherwise, mandatory and confirmed, within a deadline."""

import asyncio
import time
from collections import deque

from jobrunner.broker import topology
from jobrunner.broker.confirms import ConfirmChannel, OnAnswer
from jobrunner.broker.connection import Connection
from jobrunner.broker.message import (
    STORED,
    Answer,
    Message,
    Refused,
    Returned,
    Stored,
    Unknown,
    could_sign,
    event_message,
    job_message,
)

__all__ = [
    "STORED",
    "Answer",
    "Message",
    "OnAnswer",
    "Publisher",
    "Refused",
    "Returned",
    "Stored",
    "Unknown",
    "event_message",
    "job_message",
]

SWEEP_S = 1.0
"""Longest time between two looks at the deadlines."""


class Publisher:
    """Publishes on two channels of `connection`: one for events, one for everything else, so that a message that
    closes its channel never takes along messages of the other kind.

    window: most publishes in flight; more wait here, in order. confirm_timeout_s: seconds from a publish to its
    answer; then the connection is given up and all of its publishes are `Unknown`. It does not run while the broker
    blocks publishes.
    """

    def __init__(self, connection: Connection, *, window: int = 500, confirm_timeout_s: float = 30.0) -> None:
        self.connection = connection
        self.window = window
        self.confirm_timeout_s = confirm_timeout_s
        self._waiting: deque[tuple[Message, OnAnswer, float]] = deque()
        self._jobs = ConfirmChannel(connection, self._on_change)
        self._events = ConfirmChannel(connection, self._on_change)
        self._sweeper: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._drained: asyncio.Future[None] | None = None
        connection.attach(self)

    @property
    def in_flight(self) -> int:
        """Publishes without an answer, those that wait for the window included."""
        return self._jobs.in_flight + self._events.in_flight + len(self._waiting)

    def publish(self, message: Message, on_answer: OnAnswer) -> None:
        """Publish, and call `on_answer` once, from the loop; it must not raise.

        Never blocks and never raises for trouble with the broker. Without a connection the answer is `Unknown`, at
        once: the caller publishes again on `ConnectionUp`.
        """
        if not self.connection.is_open:
            on_answer(Unknown("not connected"))
            return
        now = time.monotonic()
        if self._sweeper is None:
            self._sweep()
        channel = self._channel_of(message)
        if self._waiting or not channel.ready or self._jobs.in_flight + self._events.in_flight >= self.window:
            self._waiting.append((message, on_answer, now))
        else:
            channel.send(message, on_answer, now)

    async def publish_confirmed(self, message: Message) -> Answer:
        """The answer to one publish. Raises: KeyCannotSign, which no second try mends."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.publish(message, lambda answer: None if answered.done() else answered.set_result(answer))
        return could_sign(await answered)

    async def drain(self) -> None:
        """Wait until every publish has its answer."""
        if not self.in_flight:
            return
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def close(self) -> None:
        """Stop listening to the connection; close the connection first."""
        self.connection.detach(self)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def connection_up(self) -> None:
        """Open both channels. What is published meanwhile waits here."""
        self._jobs.open()
        self._events.open()

    def connection_down(self) -> None:
        """The channels have answered what was in flight; what waited was never sent, but its caller republishes."""
        waiting, self._waiting = self._waiting, deque()
        for _, on_answer, _ in waiting:
            on_answer(Unknown("not connected"))
        self._on_change()

    def _channel_of(self, message: Message) -> ConfirmChannel:
        return self._events if message.exchange == topology.EVENTS else self._jobs

    def _on_change(self) -> None:
        waiting = self._waiting
        while waiting and self._jobs.in_flight + self._events.in_flight < self.window:
            channel = self._channel_of(waiting[0][0])
            if not channel.ready:
                break
            channel.send(*waiting.popleft())
        if self._drained is not None and not self.in_flight:
            self._drained.set_result(None)
            self._drained = None

    # --- deadlines: one timer for all -------------------------------------------------------------------------------

    def _sweep(self) -> None:
        if not self.in_flight and self._sweeper is not None:
            self._sweeper = None
            return
        now = time.monotonic()
        if self.connection.blocked is not None:
            self._not_before = now
        elif now - max(self._oldest(now), self._not_before) >= self.confirm_timeout_s:
            self._not_before = now
            self.connection.abort(f"no confirm within {self.confirm_timeout_s:g} s")
        self._sweeper = asyncio.get_running_loop().call_later(min(SWEEP_S, self.confirm_timeout_s / 4), self._sweep)

    def _oldest(self, now: float) -> float:
        oldest = now
        for at in (self._jobs.oldest, self._events.oldest, self._waiting[0][2] if self._waiting else None):
            if at is not None and at < oldest:
                oldest = at
        return oldest
