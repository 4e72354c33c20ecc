"""A deploy that reaches machine after machine: jobs of the new version that old workers meet first."""

import signal

from tests.support.command import Commands
from tests.support.worker import TASKS, WorkerProcess

NEW = TASKS + "\n\n@job\ndef brand_new(n):\n    return n * 21\n"


def test_a_new_function_waits_for_the_workers_that_know_it(cli: Commands, queue_name: str) -> None:
    tasks = cli.folder / "tasks.py"
    tasks.write_text(NEW)
    job_id = cli.run("enqueue", "-q", queue_name, "tasks:brand_new", "2").stdout.strip()
    with WorkerProcess(cli, "-q", queue_name, "--procs", "1") as worker:  # it puts the old tasks.py there
        worker.wait_for("job.parked")
        shown = cli.json("show", job_id)
        assert shown["why"]["code"] == "parked"
        assert "knows tasks:brand_new; it is tried again in " in shown["why"]["text"]
        tasks.write_text(NEW)
        worker.process.send_signal(signal.SIGHUP)
        cli.run("wait", job_id, "--timeout", "50s")
        assert cli.run("result", job_id).stdout == "42\n"
        assert [attempt["number"] for attempt in cli.json("show", job_id)["attempts"]] == [1]  # none was used up
