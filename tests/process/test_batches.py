"""A batch of calls in a real child, and what a job of a run knows."""

import msgspec

from jobrunner.outcome import Part, Rejected, Succeeded
from tests.process.harness import once, result, several

_parts = msgspec.json.Decoder(list[Part | None])


def test_a_batch_runs_the_function_once_for_each_call() -> None:
    batch = msgspec.Raw(b'[[[1,2],{}],[["a",2],{}],[[3],{"b":4}],[[],{}]]')
    many, alone = several({"task": "add", "batch": batch}, {"task": "add", "args": [2, 3]})
    assert isinstance(many.outcome, Succeeded)
    parts = _parts.decode(many.outcome.result)
    assert [bytes(part.result) for part in parts if part is not None and part.error is None] == [b"3", b"7"]
    errors = [part.error.reason for part in parts if part is not None and part.error is not None]
    assert errors == ["error", "bad_arguments"]
    assert result(alone) == 5


def test_a_batch_of_coroutines() -> None:
    end = once(task="add_later", batch=msgspec.Raw(b"[[[1,2],{}],[[3,4],{}]]"))
    assert isinstance(end.outcome, Succeeded)
    assert [bytes(part.result) for part in _parts.decode(end.outcome.result) if part is not None] == [b"3", b"7"]


def test_what_is_no_batch_is_malformed() -> None:
    end = once(task="add", batch=msgspec.Raw(b"[1]"))
    assert isinstance(end.outcome, Rejected)
    assert end.outcome.error.reason == "malformed"


def test_a_job_of_a_run_knows_its_place_and_its_input() -> None:
    end = once(task="variables", args=["JOBRUNNER_JOB_"], run="crawl", seq=7, input="a b.txt")
    found = result(end)
    assert [found[f"JOBRUNNER_JOB_{name}"] for name in ("RUN", "SEQ", "INPUT")] == ["crawl", "7", "a b.txt"]
