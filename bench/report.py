"""The figures as tables, and their place in docs/performance.md."""

import statistics
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import goals
import measure
from figures import Figures, Runner

COLUMNS = 124
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
NONE = "–"  # noqa: RUF001 - the sign of a table for nothing

Cell = Callable[[Runner], str]


def tables(figures: Figures) -> str:
    """Markdown: runners side by side, ratios, what only jobrunner is asked for, and where it was measured."""
    return "\n\n".join([_runners(figures), _goals(figures), _about(figures)])


def _runners(figures: Figures) -> str:
    rows: list[tuple[str, Cell]] = [
        ("Jobs that do nothing, a second", lambda one: rate(one.drain.get("nothing"))),
        ("… with a payload of 1 KB", lambda one: rate(one.drain.get("small"))),
        ("… with a payload of 100 KB", lambda one: rate(one.drain.get("large"))),
        ("Jobs with 10 ms of CPU, a second", lambda one: rate(one.drain.get("spin"))),
        ("Enqueued one by one, a second", lambda one: rate(one.one)),
        ("Enqueued in bulk, a second", lambda one: rate(one.bulk)),
        ("From enqueue to start, p50 / p95", lambda one: times(one.to_start)),
        ("CPU of a job that does nothing: worker + broker", lambda one: cpu(one.cpu_s)),
        ("Memory of the idle worker tree, PSS / RSS", lambda one: sizes(one.idle)),
        ("Memory under load, PSS / RSS", lambda one: sizes(one.busy)),
        ("Largest process while jobs leak", lambda one: f"{one.leaked / 1e6:.0f} MB" if one.leaked else NONE),
        ("Does less than jobrunner", lambda one: one.lacks or NONE),
    ]
    runners = figures.runners
    lines = [f"| | {' | '.join(runners)} |", "|---" * (len(runners) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cell(one) for one in runners.values())} |" for name, cell in rows]
    return "\n".join(lines)


def _goals(figures: Figures) -> str:
    rows = [f"| {goal.name} | {goal.told} | {goal.wanted} | {_verdict(goal)} |" for goal in goals.goals(figures)]
    return "\n".join(["| Measured | | Goal | |", "|---|---|---|---|", *rows])


def _verdict(goal: goals.Goal) -> str:
    return "met" if goal.met else "**missed**"


def _about(figures: Figures) -> str:
    versions = [f"{name}: {one.versions}" for name, one in figures.runners.items() if one.versions]
    size = figures.sizes
    counts = ", ".join(f"{count:,} {kind}" for kind, count in size.drained.items())
    before, after = figures.load
    text = (
        f"{figures.machine}. {'; '.join(versions)}. {size.rounds} rounds, in each of them {counts}, "
        f"and {size.bulk:,} into an empty queue for the rate in bulk. "
        f"Load of the machine before {before:.1f}, after {after:.1f}. "
        f"{datetime.now(UTC).date().isoformat()}."
    )
    return textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False)


def rate(values: list[float] | None) -> str:
    """The median, and the span of the rounds."""
    if not values:
        return NONE
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def times(values: list[float]) -> str:
    """p50 and p95 in milliseconds."""
    if not values:
        return NONE
    half, most = (measure.percentile(values, share) * 1000 for share in (0.5, 0.95))
    return f"{half:.1f} / {most:.1f} ms"


def cpu(values: list[tuple[float, float]]) -> str:
    """Medians in milliseconds."""
    if not values:
        return NONE
    return " + ".join(f"{statistics.median(each) * 1000:.2f}" for each in zip(*values, strict=True)) + " ms"


def sizes(memory: measure.Memory | None) -> str:
    """PSS and RSS of the tree."""
    if memory is None:
        return NONE
    pss = NONE if memory.pss is None else f"{memory.pss / 1e6:.0f}"
    return f"{pss} / {memory.rss / 1e6:.0f} MB in {memory.processes} processes"


def write(text: str) -> None:
    """Put the tables where the last ones are."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")
