"""Ten thousand mixed jobs, two workers, one killed in the middle: what the commands say is what has happened."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from jobrunner.worker.slots import AHEAD
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import WorkerProcess

QUICK, HOPELESS, AGAIN, COMMANDS, DELAYED = 9000, 400, 300, 200, 100
TOTAL = QUICK + HOPELESS + AGAIN + COMMANDS + DELAYED


def lines(queue: str, witness: Path) -> str:
    """The jobs as `enqueue --from` reads them, mixed."""
    common = {"queue": queue, "tag": ["mixed"], "backoff": "0.1s..0.2s"}
    kinds = [
        *[{"call": "tasks:slow", "args": [str(witness), 0]}] * QUICK,
        *[{"call": "tasks:hopeless", "args": [str(witness)]}] * HOPELESS,
        *[{"call": "tasks:fails_until", "args": [str(witness), 2]}] * AGAIN,
        *[{"run": ["sh", "-c", f"echo start $JOBRUNNER_JOB_ID $$ >> {witness}"]}] * COMMANDS,
        *[{"call": "tasks:slow", "args": [str(witness), 0], "delay": "2s"}] * DELAYED,
    ]
    # every 97th of the list in turn: 97 and the total have no common factor, so each comes once
    mixed = [kinds[(number * 97) % TOTAL] for number in range(TOTAL)]
    return "".join(json.dumps(common | kind) + "\n" for kind in mixed)


def runs(witness: Path) -> Counter[str]:
    """How often each job started, as the jobs themselves wrote down."""
    return Counter(line.split()[1] for line in witness.read_text().splitlines() if line.startswith("start "))


def states(cli: Commands, queue: str) -> dict[str, str]:
    """What `list` says of each job."""
    listed = cli.json("list", f"queue:{queue}", "--limit", str(TOTAL + 10))
    return {row["id"]: row["state"] for row in listed["jobs"]}


@pytest.mark.timeout(400)
def test_list_status_and_audit_agree_with_what_has_run(
    make_vhost: Callable[..., str], queue_name: str, tmp_path: Path
) -> None:
    # a virtual host of its own: the audit is of all that is in one
    url = make_vhost(quorum=True)
    witness = tmp_path / "witness"
    here = Commands(tmp_path, {"JOBRUNNER_URL": url})
    args = ("-q", queue_name, "-p", "2", "--allow-commands", "--log-level", "warning")
    first, second = WorkerProcess(here, *args), WorkerProcess(here, *args)
    try:
        queued = here.run("enqueue", "--from", "-", stdin=lines(queue_name, witness), timeout_s=120)
        ids = queued.stdout.split()
        assert len(set(ids)) == TOTAL

        def underway() -> None:
            assert witness.exists()
            assert len(runs(witness)) > TOTAL // 4

        eventually(underway, 60)
        first.kill()
        waited = here.run("wait", f"queue:{queue_name}", "--timeout", "120s", code=1, timeout_s=150)
        assert waited.returncode == 1  # some are dead, as they must be

        seen = states(here, queue_name)
        assert set(seen) == set(ids)
        assert Counter(seen.values()) == {"succeeded": TOTAL - HOPELESS, "dead": HOPELESS}
        started = runs(witness)
        assert set(started) == set(ids)
        # only what the killed worker had at hand, two and what was delivered ahead, may have run once more
        expected = TOTAL + AGAIN
        assert expected <= started.total() <= expected + 2 + 2 * AHEAD

        row = next(row for row in here.json("status")["queues"] if row["name"] == queue_name)
        assert (row["ready"], row["running"], row["later"], row["dead"]) == (0, 0, 0, HOPELESS)
        audit = here.json("audit")
        assert audit["lost"] == 0

        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        other = Commands(elsewhere, {"JOBRUNNER_URL": url})
        assert states(other, queue_name) == seen
    finally:
        for worker in (first, second):
            worker.__exit__()
        here.close()
