"""A producer in a process of its own, warm before the clock starts: `python peers/x_app.py HOW COUNT`.

HOW: `bulk KIND`, the fastest way that the runner has for many jobs; `one`, one after the other, each waited for as the
runner does it by itself; `stamp`, a job each 25 ms that measures when it starts. Prints seconds as JSON.
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
    how, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    producer = connect()
    producer.one("nothing")  # connects, declares
    began = time.perf_counter()
    if how == "bulk":
        producer.bulk(kind, PAYLOADS[kind], count)
        producer.close()
    elif how == "one":
        for _ in range(count):
            producer.one(kind, *PAYLOADS[kind])
        producer.close()
    else:
        for _ in range(count):
            producer.one("stamp", time.time())
            time.sleep(SPACE_S)  # noqa: TID251 - the space is what is asked for
        producer.close()
    print(json.dumps(time.perf_counter() - began))
