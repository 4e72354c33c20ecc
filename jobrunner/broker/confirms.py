"""One channel in confirm mode: what is in flight on it, and what the broker said to each."""

import struct
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from pika import exceptions, spec

from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.connection import Connection
from jobrunner.broker.explain import reason_of
from jobrunner.broker.message import STORED, Answer, Message, Refused, Returned, Unknown, properties_of
from jobrunner.errors import BrokerLost, KeyCannotSign

OnAnswer = Callable[[Answer], None]

_REFUSALS = (403, 404, 406)
_UNSENDABLE = (ValueError, AssertionError, struct.error, exceptions.ShortStringTooLong, KeyCannotSign)


class ConfirmChannel:
    """A publishing channel that opens itself again after each end.

    ready: publishes may go out. in_flight: sent and not answered. on_change: called after it became ready, after
    answers, and after it was lost.
    """

    def __init__(self, connection: Connection, on_change: Callable[[], None]) -> None:
        self.ready = False
        self._connection = connection
        self._on_change = on_change
        self._channel: AmqpChannel | None = None
        self._opening = False
        self._refused = False
        self._last_tag = 0
        # tag -> (message, whom to tell, when it was sent); in the order of sending
        self._open: dict[int, tuple[Message, OnAnswer, float]] = {}
        self._returned: dict[int, Returned] = {}

    @property
    def in_flight(self) -> int:
        """Sent and not answered."""
        return len(self._open)

    @property
    def oldest(self) -> float | None:
        """When the oldest unanswered publish was sent, on the caller's clock."""
        for _, _, at in self._open.values():
            return at
        return None

    def open(self) -> None:
        """Open the channel, unless that is under way."""
        if self._opening or self.ready or not self._connection.is_open:
            return
        self._opening = True
        try:
            self._connection.open_channel(self._on_open, self._on_close)
        except BrokerLost:
            self._opening = False

    def send(self, message: Message, on_answer: OnAnswer, at: float) -> None:
        """Publish now; call only while `ready`. What cannot be encoded is answered as refused."""
        channel = self._channel
        if channel is None or not channel.usable:
            on_answer(Unknown("not connected"))
            return
        try:
            properties = properties_of(message, self._connection.url)
            channel.publish(message.exchange, message.key, message.body, properties)
        except _UNSENDABLE as exc:
            error = exc if isinstance(exc, KeyCannotSign) else None
            on_answer(Refused(f"it cannot be sent: {str(exc) or type(exc).__name__}", error=error))
            return
        self._last_tag += 1
        self._open[self._last_tag] = (message, on_answer, at)

    # --- what the broker says ---------------------------------------------------------------------------------------

    def _on_open(self, channel: AmqpChannel) -> None:
        self._channel = channel
        channel.on_confirm = self._on_ack
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_nack, callback=self._on_select_ok)

    def _on_select_ok(self, _method_frame: Any) -> None:
        self._opening = False
        self._last_tag = 0
        self.ready = True
        self._connection.proven()
        self._on_change()

    def _on_ack(self, method: Any) -> None:
        if method.multiple:
            for tag in self._up_to(method.delivery_tag):
                self._stored(tag)
        else:
            self._stored(method.delivery_tag)
        self._renew()
        self._on_change()

    def _up_to(self, last: int) -> list[int]:
        """The tags that an answer to several is for: they are kept in the order of sending."""
        return list(takewhile(lambda tag: tag <= last, self._open))

    def _stored(self, tag: int) -> None:
        entry = self._open.pop(tag, None)
        if entry is not None:
            # a message that no queue took is acked as well, after its return
            entry[1](self._returned.pop(tag, STORED) if self._returned else STORED)

    def _on_nack(self, method_frame: Any) -> None:
        method = method_frame.method
        if not isinstance(method, spec.Basic.Nack):
            return
        tags = self._up_to(method.delivery_tag) if method.multiple else [method.delivery_tag]
        for tag in tags:
            entry = self._open.pop(tag, None)
            self._returned.pop(tag, None)
            if entry is not None:
                entry[1](Refused("the queue is full or down"))
        self._refused = True
        self.ready = False
        self._renew()
        self._on_change()

    def _renew(self) -> None:
        """After a refusal the next publish goes out on a new channel: RabbitMQ 3.10 remembers for a channel that a
        queue was full, and forgets to tell it when somebody has removed the queue's limit.
        """
        if self._refused and not self._open and self._channel is not None and self._channel.usable:
            self._refused = False
            self._channel.close()

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        for tag, (message, _, _) in self._open.items():
            sent = (message.message_id, message.exchange, message.key)
            if sent == (properties.message_id, method.exchange, method.routing_key) and tag not in self._returned:
                self._returned[tag] = Returned(method.reply_text, method.reply_code)
                return

    def _on_close(self, reason: Exception) -> None:
        self.ready = self._opening = self._refused = False
        self._channel = None
        unanswered = list(self._open.values())
        self._open.clear()
        self._returned.clear()
        answer = _answer_to_close(reason, len(unanswered))
        for _, on_answer, _ in unanswered:
            on_answer(answer)
        self.open()
        self._on_change()


def _answer_to_close(reason: Exception, in_flight: int) -> Answer:
    """What a channel's end means for those in flight: a channel that the broker closed over one publish refused that
    one; with several, any of them can have been it, and the others may be stored.
    """
    text = reason_of(reason)
    if isinstance(reason, exceptions.ChannelClosedByBroker) and reason.reply_code in _REFUSALS:
        return Refused(text, reason.reply_code) if in_flight == 1 else Unknown(text, reason.reply_code)
    return Unknown(text)
