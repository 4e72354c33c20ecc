"""The drain rates as a picture beside docs/performance.md. Without matplotlib (the extra `bench`) there is none."""

import importlib.util
import statistics
from pathlib import Path

from figures import Figures

PICTURE = Path(__file__).parent.parent / "docs" / "performance.svg"
KINDS = {"nothing": "nothing", "small": "1 KB", "large": "100 KB"}


def write(figures: Figures) -> bool:
    """Draw it. Gives whether that was possible."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "jobrunner"  # equal figures give equal files
    from matplotlib import pyplot as plt

    picture, (jobs, bulk) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=(3, 2))
    width = 0.8 / len(figures.runners)
    for number, (name, one) in enumerate(figures.runners.items()):
        shown = [(place, one.drain[kind]) for place, kind in enumerate(KINDS) if one.drain.get(kind)]
        medians = [statistics.median(values) for _, values in shown]
        spans = [
            [median - min(values) for median, (_, values) in zip(medians, shown, strict=True)],
            [max(values) - median for median, (_, values) in zip(medians, shown, strict=True)],
        ]
        jobs.bar([place + number * width for place, _ in shown], medians, width, yerr=spans, label=name, capsize=2)
        if one.bulk:
            bulk.bar(number, statistics.median(one.bulk), label=name)
    jobs.set_xticks([place + 0.4 - width / 2 for place in range(len(KINDS))], list(KINDS.values()))
    jobs.set_title("Jobs a second, 2 processes, by payload")
    jobs.legend()
    bulk.set_xticks([number for number, one in enumerate(figures.runners.values()) if one.bulk])
    bulk.set_xticklabels([name for name, one in figures.runners.items() if one.bulk])
    bulk.set_title("Enqueued in bulk, jobs a second")
    picture.tight_layout()
    picture.savefig(PICTURE, metadata={"Date": None})
    return True
