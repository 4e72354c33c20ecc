"""Where jobs go: their queues, the ladder and the place for those that wait, made where they are missing."""

import contextlib
from collections.abc import Sequence
from typing import Final

from jobrunner.broker import declare, topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.topology import Binding, Exchange
from jobrunner.envelope import Envelope
from jobrunner.errors import EntityDiffers, PermissionRefused, Unroutable

_TOP: Final = topology.level(topology.LEVELS - 1)


class Places:
    """What one program knows to exist in the broker, so that it need not ask for each job."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queues: set[str] = set()
        self._ladders: set[str] = set()
        self._has_waiting = False

    def has(self, envelope: Envelope) -> bool:
        """Whether all that the job needs on its way is known to exist."""
        if envelope.waits and not self._has_waiting:
            return False
        return envelope.job.queue in (self._ladders if self._needs_ladder(envelope) else self._queues)

    def _needs_ladder(self, envelope: Envelope) -> bool:
        """Whether the job comes to its queue from one of our exchanges, to which the queue must be bound."""
        if envelope.waits:
            return True
        return bool(envelope.state.not_before_ms) and self._connection.url.route != "jobs"

    def found(self, queue: str) -> None:
        """The queue exists."""
        self._queues.add(queue)

    def lost(self, queue: str) -> None:
        """The queue may be gone: it is asked for again, with what leads to it."""
        self._queues.discard(queue)
        self._ladders.discard(queue)
        self._has_waiting = False
        # with a queue that was deleted its binding has gone, also where the queue is made again
        self._connection.known -= {topology.jobs_binding(queue).key, _TOP}

    async def ensure(self, envelope: Envelope) -> None:
        """The queue is there, for a delayed job the ladder, and for it and one that waits the way from there.

        Raises: Unroutable when there is no such queue and this user may not create it.
        """
        queue = envelope.job.queue
        if queue not in self._queues:
            try:
                if await declare.queue_depth(self._connection, queue) is None:
                    await ensure_user_queue(self._connection, queue)
            except PermissionRefused as exc:
                # not even a look is allowed on some brokers (RabbitMQ 4.2.6, 4.3.0): the publish itself will tell
                if exc.fields.get("verb") == "create":
                    raise Unroutable(queue=queue, user=self._connection.url.user) from exc
            self._queues.add(queue)
        if self._needs_ladder(envelope) and queue not in self._ladders:
            await ensure_ladder(self._connection, queue)
            self._ladders.add(queue)
        if envelope.waits and not self._has_waiting:
            await ensure_waiting(self._connection)
            self._has_waiting = True

    async def ensure_all(self, envelopes: Sequence[Envelope]) -> None:
        """The same for each of these."""
        for envelope in envelopes:
            if not self.has(envelope):
                await self.ensure(envelope)


async def ensure_user_queue(connection: Connection, queue: str) -> None:
    """Create the queue unless it is there; one that someone else made, with whatever settings, is used as it is.

    Raises: PermissionRefused, BrokerLost.
    """
    with contextlib.suppress(EntityDiffers):
        await declare.declare(connection, [topology.user_queue(queue)])


async def ensure_ladder(connection: Connection, queue: str) -> None:
    """Make sure that delayed jobs find the ladder, and from it `queue`. Asks once in a process, then remembers.

    Raises: PermissionRefused, EntityDiffers, BrokerLost.
    """
    if _TOP not in connection.known:
        if not await declare.exists(connection, [Exchange(_TOP, "topic")]):
            await declare.declare(connection, [*topology.startup(), *topology.ladder()])
        connection.known.add(_TOP)
    binding = topology.jobs_binding(queue)
    if binding.key not in connection.known:
        await _bind(connection, binding)
        connection.known.add(binding.key)


async def ensure_waiting(connection: Connection) -> None:
    """Make sure that there is a place for jobs that wait for others. Raises: PermissionRefused, BrokerLost."""
    if not await declare.exists(connection, [Exchange(topology.WAITING, "fanout")]):
        await declare.declare(connection, [*topology.startup()])


async def _bind(connection: Connection, binding: Binding) -> None:
    with contextlib.suppress(PermissionRefused):  # then an administrator has bound it, or it shows in `unrouted`
        try:
            await declare.try_declare(connection, [binding])
        except declare.Missing:
            await ensure_user_queue(connection, binding.destination)
            await declare.declare(connection, [*topology.startup(), binding])
