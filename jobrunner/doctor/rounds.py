"""Messages that are sent to see whether they arrive: through the jobs exchange, the delay ladder and the ledger.

They are no jobs, go to a queue of this process's own, and are gone with it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from jobrunner.broker import topology
from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.connection import Connection
from jobrunner.broker.explain import explain
from jobrunner.broker.probing import CONTROL_KEY, PROBE_TYPE, QUEUES_KEY
from jobrunner.broker.publisher import Answer, Message, Publisher, Refused, Returned, Stored, Unknown
from jobrunner.broker.stream import Record, StreamReader
from jobrunner.doctor.check import Check, error, of_error, ok, unknown, warning
from jobrunner.envelope import MAX_JOB_BYTES
from jobrunner.errors import BrokerBlocked, JobrunnerError, PermissionRefused
from jobrunner.ids import new_id

ANSWER_S: Final = 10.0
DELAY_S: Final = 1.6
LATE_S: Final = 2.0
LADDER_S: Final = 12.0
_FORBIDDEN, _TOO_LARGE = 403, 406


class Rounds:
    """publishes on one connection, consumes on another: a broker with an alarm reads nothing more of the first.

    blocked: the alarm, once it is known. Close it in the end.
    """

    def __init__(self, asking: Connection, publishing: Connection) -> None:
        self.blocked: str | None = None
        self._asking = asking
        self._publishing = publishing
        self._publisher = Publisher(publishing, confirm_timeout_s=ANSWER_S)
        self._nonce = new_id()
        self._word = f"doctor-{self._nonce}"
        self._arrived: dict[bytes, asyncio.Future[float]] = {}
        self._channel: AmqpChannel | None = None

    def close(self) -> None:
        """Leave; the queue goes with its connection."""
        self._publisher.close()

    async def _publish(self, exchange: str, key: str, body: bytes) -> Answer:
        number = f"{self._nonce}.{hash((exchange, key)) & 0xFFFF:x}.probe"
        return await self._publisher.publish_confirmed(
            Message(exchange, key, body, number, PROBE_TYPE, persistent=False)
        )

    # --- does it take messages at all -------------------------------------------------------------------------------

    async def alarms(self) -> Check:
        """Two publishes: with an alarm the broker answers the first and then reads no further."""
        exchange, key = await self._nowhere()
        if not exchange and not key:
            return unknown("alarms", "this user may publish nowhere that leads nowhere")
        for _ in range(2):
            answer = await self._bounded(self._publish(exchange, key, b""))
            if self._publishing.blocked is not None:
                self.blocked = self._publishing.blocked
                return of_error("alarms", BrokerBlocked(alarm=self.blocked))
            if answer is None or isinstance(answer, Unknown):
                self.blocked = "no answer"
                why = f" within {ANSWER_S:g} s" if answer is None else f": {answer.reason}"
                return error("alarms", f"a message was not confirmed{why}", "rabbitmq-diagnostics alarms")
        return ok("alarms", "it takes messages")

    async def _nowhere(self) -> tuple[str, str]:
        """Where this user may publish what nobody gets."""
        for place in (("", QUEUES_KEY), (topology.CONTROL, CONTROL_KEY)):
            answer = await self._bounded(self._publish(*place, b""))
            if not isinstance(answer, Refused):
                return place
        return "", ""

    async def _bounded(self, work: Any) -> Answer | None:
        """The answer; None where none came: blocked, or silent."""
        task = asyncio.ensure_future(work)
        deadline = time.monotonic() + ANSWER_S
        while not task.done() and time.monotonic() < deadline and self._publishing.blocked is None:
            await asyncio.wait([task], timeout=0.1)
        if not task.done():
            task.cancel()
            return None
        found: Answer = task.result()
        return found

    async def size(self) -> Check:
        """Whether the largest job that we publish is taken."""
        exchange, key = await self._nowhere()
        if not exchange and not key:
            return unknown("size", "this user may publish nowhere that leads nowhere")
        answer = await self._bounded(self._publish(exchange, key, bytes(MAX_JOB_BYTES)))
        if isinstance(answer, Refused) and answer.code == _TOO_LARGE:
            return error("size", f"the broker takes no job of 1 MiB: {answer.reason}", "max_message_size = 8388608")
        if not isinstance(answer, Stored | Returned):
            return error("size", f"a message of 1 MiB was not taken: {getattr(answer, 'reason', 'no answer')}")
        return ok("size", "a message of 1 MiB is taken")

    # --- does it arrive ---------------------------------------------------------------------------------------------

    async def open(self) -> JobrunnerError | None:
        """A queue of our own behind the jobs exchange; the error that stands in the way, or None."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_close(reason: Exception) -> None:
            if not ready.done():
                ready.set_exception(explain(reason, self._asking.url, ANSWER_S))

        def declared(frame: Any) -> None:
            assert self._channel is not None  # noqa: S101 - it has just answered
            queue, channel = frame.method.queue, self._channel
            key = f"#.{topology.encode_word(self._word)}"
            channel.queue_bind(queue, topology.JOBS, routing_key=key, callback=lambda _: consume(channel, queue))

        def consume(channel: AmqpChannel, queue: str) -> None:
            channel.basic_consume(queue, self._take, auto_ack=True, callback=lambda _: ready.set_result(None))

        def opened(channel: AmqpChannel) -> None:
            self._channel = channel
            channel.queue_declare("", exclusive=True, auto_delete=True, callback=declared)

        try:
            self._asking.open_channel(opened, on_close)
            async with asyncio.timeout(ANSWER_S):
                await ready
        except JobrunnerError as exc:
            return exc
        return None

    def _take(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        waiter = self._arrived.get(body)
        if waiter is not None and not waiter.done():
            waiter.set_result(time.monotonic())

    async def _round(self, exchange: str, key: str, body: bytes, within_s: float) -> float | str | None:
        """Seconds until it arrived; why it was not taken; None: it did not arrive in time."""
        waiter = self._arrived[body] = asyncio.get_running_loop().create_future()
        began = time.monotonic()
        answer = await self._bounded(self._publish(exchange, key, body))
        if isinstance(answer, Refused):
            return answer.reason
        if not isinstance(answer, Stored):
            return f"{getattr(answer, 'text', None) or 'no confirm'}"
        try:
            async with asyncio.timeout(within_s):
                arrived: float = await waiter
                return arrived - began
        except TimeoutError:
            return None

    async def jobs(self) -> Check:
        """Through the jobs exchange to a queue."""
        took = await self._round(*topology.route(0.0, self._word), b"now", ANSWER_S)
        if isinstance(took, float):
            return ok("round trip", f"{took * 1000:.0f} ms through {topology.JOBS} to a queue")
        return error("round trip", f"a message through {topology.JOBS} did not arrive: {took or 'lost on the way'}")

    async def ladder(self) -> Check:
        """Through the delay ladder."""
        took = await self._round(*topology.route(DELAY_S, self._word), b"later", LADDER_S)
        if isinstance(took, str):
            return unknown("ladder", f"a delayed message was not taken: {took}")
        if took is None:
            text = f"a message that was delayed by {DELAY_S} s did not come within {LADDER_S:g} s"
            return error(
                "ladder", text, f"jobrunner doctor --fix · rabbitmqctl list_bindings -p {self._asking.url.vhost}"
            )
        late_s = took - DELAY_S
        if late_s > LATE_S:
            return warning("ladder", f"a message that was delayed by {DELAY_S} s came {late_s:.1f} s late")
        return ok("ladder", f"a message that was delayed by {DELAY_S} s came {max(0.0, late_s) * 1000:.0f} ms late")

    async def ledger(self) -> Check:
        """Into the stream that keeps the history, and out of it."""
        key = f"probe.-.{self._nonce}"
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(act: Callable[[], None]) -> None:
            if not found.done():
                act()

        def on_record(record: Record) -> None:
            if record.key == key:  # a word of ours, which nobody signs: see `broker.message`
                settle(lambda: found.set_result(None))

        reader = StreamReader(
            self._asking, topology.LEDGER, on_record, lambda exc: settle(lambda: found.set_exception(exc))
        )
        attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        reader.start("last", lambda: attached.set_result(None))
        await asyncio.wait([attached, found], timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        began = time.monotonic()
        answer = await self._bounded(self._publish(topology.EVENTS, key, b'"probe"'))
        if isinstance(answer, Refused) and answer.code == _FORBIDDEN:
            return unknown("ledger", "this user may not write a probe into the ledger")
        if not isinstance(answer, Stored):
            reason = getattr(answer, "text", "") or getattr(answer, "reason", "") or "no confirm"
            return error("ledger", f"the ledger took no record: {reason}", "jobrunner doctor --fix")
        try:
            async with asyncio.timeout(ANSWER_S):
                await found
        except TimeoutError:
            return error("ledger", "what was written into the ledger cannot be read back", "jobrunner doctor --fix")
        except PermissionRefused:
            return unknown("ledger", "it took a record; this user may not read it")
        finally:
            reader.close()
        return ok("ledger", f"a record came back after {(time.monotonic() - began) * 1000:.0f} ms")
