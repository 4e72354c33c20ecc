"""The events of short jobs, several in one message.

The broker spends more on the record of a job that does nothing than on the job itself, most of it for each message and
little for its size. So an event leaves at once if none is on its way, and those that come before it is confirmed leave
together: when it is, but a millisecond later at the latest, since a broker far away is kept busy by many messages on
their way and not by large ones. Each job is still acked only once the message that tells of it is confirmed.
"""

import asyncio
from collections.abc import Callable

from jobrunner.broker.groups import MOST_BYTES, MOST_EVENTS, group
from jobrunner.broker.publisher import Answer, Message, OnAnswer
from jobrunner.failpoint import failpoint

LARGE_BYTES = 8 * 1024
"""An event of this size goes alone: there is nothing to be saved."""

WAIT_S = 0.001
"""Longest wait of an event for others."""

Key = tuple[str, int]


class Gathering:
    """publish: sends a message, and calls what it is given with the answer. answered: called with the key of each job
    whose event was answered, as if it had been alone.
    """

    def __init__(self, publish: Callable[[Message, OnAnswer], None], answered: Callable[[Key, Answer], None]) -> None:
        self._publish = publish
        self._answered = answered
        self._waiting: list[tuple[Key, Message]] = []
        self._bytes = 0
        self._under_way = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, key: Key, message: Message) -> None:
        """Publish it, now or with those that follow. All that are together are of one kind."""
        if self._waiting and self._bytes + len(message.body) > MOST_BYTES:
            self._send()
        self._waiting.append((key, message))
        self._bytes += len(message.body)
        if not self._under_way or len(self._waiting) >= MOST_EVENTS:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._send)

    def _send(self) -> None:
        """What waits leaves; the answer to it is that to each of them."""
        waiting, self._waiting = self._waiting, []
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not waiting:
            return
        self._under_way += 1
        keys = [key for key, _ in waiting]
        self._publish(group([message for _, message in waiting]), lambda answer: self._told(keys, answer))
        if len(keys) > 1:
            failpoint("settle.group_published")

    def _told(self, keys: list[Key], answer: Answer) -> None:
        if len(keys) > 1:
            failpoint("settle.group_confirmed")
        for key in keys:
            self._answered(key, answer)
        self._under_way -= 1
        self._send()
