"""jobrunner's jobs for the bench, and its producer: `python bench_tasks.py HOW KIND COUNT`."""

import os
from typing import Any

import marks

from jobrunner import job


@job
def nothing() -> None:
    """What remains is jobrunner's own work."""
    marks.mark("nothing")


@job
def small(text: str) -> None:
    """A payload of 1 KB."""
    marks.sized(text)


@job
def large(text: str) -> None:
    """A payload of 100 KB."""
    marks.sized(text)


@job
def spin() -> None:
    """10 ms of CPU."""
    marks.spin()


@job
def stamp(sent_at: float) -> None:
    """Measures when it starts."""
    marks.stamp(sent_at)


@job
def leak() -> None:
    """Grows its process."""
    marks.leak()


@job
def square(number: int) -> int:
    """For `map`."""
    return number * number


JOBS: dict[str, Any] = {each.__name__: each for each in (nothing, small, large, spin, stamp, leak)}


class Producer:
    """One client that is kept; every job is confirmed."""

    def __init__(self) -> None:
        from jobrunner import Client

        self._client = Client(os.environ["BENCH_URL"]).options(queue="bench.jobrunner")

    def one(self, kind: str, *args: Any) -> None:
        self._client.enqueue(JOBS[kind], *args)

    def bulk(self, kind: str, args: tuple[Any, ...], count: int) -> None:
        self._client.enqueue_many(JOBS[kind].call(*args) for _ in range(count))

    def close(self) -> None:
        self._client.close()


if __name__ == "__main__":
    import filling

    filling.main(Producer)
