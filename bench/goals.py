"""What the figures are to reach."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import measure
from figures import BARE, Figures

DRAIN_GOALS = {"celery": 1.5, "taskiq": 1.3, "dramatiq": 1.0, BARE: 0.8}
BULK_GOALS = {"dramatiq": 2.0, "celery": 5.0}
TREE_GOAL_MB = 65
LEAK_GOAL_MB = 100
FLAT_GOAL_MB = 3


@dataclass(frozen=True)
class Goal:
    """One line of the table."""

    name: str
    told: str
    wanted: str
    met: bool


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the rounds' ratios: both met the same conditions in a round."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def goals(figures: Figures) -> list[Goal]:
    """All of them."""
    return [*_ratios(figures), *_waiting(figures), *_memory(figures)]


def _ratios(figures: Figures) -> Iterator[Goal]:
    ours = figures.runners["jobrunner"]
    for name, least in DRAIN_GOALS.items():
        if name in figures.runners:
            found = ratio(ours.drain["nothing"], figures.runners[name].drain["nothing"])
            yield _least(f"Jobs that do nothing, to {name}", found, least)
    for name, least in BULK_GOALS.items():
        if name in figures.runners:
            yield _least(f"Enqueued in bulk, to {name}", ratio(ours.bulk, figures.runners[name].bulk), least)


def _least(name: str, found: float, least: float) -> Goal:
    return Goal(name, f"{found:.2f} x", f"at least {least} x", found >= least)


def _waiting(figures: Figures) -> Iterator[Goal]:
    ours = figures.ours
    half, most = (measure.percentile(ours.to_result, share) * 1000 for share in (0.5, 0.95))
    yield _most("From enqueue to result at a warm client, p50", half, 10, "ms")
    yield _most("… p95", most, 25, "ms")
    yield _most("`jobrunner enqueue --wait` in all", statistics.median(ours.wait_wall) * 1000, 350, "ms")
    yield _most("CPU of `jobrunner --help`", statistics.median(ours.help_cpu) * 1000, 100, "ms")
    yield _most("CPU of `jobrunner enqueue`", statistics.median(ours.enqueue_cpu) * 1000, 200, "ms")
    told = f"{ours.map_rate:,.0f}/s"
    yield Goal(f"`map --batch 500` of {figures.sizes.mapped:,} numbers", told, "30,000/s", ours.map_rate >= 30_000)
    yield _most("… memory of the submitter (RSS)", ours.map_memory / 1e6, 150, "MB")


def _memory(figures: Figures) -> Iterator[Goal]:
    idle = figures.runners["jobrunner"].idle
    assert idle is not None
    kind, size = ("RSS", idle.rss) if idle.pss is None else ("PSS", idle.pss)
    yield _most(f"Worker tree with 2 processes, idle ({kind})", size / 1e6, TREE_GOAL_MB, "MB")
    looks = [(jobs, (memory.pss or memory.rss) / 1e6) for jobs, memory in figures.ours.long]
    name = f"… growth from {looks[0][0]:,} to {looks[-1][0]:,} jobs"
    yield _most(name, looks[-1][1] - looks[0][1], FLAT_GOAL_MB, "MB")
    leaked = figures.runners["jobrunner"].leaked / 1e6
    # it is renewed after the job that took it over its limit
    yield _most("Largest process with `--max-memory 100M` while jobs leak 2 MB each", leaked, LEAK_GOAL_MB + 5, "MB")


def _most(name: str, found: float, most: float, unit: str) -> Goal:
    digits = 1 if found < 10 else 0
    return Goal(name, f"{found:.{digits}f} {unit}", f"at most {most} {unit}", found <= most)
