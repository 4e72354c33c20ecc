"""The figures as a table, and its place in docs/performance.md."""

import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    from run import Figures

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by bench/run.py --write -->", "<!-- end of figures -->"

RATIO_GOAL = 0.6
IDLE_GOAL_MB = 80
HELP_GOAL_S = 0.1
ENQUEUE_GOAL_S = 0.2


def ratio(figures: "Figures") -> float:
    """Of the worker to the bare loop in the same round: the median over the rounds."""
    return statistics.median(ours / bare for ours, bare in zip(figures.drained, figures.bare, strict=True))


def megabytes(memory: measure.Memory) -> float:
    """The memory that the tree takes from the machine: proportional where that is known, else resident."""
    return (memory.rss if memory.pss is None else memory.pss) / 1e6


def goals(figures: "Figures") -> list[tuple[str, bool]]:
    """Each goal, and whether it was met."""
    assert figures.idle is not None
    return [
        (f"at least {RATIO_GOAL} of the bare loop", ratio(figures) >= RATIO_GOAL),
        (f"under {IDLE_GOAL_MB} MB", megabytes(figures.idle) < IDLE_GOAL_MB),
        (f"at most {HELP_GOAL_S * 1000:.0f} ms", statistics.median(figures.help_cpu) <= HELP_GOAL_S),
        (f"at most {ENQUEUE_GOAL_S * 1000:.0f} ms", statistics.median(figures.enqueue_cpu) <= ENQUEUE_GOAL_S),
    ]


def meets_goals(figures: "Figures") -> bool:
    """Whether all were met."""
    return all(met for _, met in goals(figures))


def table(figures: "Figures") -> str:
    """Markdown."""
    assert figures.idle is not None
    assert figures.worked is not None
    ratio_goal, idle_goal, help_goal, enqueue_goal = (
        f"{text}: {'met' if met else '**missed**'}" for text, met in goals(figures)
    )
    rows = [
        ("Jobs drained by `worker --procs 2`, every result recorded", rate(figures.drained), ""),
        ("The same AMQP work by a bare pika loop (one process, two channels)", rate(figures.bare), ""),
        ("The same by two bare loops that share the queue", rate(figures.bare_each), ""),
        ("Worker to bare loop, median of the rounds", f"{ratio(figures):.2f}", ratio_goal),
        (f"Jobs queued by `enqueue --from`, {figures.bulk_jobs:,} lines", rate(figures.bulk), ""),
        ("From `enqueue` to start, once the command has made the job", times(figures.to_start), ""),
        ("From `enqueue` to start, with the start of the command", times(figures.typed_to_start), ""),
        ("CPU a job, of the worker with its processes", f"{figures.job_cpu * 1000:.2f} ms", ""),
        ("CPU of `jobrunner --help`", f"{statistics.median(figures.help_cpu) * 1000:.0f} ms", help_goal),
        ("CPU of `jobrunner enqueue`", f"{statistics.median(figures.enqueue_cpu) * 1000:.0f} ms", enqueue_goal),
        ("Memory of the worker, 2 idle processes", sizes(figures.idle), idle_goal),
        (f"Memory of the worker after {figures.worked_jobs:,} jobs", sizes(figures.worked), ""),
    ]
    head = ["| Measured | | Goal |", "|---|---|---|"]
    day = datetime.now(UTC).date().isoformat()
    about = f"{figures.machine}. {figures.jobs:,} jobs in each of {len(figures.drained)} rounds. "
    about += f"Load before: {figures.load:.1f}. {day}."
    return "\n".join([*head, *(f"| {name} | {value} | {goal} |" for name, value, goal in rows), "", about])


def rate(values: list[float]) -> str:
    """The median, and the span of the rounds."""
    return f"{statistics.median(values):,.0f}/s ({min(values):,.0f} to {max(values):,.0f})"


def times(values: list[float]) -> str:
    """p50 and p95 in milliseconds."""
    half, most = (measure.percentile(values, share) * 1000 for share in (0.5, 0.95))
    return f"p50 {half:.0f} ms, p95 {most:.0f} ms"


def sizes(memory: measure.Memory) -> str:
    """PSS and RSS of the tree."""
    pss = "" if memory.pss is None else f"{memory.pss / 1e6:.0f} MB PSS, "
    return f"{pss}{memory.rss / 1e6:.0f} MB RSS in {memory.processes} processes"


def write(text: str) -> None:
    """Put the table between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
