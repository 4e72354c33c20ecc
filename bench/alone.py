"""Each runner by itself, idle: its memory, how soon a job starts, what becomes of a process whose jobs leak."""

import marks
import measure
from figures import Figures
from subjects import Stage, Subject


def measure_alone(stage: Stage, figures: Figures, subject: Subject) -> None:
    """One runner."""
    runner = figures.runners[subject.name]
    marks.clear(stage.folder)
    with stage.working(subject) as process:
        stage.fill(subject)  # its warm-up makes both processes exist
        stage.wait("nothing", 1)
        runner.idle = measure.memory(process.pid)
        stage.fill(subject, f"stamp:stamp:{figures.sizes.stamps}")
        stage.wait("stamp", figures.sizes.stamps)
        runner.to_start = marks.times(stage.folder)
    marks.clear(stage.folder)
    stage.fill(subject, f"bulk:leak:{figures.sizes.leaks}")
    with stage.working(subject, *subject.leak_limit) as process:
        while marks.seen(stage.folder, "leak").count < figures.sizes.leaks:
            runner.leaked = max(runner.leaked, measure.largest(process.pid))
            stage.pause(process)
        runner.leaked = max(runner.leaked, measure.largest(process.pid))
