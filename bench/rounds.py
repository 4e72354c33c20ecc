"""Runners in turns, so that all meet the same weather: each is filled, then drains what is there."""

import json
import statistics
import subprocess
import sys

import marks
import measure
import pika
from broker import Bench
from figures import BARE, Figures, Runner
from subjects import HERE, JOBRUNNER, Stage, Subject


def one_round(bench: Bench, stage: Stage, ledger: measure.Ledger, figures: Figures, subjects: list[Subject]) -> None:
    """All once."""
    event_bytes = 0
    for subject in subjects:
        runner = figures.runners[subject.name]
        runner.bulk.append(bulk(bench, stage, subject, figures.sizes.bulk))
        drain(bench, stage, figures, subject, runner)
        if subject is JOBRUNNER:
            # one before the others, of the producer that warmed up; and that all results are there is part of the bench
            done = ledger.read("succeeded", 1 + figures.sizes.one + sum(figures.sizes.drained.values()))
            event_bytes = round(statistics.mean(one["size"] for one in done))
    found = figures.runners[BARE]
    stage.fill(JOBRUNNER, f"bulk:nothing:{figures.sizes.nothing - 1}")
    found.drain.setdefault("nothing", []).append(bare(bench, figures.sizes.nothing, event_bytes))
    ledger.skip()


def bulk(bench: Bench, stage: Stage, subject: Subject, jobs: int) -> float:
    """Jobs a second into an empty queue that nobody consumes; they are purged, so that no runner meets them."""
    (took_s,) = stage.fill(subject, f"bulk:nothing:{jobs}")
    with pika.BlockingConnection(pika.URLParameters(bench.url)) as connection:
        connection.channel().queue_purge(subject.queue)
    return jobs / took_s


def drain(bench: Bench, stage: Stage, figures: Figures, subject: Subject, runner: Runner) -> None:
    """Fill a runner's queue, start its worker, wait until it has run everything."""
    marks.clear(stage.folder)
    counts = figures.sizes.drained
    steps = [f"one:nothing:{figures.sizes.one}", *(f"bulk:{kind}:{count}" for kind, count in counts.items())]
    took_s = stage.fill(subject, *steps)
    runner.one.append(figures.sizes.one / took_s[0])
    nothing = 1 + figures.sizes.one + counts["nothing"]
    with stage.working(subject) as process:
        began = stage.wait("nothing", nothing // 4).count
        pids = measure.tree(process.pid)
        before = measure.cpu_s(pids), measure.cpu_s([bench.pid])
        runner.busy = measure.memory(process.pid)
        seen = stage.wait("nothing", nothing)
        after = measure.cpu_s(pids), measure.cpu_s([bench.pid])
        if seen.count > began:
            worker_s, broker_s = (
                (late - early) / (seen.count - began) for early, late in zip(before, after, strict=True)
            )
            runner.cpu_s.append((worker_s, broker_s))
        for kind, count in {**counts, "nothing": nothing}.items():
            runner.drain.setdefault(kind, []).append(stage.wait(kind, count).rate)


def bare(bench: Bench, jobs: int, event_bytes: int) -> float:
    """Jobs a second of the bare loop."""
    args = [sys.executable, str(HERE / "bare.py"), bench.url, "bench.jobrunner", str(jobs)]
    done = subprocess.run([*args, "--event-bytes", str(event_bytes)], stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout)
    return float(told["jobs"] / (told["last"] - told["first"]))
