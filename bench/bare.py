"""The yardstick: a loop of pika callbacks that does a worker's AMQP work and nothing else.

For each delivery it publishes an event of the same size to the same exchange, mandatory and confirmed, and acks once it
is confirmed. It runs no job, starts no process, decides nothing: what remains is the broker and pika.

    python bench/bare.py URL QUEUE JOBS --shape one|each [--event-bytes N]

one: one process, one connection that consumes with `--slots` channels of prefetch 1, one that publishes: the same
connections and channels as the worker's. each: one of several such processes, each with one connection of two channels.
Prints one JSON line: jobs, first (the first delivery), last (the last ack), as seconds since the epoch.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel

EVENTS = "jobrunner.v1.events"
IDLE_S = 1.5
"""Without a delivery for so long, another process has taken the rest."""


class Bare:
    """jobs: how many there are in all; with several processes each ends when none is left."""

    def __init__(self, jobs: int, event: bytes) -> None:
        self.jobs = jobs
        self.event = event
        self.done = 0
        self.first = 0.0
        self.last = 0.0
        self.over = asyncio.Event()
        self.waiting: dict[int, tuple[Channel, int]] = {}
        self.published = 0
        self.publisher: Channel

    def deliver(self, channel: Channel, method: Any, properties: pika.BasicProperties, _body: bytes) -> None:
        if not self.first:
            self.first = time.time()
        self.published += 1
        self.waiting[self.published] = (channel, method.delivery_tag)
        job_id = properties.message_id
        self.publisher.basic_publish(
            EVENTS,
            f"succeeded.-.{job_id}",
            self.event,
            pika.BasicProperties(
                content_type="application/json",
                delivery_mode=2,
                message_id=f"{job_id}.0.succeeded",
                type="jobrunner.event",
                timestamp=int(time.time()),
            ),
            mandatory=True,
        )

    def confirmed(self, frame: Any) -> None:
        if frame.method.NAME != "Basic.Ack":
            sys.exit("the broker refused an event")
        upto = frame.method.delivery_tag
        tags = [tag for tag in self.waiting if tag <= upto] if frame.method.multiple else [upto]
        for tag in tags:
            channel, delivery = self.waiting.pop(tag)
            channel.basic_ack(delivery)
            self.done += 1
            self.last = time.time()
        if self.done >= self.jobs:
            self.over.set()


async def connect(url: str) -> AsyncioConnection:
    opened = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        pika.URLParameters(url),
        on_open_callback=opened.set_result,
        on_open_error_callback=lambda _connection, error: opened.set_exception(RuntimeError(repr(error))),
        custom_ioloop=asyncio.get_running_loop(),
    )
    connection: AsyncioConnection = await opened
    return connection


async def answer(call: Callable[..., Any], name: str = "callback") -> Any:
    """The one argument that a callback gets."""
    future = asyncio.get_running_loop().create_future()
    call(**{name: future.set_result})
    return await future


async def open_channel(connection: AsyncioConnection) -> Channel:
    channel: Channel = await answer(connection.channel, "on_open_callback")
    return channel


async def run(url: str, queue: str, bare: Bare, shape: str, slots: int) -> None:
    connections = [await connect(url)]
    if shape == "one":
        connections.append(await connect(url))
    bare.publisher = await open_channel(connections[-1])
    future = asyncio.get_running_loop().create_future()
    bare.publisher.confirm_delivery(bare.confirmed, callback=future.set_result)
    await future
    consumers = [await open_channel(connections[0]) for _ in range(slots if shape == "one" else 1)]
    for channel in consumers:
        await answer(partial(channel.basic_qos, prefetch_count=1))
    for channel in consumers:
        channel.basic_consume(queue, bare.deliver)
    while not bare.over.is_set():
        before = bare.done
        try:
            async with asyncio.timeout(IDLE_S):
                await bare.over.wait()
        except TimeoutError:
            if bare.done == before and (bare.done or shape == "each"):
                break
    for connection in connections:
        closed = asyncio.Event()
        connection.add_on_close_callback(lambda *_, closed=closed: closed.set())
        connection.close()
        await closed.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("queue")
    parser.add_argument("jobs", type=int)
    parser.add_argument("--shape", choices=["one", "each"], default="one")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--event-bytes", type=int, default=300)
    options = parser.parse_args()
    bare = Bare(options.jobs, b"x" * options.event_bytes)
    asyncio.run(run(options.url, options.queue, bare, options.shape, options.slots))
    print(json.dumps({"jobs": bare.done, "first": bare.first, "last": bare.last}))


if __name__ == "__main__":
    main()
