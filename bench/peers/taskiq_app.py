"""Taskiq with aio-pika: two processes with one task at a time each, a prefetch of 1, a quorum queue, no results."""

import asyncio
import os
from typing import Any

import filling
import marks
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

AT_ONCE = 500

broker = AioPikaBroker(
    os.environ["BENCH_URL"],
    qos=1,
    dead_letter_queue=Queue(name="bench.taskiq.dead", type=QueueType.CLASSIC),
).with_queue(Queue(name="bench.taskiq", type=QueueType.QUORUM, durable=True))


# coroutines, since a plain function would go through a pool of threads


@broker.task("nothing")
async def nothing() -> None:
    marks.mark("nothing")


@broker.task("small")
async def small(text: str) -> None:
    marks.sized(text)


@broker.task("large")
async def large(text: str) -> None:
    marks.sized(text)


@broker.task("spin")
async def spin() -> None:
    marks.spin()


@broker.task("stamp")
async def stamp(sent_at: float) -> None:
    marks.stamp(sent_at)


@broker.task("leak")
async def leak() -> None:
    marks.leak()


TASKS = {"nothing": nothing, "small": small, "large": large, "spin": spin, "stamp": stamp, "leak": leak}


class Producer:
    """A loop of its own; aio-pika waits for a confirm of each."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(broker.startup())

    def one(self, kind: str, *args: Any) -> None:
        self._loop.run_until_complete(TASKS[kind].kiq(*args))

    def bulk(self, kind: str, args: tuple[Any, ...], count: int) -> None:
        self._loop.run_until_complete(self._many(kind, args, count))

    async def _many(self, kind: str, args: tuple[Any, ...], count: int) -> None:
        for begin in range(0, count, AT_ONCE):
            await asyncio.gather(*(TASKS[kind].kiq(*args) for _ in range(min(AT_ONCE, count - begin))))

    def close(self) -> None:
        self._loop.run_until_complete(broker.shutdown())


if __name__ == "__main__":
    filling.main(Producer)
