"""Whether the broker takes messages now: asked before a job is given to it, so that a refusal means that nothing
was queued.
"""

import asyncio
import time

from pika import BasicProperties

from jobrunner.broker import topology
from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.changes import ConnectionBlocked, ConnectionDown, ConnectionMessage
from jobrunner.broker.publisher import Message, Publisher, Unknown
from jobrunner.durations import format_duration
from jobrunner.errors import BrokerBlocked, BrokerTimeout, JobrunnerError, PermissionRefused

PROBE_TYPE = "jobrunner.probe"
"""The type of messages that are sent to see whether they arrive. They are no jobs: wherever one is found, it may go."""

QUEUES_KEY = "jobrunner.v1.nowhere"
CONTROL_KEY = "probe"
"""Nothing is bound to either. The second is for users who may not publish to queues by name."""

GOOD_FOR_S = 1.0
"""An answer of the broker is good for so long as a sign that it takes messages."""


class Prober:
    """alarm: why the broker takes nothing, as it has said; None: it has said nothing."""

    def __init__(self, publisher: Publisher, timeout_s: float) -> None:
        self.alarm: str | None = None
        self._publisher = publisher
        self._url = publisher.connection.url
        self._timeout_s = timeout_s
        self._answered = float("-inf")
        self._over: asyncio.TimerHandle | None = None

    def hear(self, message: ConnectionMessage) -> None:
        """A blocked broker answers nothing at all: what is under way is given up after `timeout_s`.

        The next connection knows of no alarm until the broker speaks of it there.
        """
        if isinstance(message, ConnectionBlocked):
            self.close()
            self.alarm = message.reason
            abort = self._publisher.connection.abort
            self._over = asyncio.get_running_loop().call_later(self._timeout_s, abort, message.reason)
            return
        self.close()
        if not isinstance(message, ConnectionDown):
            self.alarm = None

    def close(self) -> None:
        """Give nothing up any more."""
        if self._over is not None:
            self._over.cancel()

    def answered(self) -> None:
        """The broker has just stored something."""
        self._answered = time.monotonic()

    async def ask(self) -> None:
        """Return when the broker takes messages.

        A broker with a memory or disk alarm answers the first publish, then reads no further; what it has not read it
        stores when the alarm ends, long after its publisher gave up. Hence two probes: the second is answered only
        where there is no alarm. Source: RabbitMQ docs "Blocked Connections".
        Raises: BrokerBlocked, BrokerTimeout, and then nothing was queued.
        """
        if time.monotonic() - self._answered < GOOD_FOR_S:
            return
        exchange, key = ("", QUEUES_KEY) if self._url.route == "queues" else (topology.CONTROL, CONTROL_KEY)
        message = Message(exchange=exchange, key=key, body=b"", message_id="probe", type="probe", persistent=False)
        for _ in range(2):
            answer = await self._publisher.publish_confirmed(message)
            if isinstance(answer, Unknown):
                if self.alarm is not None:
                    raise BrokerBlocked(alarm=self.alarm)
                raise BrokerTimeout(address=self._url.address, timeout=format_duration(self._timeout_s))
        self.answered()

    def forbidden(self) -> JobrunnerError:
        """What it means that this user may not publish where jobs go."""
        url = self._url
        if url.route == "jobs":
            return PermissionRefused(user=url.user, verb="write", entity=topology.JOBS, vhost=url.vhost)
        hint = 'in jobrunner.toml: [broker] route = "jobs" · JOBRUNNER_BROKER_ROUTE=jobs'
        return PermissionRefused(user=url.user, verb="write", entity="amq.default", vhost=url.vhost, hint=hint)


def publish_invalid(channel: AmqpChannel, exchange: str, key: str) -> None:
    """Publish what no broker takes: it closes the channel with 403 where the user may not publish there, else with 406.

    Source: rabbit_channel.erl: the right on the exchange is looked up first, then the expiration is read; the right on
    the key comes before it up to 4.0.2, and after it later.
    """
    channel.basic_publish(exchange, key, b"", BasicProperties(expiration="none"))
