"""Jobs that leave a mess: each is followed by a clean one, which must not notice."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobrunner.outcome import Crashed, Failed, Succeeded
from tests.process.harness import assert_group_gone, result, several

TIDIED = (
    "replace sys.stdout",
    "change folder",
    "change umask",
    "change environment",
    "ignore signals",
    "handle SIGTERM",
    "take SIGUSR1",
    "alarm",
    "block signals",
    "daemon thread",
    "close 3 to 255",
)
"""After these the same process goes on."""

REPLACED = (
    "close stdout",
    "close sys.stdout",
    "close all streams",
    "redirect stdout",
    "thread",
    "files",
    "process",
    "orphan",
)


def a_look_around() -> tuple[dict[str, Any], ...]:
    return (
        {"task": "say", "args": ["hello"]},
        {"task": "folder"},
        {"task": "variables", "args": [""]},
        {"task": "process"},
    )


@pytest.mark.parametrize("kind", [*TIDIED, *REPLACED])
def test_the_next_job_finds_everything_as_it_was(kind: str) -> None:
    mess, said, where, variables, process = several({"task": "mess", "args": [kind]}, *a_look_around())
    assert result(mess) == kind
    assert mess.ready == (kind in TIDIED)
    assert (process.ran.pid == mess.ran.pid) == (kind in TIDIED)
    if kind in REPLACED:
        assert_group_gone(mess.ran.pid)
    assert said.ran.stdout is not None
    assert said.ran.stdout.head == "hello\n"
    assert result(where) == str(Path.cwd())
    seen = result(variables)
    assert seen["HOME"] == os.environ["HOME"]
    assert seen["PATH"] == os.environ["PATH"]
    assert seen["JOBRUNNER_JOB_WORKER"] == "w1"
    assert "SPOILED" not in seen
    facts = result(process)
    assert facts["blocked"] == 0
    assert facts["ignored"] & (1 << (signal.SIGTERM - 1)) == 0


@pytest.mark.parametrize("kind", ["fork", "fork and fail"])
def test_a_job_that_forks_and_returns_twice_has_one_outcome(kind: str) -> None:
    forked, clean = several({"task": "mess", "args": [kind]}, {"task": "add", "args": [1]})
    assert isinstance(forked.outcome, Succeeded if kind == "fork" else Failed)
    assert result(clean) == 2
    assert_group_gone(forked.ran.pid)


@pytest.mark.parametrize(
    ("how", "message"), [("SystemExit", "exit(3)"), ("KeyboardInterrupt", ""), ("GeneratorExit", "")]
)
def test_what_would_end_the_process_is_a_failure_and_the_process_is_replaced(how: str, message: str) -> None:
    left, clean = several({"task": "leave", "args": [how]}, {"task": "add", "args": [1]})
    assert isinstance(left.outcome, Failed)
    assert (left.outcome.error.class_name, left.outcome.error.message) == (how, message)
    assert not left.ready
    assert clean.ran.pid != left.ran.pid
    assert result(clean) == 2


def test_after_a_memory_error_the_process_is_replaced() -> None:
    failed, clean = several({"task": "run_out_of_memory"}, {"task": "add", "args": [1]})
    assert isinstance(failed.outcome, Failed)
    assert not failed.ready
    assert clean.ran.pid != failed.ran.pid


def test_a_job_cannot_answer_for_the_next_one() -> None:
    """A second RESULT, and one with another number, are dropped."""
    from jobrunner.execution import frames

    forged = frames.encode(frames.Result(number=7, outcome=Succeeded()))
    end, clean = several(
        {"task": "write_to_the_parent", "args": [forged.hex()], "timeout_s": 0.3}, {"task": "add", "args": [1]}
    )
    assert not isinstance(end.outcome, Succeeded | Crashed)
    assert result(clean) == 2
