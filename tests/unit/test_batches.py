"""Many calls in one job: each ends on its own, in the order of the list."""

from typing import Any

import msgspec
import pytest

from jobrunner import envelope
from jobrunner.envelope import MalformedMessage
from jobrunner.errors import Permanent
from jobrunner.execution import batches
from jobrunner.execution.failures import Failure, classify
from jobrunner.execution.tasks import encode_result
from jobrunner.ids import new_id
from jobrunner.outcome import Part, Rejected, Succeeded

_parts = msgspec.json.Decoder(list[Part | None])


def divide(args: list[Any], kwargs: dict[str, Any]) -> Failure:
    try:
        return Failure(encode_result(kwargs.get("dividend", 60) / args[0] if args else None))
    except ZeroDivisionError as exc:
        return classify(exc, None)


def run(calls: batches.Calls, evaluate: batches.Evaluate = divide) -> list[Part | None]:
    outcome = batches.run(calls, evaluate).outcome
    assert isinstance(outcome, Succeeded)
    return _parts.decode(outcome.result)


def test_a_call_that_fails_fails_alone() -> None:
    first, second, third, fourth = run([([2], {}), ([0], {}), ([3], {"dividend": 9}), ([], {})])
    assert first == Part(result=msgspec.Raw(b"30.0"))
    assert third == Part(result=msgspec.Raw(b"3.0"))
    assert fourth == Part()
    assert second is not None
    assert second.error is not None
    assert (second.error.reason, second.error.class_name) == ("error", "ZeroDivisionError")
    assert 0 < len(second.error.traceback or "") <= batches.TRACEBACK_CHARS


def test_a_permanent_error_is_told_apart() -> None:
    (part,) = run([([], {})], lambda _args, _kwargs: classify(Permanent("no such user"), None))
    assert part is not None
    assert part.error is not None
    assert part.error.reason == "permanent"


def test_after_a_call_that_spoils_the_process_no_other_runs() -> None:
    ran: list[int] = []

    def evaluate(args: list[Any], _kwargs: dict[str, Any]) -> Failure:
        ran.append(args[0])
        return classify(MemoryError(), None) if args[0] == 2 else Failure(Succeeded())

    done = batches.run([([number], {}) for number in (1, 2, 3, 4)], evaluate)
    assert ran == [1, 2]
    assert done.fatal == "a job ran out of memory"
    assert isinstance(done.outcome, Succeeded)
    parts = _parts.decode(done.outcome.result)
    assert [part is None for part in parts] == [False, False, True, True]


def test_results_that_are_too_large_together_are_left_to_another_job() -> None:
    large = "x" * (batches.MAX_BYTES // 3)
    parts = run([([], {})] * 5, lambda _args, _kwargs: Failure(encode_result(large)))
    assert [part is None for part in parts] == [False, False, True, True, True]


def test_a_result_over_the_limit_of_one_job_is_left_to_a_job_of_its_own() -> None:
    values = iter(["small", "x" * (1 << 21), "after"])
    parts = run([([], {})] * 3, lambda _args, _kwargs: Failure(encode_result(next(values))))
    assert [part is None for part in parts] == [False, True, True]


@pytest.mark.parametrize("raw", [b"[[1]]", b'[{"args":[]}]', b"[[[],[]]]", b"[" * 100_000, b"[[[" + b"[" * 65])
def test_what_is_no_list_of_calls_is_refused(raw: bytes) -> None:
    assert isinstance(batches.decode(msgspec.Raw(raw)), Rejected)


def test_arguments_may_nest_64_deep() -> None:
    nested = b"[" * 64 + b"]" * 64
    assert not isinstance(batches.decode(msgspec.Raw(b"[[[" + nested + b"],{}]]")), Rejected)
    assert isinstance(batches.decode(msgspec.Raw(b"[[[[" + nested + b"]],{}]]")), Rejected)


def test_a_batch_is_of_a_version_that_an_older_worker_leaves_alone() -> None:
    one = envelope.new_job(queue="q", task="t:f")
    many = envelope.new_job(queue="q", task="t:f", batch=msgspec.Raw(b"[[[1],{}]]"), items=[new_id()])
    assert (one.v, many.v) == (1, 2)
    assert envelope.decode(envelope.seal(many).body, many.id) == many


@pytest.mark.parametrize("fields", [{"batch": {}, "task": "t:f"}, {"batch": [], "argv": ["x"]}])
def test_a_batch_without_a_function_is_no_job(fields: dict[str, object]) -> None:
    job_id = new_id()
    body = msgspec.json.encode({"v": 2, "id": job_id, "queue": "q", "iat": 1.0, **fields})
    with pytest.raises(MalformedMessage, match="batch"):
        envelope.decode(body, job_id)
