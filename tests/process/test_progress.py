"""Progress that real jobs report: functions, threads of them, commands."""

import asyncio
import os
import tempfile
from pathlib import Path

from jobrunner.execution.pool import Progress
from tests.process.harness import Harness, running


def progress_of(harness: Harness) -> list[tuple[float | None, str | None]]:
    return [(said.fraction, said.text) for said in harness.told if isinstance(said, Progress)]


def test_a_function_reports_and_its_last_word_comes_before_its_end() -> None:
    async def report() -> None:
        async with running() as harness:
            await harness.run(task="reports_progress", args=[1000])
            told = progress_of(harness)
            assert told[0] == (0.0, "step 0")
            assert told[-1] == (0.999, "step 999")
            assert len(told) < 20

    asyncio.run(report())


def test_a_command_reports_by_lines_while_it_runs_and_leaves_nothing_behind() -> None:
    async def report() -> None:
        async with running() as harness:
            line = (
                'echo "10% first" >> "$JOBRUNNER_JOB_PROGRESS_FILE"; read -r gate < "$GATE"; '
                'echo "20% second" >> "$JOBRUNNER_JOB_PROGRESS_FILE"'
            )
            with tempfile.TemporaryDirectory() as folder:
                gate = Path(folder) / "gate"
                os.mkfifo(gate)
                harness.give(argv=["/bin/sh", "-c", line], env={"GATE": str(gate)})
                said = await harness.expect(Progress)
                assert (said.fraction, said.text) == (0.1, "first")
                with gate.open("w") as file:
                    file.write("go\n")
                said = await harness.expect(Progress)
                assert (said.fraction, said.text) == (0.2, "second")

    asyncio.run(report())


def test_threads_that_report_while_a_large_result_goes_up_do_not_break_the_protocol() -> None:
    async def report() -> None:
        async with running() as harness:
            for _ in range(5):
                finished = await harness.run(task="reports_from_threads")
                assert type(finished.outcome).__name__ == "Succeeded", finished.outcome

    asyncio.run(report())
