"""Dramatiq: two processes with one thread each, a prefetch of 1, a quorum queue, no results, no confirms."""

import os
from typing import Any

import dramatiq
import filling
import marks
from dramatiq.brokers.rabbitmq import RabbitmqBroker


class QuorumBroker(RabbitmqBroker):
    """With quorum queues, as its options cannot say."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


broker = QuorumBroker(url=os.environ["BENCH_URL"])
dramatiq.set_broker(broker)


def _actor(name: str, function: Any) -> Any:
    return dramatiq.actor(function, actor_name=name, queue_name="bench.dramatiq")


ACTORS = {
    "nothing": _actor("nothing", marks.nothing),
    "small": _actor("small", marks.sized),
    "large": _actor("large", marks.sized),
    "spin": _actor("spin", marks.spin),
    "stamp": _actor("stamp", marks.stamp),
    "leak": _actor("leak", marks.leak),
}


class Producer:
    """One connection that is kept."""

    def one(self, kind: str, *args: Any) -> None:
        ACTORS[kind].send(*args)

    def bulk(self, kind: str, args: tuple[Any, ...], count: int) -> None:
        for _ in range(count):
            ACTORS[kind].send(*args)

    def close(self) -> None:
        broker.close()


if __name__ == "__main__":
    filling.main(Producer)
