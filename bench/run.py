"""Measures jobrunner beside Celery, Dramatiq, Taskiq and a bare pika loop. Run it with `make bench`.

On a private broker of its own, on this machine, which should have nothing else to do. About ten minutes; `--quick`:
one. Peers that are not installed are left out: they come with the extra `bench`. `--write` puts tables and picture into
docs/.
"""

import argparse
import os
import signal
import sys
import time

import alone
import goals
import measure
import ours
import plot
import report
from broker import private_broker
from figures import BARE, QUICK, TINY, Figures, Runner, Sizes
from rounds import one_round
from subjects import JOBRUNNER, PEERS, Stage, Subject


def everything(figures: Figures, subjects: list[Subject]) -> None:
    """Measure it all."""
    with private_broker() as bench:
        figures.machine = measure.machine(bench.version)
        bench.type("queues", "declare")
        stage = Stage(bench.url, bench.folder)
        ledger = measure.Ledger(bench.url)
        ledger.skip()
        for number in range(1, figures.sizes.rounds + 1):
            one_round(bench, stage, ledger, figures, subjects)
            rates = ", ".join(f"{name} {one.drain['nothing'][-1]:,.0f}" for name, one in figures.runners.items())
            say(f"round {number}, jobs a second: {rates}")
        for subject in subjects:
            alone.measure_alone(stage, figures, subject)
            say(f"{subject.name} alone")
        ours.commands(bench, stage, figures)
        say("commands")
        ours.mapped(bench, stage, figures)
        say("map")
        ours.long_run(stage, figures)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/")
    parser.add_argument("--quick", action="store_true", help="one small round of everything")
    parser.add_argument("--tiny", action="store_true", help="only to see that all of it runs")
    parser.add_argument("--no-peers", action="store_true", help="leave Celery, Dramatiq and Taskiq out")
    options = parser.parse_args()
    # the broker and the workers end with it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    figures = Figures(TINY if options.tiny else QUICK if options.quick else Sizes())
    subjects = [JOBRUNNER, *(peer for peer in PEERS if peer.is_installed and not options.no_peers)]
    for subject in subjects:
        figures.runners[subject.name] = Runner(subject.versions, subject.lacks)
    figures.runners[BARE] = Runner(lacks="runs no job")
    before = os.getloadavg()[0]
    if before > 0.3:
        say(f"this machine is busy (load {before:.1f}): the figures will be worse than they could be")
    everything(figures, subjects)
    figures.load = (before, os.getloadavg()[0])
    text = report.tables(figures)
    print(f"\n{text}")
    if options.write:
        report.write(text)
        plot.write(figures)
    return 0 if all(goal.met for goal in goals.goals(figures)) else 1


if __name__ == "__main__":
    sys.exit(main())
