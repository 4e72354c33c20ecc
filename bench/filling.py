"""A producer in a process of its own, warm before the clock starts: `python peers/x_app.py [STEP]...`.

STEP: HOW:KIND:COUNT. HOW: `bulk`, the fastest way that the runner has for many jobs; `one`, one after the other as a
program does that has one job; `stamp`, a job each 25 ms that measures when it starts. Prints the seconds of each step
as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

SPACE_S = 0.025
PAYLOADS: dict[str, tuple[Any, ...]] = {"nothing": (), "spin": (), "leak": (), "small": ("x" * 1024,)}
PAYLOADS["large"] = ("x" * 102_400,)


class Producer(Protocol):
    """One runner's client."""

    def one(self, kind: str, *args: Any) -> None:
        """Enqueue as a program does that has one job."""

    def bulk(self, kind: str, args: tuple[Any, ...], count: int) -> None:
        """Enqueue many equal jobs in the fastest way."""

    def close(self) -> None:
        """Everything is with the broker when this returns."""


def main(connect: Callable[[], Producer]) -> None:
    """Do what the command line says."""
    producer = connect()
    producer.one("nothing")  # connects, declares
    took_s = []
    for step in sys.argv[1:]:
        how, kind, count = step.split(":")
        began = time.perf_counter()
        _do(producer, how, kind, int(count))
        took_s.append(time.perf_counter() - began)
    producer.close()
    print(json.dumps(took_s))


def _do(producer: Producer, how: str, kind: str, count: int) -> None:
    if how == "bulk":
        producer.bulk(kind, PAYLOADS[kind], count)
        return
    for _ in range(count):
        if how == "one":
            producer.one(kind, *PAYLOADS[kind])
        else:
            producer.one(kind, time.time())
            time.sleep(SPACE_S)  # noqa: TID251 - the space is what is asked for
