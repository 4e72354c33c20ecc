"""Celery: prefork with two processes, late acks, one message reserved for each process, a quorum queue, no results."""

import os
from typing import Any

import filling
import marks
from celery import Celery
from kombu import Queue

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="bench.celery",
    task_queues=[Queue("bench.celery", durable=True, queue_arguments={"x-queue-type": "quorum"})],
    worker_prefetch_multiplier=1,
    worker_concurrency=2,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)

TASKS = {
    "nothing": app.task(name="nothing")(marks.nothing),
    "small": app.task(name="small")(marks.sized),
    "large": app.task(name="large")(marks.sized),
    "spin": app.task(name="spin")(marks.spin),
    "stamp": app.task(name="stamp")(marks.stamp),
    "leak": app.task(name="leak")(marks.leak),
}


class Producer:
    """One connection that is kept."""

    def __init__(self) -> None:
        self._producer = app.amqp.Producer(app.connection_for_write())

    def one(self, kind: str, *args: Any) -> None:
        TASKS[kind].apply_async(args, producer=self._producer)

    def bulk(self, kind: str, args: tuple[Any, ...], count: int) -> None:
        for _ in range(count):
            self.one(kind, *args)

    def close(self) -> None:
        self._producer.close()
        self._producer.connection.release()


if __name__ == "__main__":
    filling.main(Producer)
