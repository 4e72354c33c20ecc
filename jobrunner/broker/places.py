"""Where jobs go: the queues and the ladder that a publisher has seen to exist, made where they are missing."""

from jobrunner.broker import declare
from jobrunner.broker.connection import Connection
from jobrunner.envelope import Envelope
from jobrunner.errors import PermissionRefused, Unroutable


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

    async def ensure(self, envelope: Envelope) -> None:
        """The queue is there, for a delayed job the ladder, and for it and one that waits the way from there.

        Raises: Unroutable when there is no such queue and this user may not create it.
        """
        queue = envelope.job.queue
        if queue not in self._queues:
            try:
                if await declare.queue_depth(self._connection, queue) is None:
                    await declare.ensure_user_queue(self._connection, queue)
            except PermissionRefused as exc:
                # not even a look is allowed on some brokers (RabbitMQ 4.2.6, 4.3.0): the publish itself will tell
                if exc.fields.get("verb") == "create":
                    raise Unroutable(queue=queue, user=self._connection.url.user) from exc
            self._queues.add(queue)
        if self._needs_ladder(envelope) and queue not in self._ladders:
            await declare.ensure_ladder(self._connection, queue)
            self._ladders.add(queue)
        if envelope.waits and not self._has_waiting:
            await declare.ensure_waiting(self._connection)
            self._has_waiting = True
