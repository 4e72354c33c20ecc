"""Declaring what `topology` lists, and asking what exists, each time on a channel that is thrown away afterwards.

The broker answers a refused declare by closing the channel, so no other work may be on it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pika import exceptions

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.amqp import AmqpChannel
from jobrunner.broker.connection import Connection
from jobrunner.broker.explain import explain
from jobrunner.broker.publisher import Publisher, Stored, event_message
from jobrunner.broker.topology import Binding, Declaration, Exchange, Queue
from jobrunner.errors import BrokerLost, PermissionRefused
from jobrunner.ids import new_id

if TYPE_CHECKING:
    from pika.exchange_type import ExchangeType

T = TypeVar("T")

DECLARE_TIMEOUT_S = 30.0
"""Bound of one exchange with the broker, such as the whole ladder."""

_NOT_FOUND = 404


_STARTING = "is down or inaccessible"
_STARTING_S = 15.0
_LOOK_AGAIN_S = 0.2


class Missing(Exception):
    """The broker has no such queue or exchange. text: its own words, which name it."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


class _Channel:
    """A channel on which one thing at a time is awaited; its end raises there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiter: asyncio.Future[Any] | None = None
        self._ended: Exception | None = None
        self.amqp: AmqpChannel

    async def open(self) -> None:
        """Open it. Raises: BrokerLost."""

        def start(done: Callable[[Any], None]) -> None:
            self._connection.open_channel(done, self._on_close)

        self.amqp = await self.ask(start)

    async def ask(self, send: Callable[[Callable[[Any], None]], object]) -> Any:
        """The answer to what `send` sends, given the callback for it.

        Raises: what closed the channel; TimeoutError.
        """
        if self._ended is not None:
            raise self._ended
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        send(lambda answer: None if waiter.done() else waiter.set_result(answer))
        async with asyncio.timeout(DECLARE_TIMEOUT_S):
            return await waiter

    def _on_close(self, reason: Exception) -> None:
        self._ended = reason
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(reason)

    def close(self) -> None:
        """Close it, without waiting."""
        if hasattr(self, "amqp") and self.amqp.usable:
            self.amqp.close()


class _NotYet(Exception):
    """The queue is there, but not ready."""


def is_missing(exc: Exception) -> bool:
    """Whether the broker closed a channel because there is no such queue or exchange.

    For a second or so after its start RabbitMQ takes logins while its queues still elect their leaders; it then says
    404 as well, with another text.
    """
    return getattr(exc, "reply_code", 0) == _NOT_FOUND and _STARTING not in str(getattr(exc, "reply_text", ""))


async def _patiently(connection: Connection, work: Callable[[_Channel], Awaitable[T]], verb: str = "create") -> T:
    """What `work` gives, on a channel of its own; again while the broker says that it is still starting.

    Raises: Missing; JobrunnerError.
    """
    deadline = time.monotonic() + _STARTING_S
    while True:
        try:
            async with _throwaway(connection, verb) as channel:
                return await work(channel)
        except _NotYet as exc:
            if time.monotonic() >= deadline:
                raise BrokerLost(address=connection.url.address, reason=str(exc)) from exc
        await asyncio.sleep(_LOOK_AGAIN_S)


@contextlib.asynccontextmanager
async def _throwaway(connection: Connection, verb: str = "create") -> AsyncIterator[_Channel]:
    """A channel for a few declares. Raises: Missing for 404, otherwise JobrunnerError."""
    channel = _Channel(connection)
    try:
        await channel.open()
        yield channel
    except exceptions.ChannelClosedByBroker as exc:
        if is_missing(exc):
            raise Missing(exc.reply_text) from exc
        if exc.reply_code == _NOT_FOUND:
            raise _NotYet(exc.reply_text) from exc
        raise explain(exc, connection.url, DECLARE_TIMEOUT_S, verb=verb) from exc
    except (exceptions.AMQPError, TimeoutError) as exc:
        raise explain(exc, connection.url, DECLARE_TIMEOUT_S, verb=verb) from exc
    finally:
        channel.close()


def _send(channel: AmqpChannel, declaration: Declaration, done: Callable[[Any], None] | None) -> None:
    """Declare one thing. done None: the broker is not to answer, and the next can follow at once."""
    match declaration:
        case Exchange(name=name, kind=kind, arguments=arguments):
            exchange_type = cast("ExchangeType", kind)
            channel.exchange_declare(name, exchange_type, durable=True, arguments=arguments, callback=done)
        case Queue(name=name, arguments=arguments):
            channel.queue_declare(name, durable=True, arguments=arguments, callback=done)
        case Binding(source=source, destination=destination, key=key, to_exchange=True):
            channel.exchange_bind(destination, source, key, callback=done)
        case Binding(source=source, destination=destination, key=key):
            channel.queue_bind(destination, source, key, callback=done)


def _send_passive(channel: AmqpChannel, entity: Exchange | Queue, done: Callable[[Any], None] | None) -> None:
    if isinstance(entity, Queue):
        channel.queue_declare(entity.name, passive=True, callback=done)
    else:
        channel.exchange_declare(entity.name, passive=True, callback=done)


async def declare(connection: Connection, declarations: Iterable[Declaration]) -> None:
    """Create what is not there yet. All are sent at once; the answer to the last one stands for all.

    Raises: PermissionRefused (403), EntityDiffers (406), BrokerLost, also for a binding whose ends are missing.
    """
    try:
        await try_declare(connection, declarations)
    except Missing as exc:
        raise BrokerLost(address=connection.url.address, reason=exc.text) from exc


async def try_declare(connection: Connection, declarations: Iterable[Declaration]) -> None:
    """The same, where the ends of a binding may be missing. Raises: Missing then; otherwise as `declare`."""
    *before, last = declarations

    async def send_all(channel: _Channel) -> None:
        for declaration in before:
            _send(channel.amqp, declaration, None)
        await channel.ask(lambda done: _send(channel.amqp, last, done))

    await _patiently(connection, send_all)


async def exists(connection: Connection, entities: Iterable[Exchange | Queue]) -> bool:
    """Whether all of these are there. A refusal counts as there: from RabbitMQ 4.2.6 asking needs a right.

    Raises: JobrunnerError.
    """
    *before, last = entities

    async def ask_all(channel: _Channel) -> None:
        for entity in before:
            _send_passive(channel.amqp, entity, None)
        await channel.ask(lambda done: _send_passive(channel.amqp, last, done))

    try:
        await _patiently(connection, ask_all)
    except Missing:
        return False
    except PermissionRefused:
        return True
    return True


async def declare_startup(connection: Connection, publisher: Publisher) -> None:
    """What a worker needs before its first job. Who creates the ledger also publishes its first record, `genesis`.

    Raises: PermissionRefused when something is missing and this user may not create it; EntityDiffers; BrokerLost.
    """
    declarations = topology.startup()
    entities = [each for each in declarations if not isinstance(each, Binding)]
    has_ledger = await exists(connection, [Queue(topology.LEDGER, {})])
    try:
        await declare(connection, declarations)
    except PermissionRefused:
        # an administrator has declared it, and a worker's user need not be able to
        if not await exists(connection, entities):
            raise
    if not has_ledger:
        await publish_genesis(publisher)


async def publish_genesis(publisher: Publisher) -> None:
    """The first record of a ledger: tells this stream from one of the same name that came before or after it.

    Raises: BrokerLost when it was not stored.
    """
    answer = await publisher.publish_confirmed(event_message(events.Genesis(at=time.time(), id=new_id())))
    if not isinstance(answer, Stored):
        raise BrokerLost(address=publisher.connection.url.address, reason=f"the ledger took no record: {answer}")


async def queue_depth(connection: Connection, queue: str) -> tuple[int, int] | None:
    """Ready messages and consumers of a queue; None if there is no such queue. 0 is no proof of emptiness: messages
    at work do not count, and a quorum queue's leader may not have answered in time.

    Raises: JobrunnerError; PermissionRefused from RabbitMQ 4.2.6 for a user who may not create the queue.
    """
    try:
        answer = await _patiently(
            connection,
            lambda channel: channel.ask(lambda done: channel.amqp.queue_declare(queue, passive=True, callback=done)),
            "read",
        )
    except Missing:
        return None
    return answer.method.message_count, answer.method.consumer_count


async def on_throwaway(connection: Connection, ask: Callable[[AmqpChannel, Callable[[Any], None]], object]) -> Any:
    """The answer to one question on a channel of its own; a refusal ends that channel and nothing else.

    ask: sends it, with the callback for its answer. Raises: Missing for 404, otherwise JobrunnerError.
    """
    async with _throwaway(connection) as channel:
        return await channel.ask(lambda done: ask(channel.amqp, done))


async def delete_queue(connection: Connection, queue: str) -> int:
    """Delete a queue; gives how many messages went with it. Raises: Missing, PermissionRefused, BrokerLost."""
    async with _throwaway(connection) as channel:
        answer = await channel.ask(lambda done: channel.amqp.queue_delete(queue, callback=done))
    return int(answer.method.message_count)
