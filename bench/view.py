"""Measures how fast a view catches up with a long ledger, and how fast a command answers then: `python bench/view.py`.

On a private broker of its own; its ledger is filled with the events of half as many jobs, one record each, as workers
write them. `--events N`: how many (1,000,000).
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

import measure
import msgspec
from broker import Bench, private_broker

from jobrunner import attempts, envelope, events
from jobrunner.broker import declare
from jobrunner.broker.batch import all_answers
from jobrunner.broker.connection import Connection
from jobrunner.broker.publisher import Publisher, event_message
from jobrunner.brokerurl import BrokerUrl, parse_url
from jobrunner.outcome import Error
from jobrunner.view import recorder

AT_ONCE = 5_000
TRACEBACK = 'Traceback (most recent call last):\n  File "/app/fetch.py", line 31, in fetch\n    raise TimeoutError()\n'


def history(number: int) -> list[events.Event]:
    """Two events of one job: queued, and how it went."""
    made = envelope.new_job(queue="bench", task="bench_tasks:resize", args=msgspec.Raw(b'["photo.jpg",%d]' % number))
    at = time.time()
    run = attempts.Run(worker="w1", host="h", pid=7, started_at=at, ended_at=at + 0.2)
    queued = events.Queued(at=at, jobs=[events.QueuedJob(job=msgspec.Raw(envelope.seal(made).body))], by="ana@mbp")
    facts = {"at": at + 0.2, "id": made.id, "attempt": 1}
    if number % 100 == 0:
        error = Error(reason="error", class_name="TimeoutError", message="read timed out", traceback=TRACEBACK)
        return [queued, events.Dead(error=error, queue="bench", worker="w1", ran=run, **facts)]
    return [queued, events.Succeeded(result=msgspec.Raw(b'{"width":800}'), ran=run, **facts)]


async def fill(url: BrokerUrl, count: int) -> None:
    """A ledger with that many records, the ends a thousand records behind the beginnings."""
    connection = Connection(url, role="bench", notify=lambda _: None)
    publisher = Publisher(connection, window=2_000)
    await connection.connect_once()
    try:
        await declare.declare_startup(connection, publisher)
        behind: list[events.Event] = []
        for begin in range(0, count // 2, AT_ONCE):
            pairs = [history(number) for number in range(begin, min(begin + AT_ONCE, count // 2))]
            batch = [pair[0] for pair in pairs] + behind
            behind = [pair[1] for pair in pairs]
            await all_answers(publisher, [event_message(event) for event in batch])
            print(f"\rfilled {begin * 2:,}", end="", flush=True)
        await all_answers(publisher, [event_message(event) for event in behind])
        print(f"\rfilled {count:,}")
    finally:
        await connection.close()
        publisher.close()


def catch_up(url: BrokerUrl, folder: Path) -> tuple[int, float]:
    """Records folded into an empty view, and seconds."""
    read = 0

    def on_progress(records: int, _fraction: float | None) -> None:
        nonlocal read
        read = records

    with recorder.Store.open(recorder.view_path(url, folder), on_notice=print) as store:
        began = time.perf_counter()
        asyncio.run(recorder.sync(store, url, timeout_s=30.0, on_progress=on_progress))
        return read, time.perf_counter() - began


def main() -> None:
    """Fill, catch up, ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    count = parser.parse_args().events
    with private_broker() as bench:
        url = parse_url(bench.url)
        asyncio.run(fill(url, count))
        before = measure.memory(os.getpid()).rss
        read, took_s = catch_up(url, bench.folder)
        grown = measure.memory(os.getpid()).rss - before
        print(f"{read:,} events in {took_s:.1f} s: {read / took_s:,.0f}/s, memory + {grown / 2**20:.0f} MiB")
        size = recorder.view_path(url, bench.folder).stat().st_size
        print(f"view: {size / 2**20:.0f} MiB; nothing new: {warm(url, bench.folder) * 1000:.0f} ms")
        for words in (("list",), ("status",), ("list", "state:dead"), ("list", "task:resize", "--json")):
            answer(bench, words)


def warm(url: BrokerUrl, folder: Path) -> float:
    """Seconds of a sync that finds nothing new, connecting included."""
    return statistics.median(catch_up(url, folder)[1] for _ in range(7))


def answer(bench: Bench, words: tuple[str, ...]) -> None:
    """How long a command takes in all."""
    costs = [bench.type(*words) for _ in range(7)]
    wall, cpu = (statistics.median(getattr(cost, name) for cost in costs) for name in ("wall_s", "cpu_s"))
    print(json.dumps({"command": " ".join(words), "wall_ms": round(wall * 1000), "cpu_ms": round(cpu * 1000)}))


if __name__ == "__main__":
    sys.exit(main())
