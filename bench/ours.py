"""What only jobrunner is asked for: its commands, a result at a warm client, `map`, and many jobs in one worker."""

import json
import subprocess
import sys
import time

import marks
import measure
from broker import Bench
from figures import Figures
from subjects import COMMAND, HERE, JOBRUNNER, PYTHON, Stage

CALL = "bench_tasks:nothing"
BATCH = 500
LOOKS = 5


def commands(bench: Bench, stage: Stage, figures: Figures) -> None:
    """What a person waits for, and a program."""
    ours, count = figures.ours, figures.sizes.singles
    queue = ("--queue", "bench.jobrunner")
    ours.help_cpu = [bench.type("--help").cpu_s for _ in range(count)]
    with stage.working(JOBRUNNER):
        bench.type("enqueue", *queue, CALL, "--wait", "--wait-timeout", "60s")
        ours.enqueue_cpu = [bench.type("enqueue", *queue, CALL).cpu_s for _ in range(count)]
        ours.wait_wall = [bench.type("enqueue", *queue, CALL, "--wait").wall_s for _ in range(count)]
        args = [PYTHON, str(HERE / "results.py"), str(figures.sizes.results)]
        environ = {**bench.environ, "BENCH_URL": bench.url}
        ours.to_result = json.loads(subprocess.run(args, env=environ, stdout=subprocess.PIPE, check=True).stdout)


def mapped(bench: Bench, stage: Stage, figures: Figures) -> None:
    """`map --batch` over a range: numbers a second with the start of the command, and its largest memory."""
    args = [*COMMAND, "map", "bench_tasks:square", "--batch", str(BATCH), "--queue", "bench.jobrunner"]
    with stage.working(JOBRUNNER):
        began = time.perf_counter()
        with subprocess.Popen(
            [*args, "--range", f"1-{figures.sizes.mapped}"], env=bench.environ, cwd=HERE, stdout=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                figures.ours.map_memory = max(figures.ours.map_memory, measure.largest(process.pid))
                stage.pause(process)
        if process.returncode:
            sys.exit(f"map ended with exit code {process.returncode}")
        figures.ours.map_rate = figures.sizes.mapped / (time.perf_counter() - began)


def long_run(stage: Stage, figures: Figures) -> None:
    """The memory of one worker over many jobs."""
    marks.clear(stage.folder)
    stage.fill(JOBRUNNER, f"bulk:nothing:{figures.sizes.long}")
    with stage.working(JOBRUNNER) as process:
        for look in range(1, LOOKS + 1):
            seen = stage.wait("nothing", figures.sizes.long * look // LOOKS, timeout_s=900)
            figures.ours.long.append((seen.count, measure.memory(process.pid)))
