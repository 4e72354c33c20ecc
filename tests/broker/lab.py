"""What the broker tests share: a loop with nothing left behind, connections with an inbox, jobs and queues."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from jobrunner.broker import declare, places, topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.consumer import ConsumerReady, Delivered, Delivery, SlotConsumer
from jobrunner.broker.publisher import Answer, Message, Publisher, job_message
from jobrunner.brokerurl import parse_url
from jobrunner.envelope import Envelope, new_job, seal

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 30.0


def in_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a test on a loop of its own; no task may be left when it ends."""

    async def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        await test(*args, **kwargs)
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(checked(*args, **kwargs))

    return wrapper


class Inbox:
    """Keeps what is notified; a test waits for what it expects, and may ask what else there was."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._arrived = asyncio.Event()

    def put(self, message: Any) -> None:
        self.seen.append(message)
        self._arrived.set()

    async def take(self, kind: type[T], timeout_s: float = PATIENCE_S) -> T:
        """The first message of that kind, taken out."""
        async with asyncio.timeout(timeout_s):
            while True:
                for message in self.seen:
                    if isinstance(message, kind):
                        self.seen.remove(message)
                        return message
                self._arrived.clear()
                await self._arrived.wait()

    async def delivery(self, timeout_s: float = PATIENCE_S) -> Delivery:
        """The next delivery."""
        return (await self.take(Delivered, timeout_s)).delivery

    def holds(self, kind: type) -> bool:
        """Whether a message of that kind waits."""
        return any(isinstance(message, kind) for message in self.seen)


class Lab:
    """Connections to one broker, all closed in the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.inbox = Inbox()
        self._connections: list[Connection] = []
        self._consumers: list[SlotConsumer] = []
        self._publishers: list[Publisher] = []

    async def connect(self, role: str = "test", *, url: str | None = None, **options: Any) -> Connection:
        """An open connection. options: of `Connection`."""
        connection = Connection(parse_url(url or self.url), role=role, notify=self.inbox.put, **options)
        self._connections.append(connection)
        await connection.connect_once()
        return connection

    async def publisher(self, url: str | None = None, **options: Any) -> Publisher:
        """A publisher on a connection of its own. options: of `Publisher`."""
        publisher = Publisher(await self.connect("publish", url=url), **options)
        self._publishers.append(publisher)
        return publisher

    async def consumer(
        self,
        *queues: str,
        slot: int = 0,
        connection: Connection | None = None,
        ready: bool = True,
        prefetch: int = 1,
    ) -> SlotConsumer:
        """A consumer, on a connection of its own unless one is given, once it consumes."""
        on = connection or await self.connect("consume")
        consumer = SlotConsumer(on, slot, queues, self.inbox.put, prefetch=prefetch)
        self._consumers.append(consumer)
        consumer.start()
        if ready:
            await self.inbox.take(ConsumerReady)
        return consumer

    async def take_unrouted(self, job_id: str) -> None:
        """Take messages out of `jobrunner.v1.unrouted` until that job comes."""
        consumer = await self.consumer(topology.UNROUTED)
        while (delivery := await self.inbox.delivery()).message_id != job_id:
            consumer.ack(delivery)
        consumer.ack(delivery)

    async def close(self) -> None:
        for consumer in self._consumers:
            await consumer.close()
        for connection in self._connections:
            await connection.close()
        for publisher in self._publishers:
            publisher.close()


@contextlib.asynccontextmanager
async def lab(url: str, *queues: str) -> AsyncIterator[Lab]:
    """A lab in which these queues exist; they are deleted in the end."""
    made = Lab(url)
    admin = await made.connect("admin")
    for queue in queues:
        await places.ensure_user_queue(admin, queue)
    try:
        yield made
    finally:
        await delete(made, *queues)
        await made.close()


async def on_channel(connection: Connection, ask: Callable[[Any, Callable[[Any], None]], object]) -> Any:
    """What the broker answers on a channel of its own: for what only tests do, such as deleting a queue."""
    async with declare._throwaway(connection) as channel:
        return await channel.ask(lambda done: ask(channel.amqp, done))


async def delete(made: Lab, *queues: str) -> None:
    """Delete queues."""
    connection = await made.connect("admin")
    for queue in queues:
        await on_channel(connection, lambda channel, done, name=queue: channel.queue_delete(name, callback=done))


def a_job(queue: str, **fields: Any) -> Envelope:
    """A job for that queue."""
    return seal(new_job(queue=queue, task="tasks:add", **fields))


def to_queue(envelope: Envelope) -> Message:
    """Its publish, straight to its queue."""
    return job_message(envelope, "", envelope.job.queue)


def delayed(envelope: Envelope, delay_s: float) -> Message:
    """Its publish, into the ladder."""
    return job_message(envelope, *topology.route(delay_s, envelope.job.queue))


class Answers:
    """Collects the answers to many publishes, in their order."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.by_number: dict[int, Answer] = {}
        self._sent = 0

    def publish(self, message: Message) -> None:
        number = self._sent
        self._sent += 1
        self._publisher.publish(message, lambda answer: self.by_number.__setitem__(number, answer))

    async def all(self) -> list[Answer]:
        async with asyncio.timeout(PATIENCE_S * 2):
            await self._publisher.drain()
        return [self.by_number[number] for number in range(self._sent)]
