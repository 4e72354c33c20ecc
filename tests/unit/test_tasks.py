"""The steps of a job in the child that need no child: admit, decode, call, encode, classify."""

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jobrunner.errors import Permanent, Retry
from jobrunner.execution import endings, frames, tasks
from jobrunner.execution.failures import binding, classify
from jobrunner.execution.output import HeadTail
from jobrunner.execution.process import child_environment
from jobrunner.execution.progress import Reporter
from jobrunner.execution.surroundings import Surroundings
from jobrunner.outcome import Crashed, Error, Failed, Outcome, Rejected, RetryAsked, Succeeded


def job(**fields: Any) -> frames.Job:
    return frames.Job(**{"number": 1, "id": "a" * 16, "attempt": 1, "max_attempts": 4, "queue": "q", **fields})


def refusal(step: Any, *args: Any) -> Error:
    with pytest.raises(tasks._Refused) as caught:
        step(*args)
    outcome = caught.value.outcome
    assert isinstance(outcome, Rejected)
    return outcome.error


@pytest.mark.parametrize("name", ["PATH", "PYTHONPATH", "PYTHON", "LD_PRELOAD", "DYLD_X", "JOBRUNNER_URL"])
def test_functions_may_not_set_what_changes_the_interpreter(name: str) -> None:
    assert refusal(tasks.admit, job(task="t:f", env={name: "x"})).reason == "not_allowed"


@pytest.mark.parametrize("name", ["PATH", "PYTHONPATH", "LD_PRELOAD"])
def test_commands_may_set_them_but_never_ours(name: str) -> None:
    tasks.admit(job(argv=["x"], env={name: "x"}))
    assert refusal(tasks.admit, job(argv=["x"], env={"JOBRUNNER_JOB_ID": "x"})).reason == "not_allowed"


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0"}, {"A\0": "x"}])
def test_variables_that_no_environment_can_hold_are_malformed(env: dict[str, str]) -> None:
    assert refusal(tasks.admit, job(task="t:f", env=env)).reason == "malformed"


def test_names_that_only_look_alike_are_free() -> None:
    tasks.admit(job(task="t:f", env={"PATHS": "1", "MY_PATH": "2", "OLD_LD_X": "3", "XJOBRUNNER_": "4"}))


@pytest.mark.parametrize("deadline", [1e18, 1e300])
def test_a_deadline_beyond_the_calendar_is_no_variable_and_no_end_of_the_process(deadline: float) -> None:
    setup = frames.Setup(worker="w1", slot=1)
    one = tasks.Tasks(setup, Surroundings(lambda: None), Reporter(lambda _: None))
    found = one.job_variables(job(task="t:f", deadline=deadline))
    assert "JOBRUNNER_JOB_DEADLINE" not in found
    assert one.job_variables(job(task="t:f", deadline=0.0))["JOBRUNNER_JOB_DEADLINE"] == "1970-01-01T00:00:00Z"


def test_arguments_are_decoded_up_to_a_depth_of_64() -> None:
    deepest = b"[" * 64 + b"]" * 64
    args, _ = tasks.decode_arguments(job(args=msgspec.Raw(b"[" + deepest + b"]")))
    assert len(args) == 1
    assert refusal(tasks.decode_arguments, job(args=msgspec.Raw(b"[[" + deepest + b"]]"))).reason == "malformed"


@pytest.mark.parametrize("raw", [b"[", b"{}", b"[1e999]", b'["\xff"]', b"[" * 10**6, b"[" + b"9" * 5000 + b"]"])
def test_arguments_that_are_no_list_of_json_are_malformed(raw: bytes) -> None:
    assert refusal(tasks.decode_arguments, job(args=msgspec.Raw(raw))).reason == "malformed"


def test_coroutines_are_run_and_other_values_passed_on() -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert tasks.call(later, [3], {}) == 3
    assert tasks.call(max, [3, 4], {}) == 4


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"null"),
        ([None, 1.5], b"[null,1.5]"),
        ({"a": (1, 2)}, b'{"a":[1,2]}'),
        ({1: "null"}, b'{"1":"null"}'),
        (b"\x00", b'"AA=="'),
        (datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
        (2**70, str(2**70).encode()),
        ("x" * (1024 * 1024 - 2), b'"' + b"x" * (1024 * 1024 - 2) + b'"'),
    ],
)
def test_what_has_a_json_form_is_a_result(value: object, data: bytes) -> None:
    outcome = tasks.encode_result(value)
    assert isinstance(outcome, Succeeded)
    assert bytes(outcome.result) == data


@pytest.mark.parametrize(
    "value",
    [math.nan, [math.inf], {"a": {"b": (-math.inf,)}}, object(), "\ud800", {(1, 2): 3}],
    ids=["nan", "inf", "nested", "object", "surrogate", "tuple key"],
)
def test_what_has_none_is_a_bad_result(value: object) -> None:
    outcome = tasks.encode_result(value)
    assert isinstance(outcome, Rejected)
    assert outcome.error.reason == "bad_result"


def test_a_result_that_is_too_large_is_cut_and_marked() -> None:
    outcome = tasks.encode_result(["\u00fc" * 1024 * 1024])
    assert isinstance(outcome, Succeeded)
    assert outcome.truncated
    assert msgspec.json.decode(outcome.result).startswith('["\u00fc\u00fc')


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:  # noqa: BLE001 - gives it a traceback
        return caught


@pytest.mark.parametrize(
    ("exc", "kind", "fatal"),
    [
        (ValueError("x"), Failed, False),
        (Permanent("x"), Rejected, False),
        (Retry("x", after=3), RetryAsked, False),
        (MemoryError(), Failed, True),
        (SystemExit(3), Failed, True),
        (KeyboardInterrupt(), Failed, True),
        (asyncio.CancelledError(), Failed, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_each_exception_has_its_outcome(exc: BaseException, kind: type[Outcome], fatal: bool) -> None:
    failure = classify(raised(exc), None)
    assert isinstance(failure.outcome, kind)
    assert (failure.fatal is not None) == fatal


@pytest.mark.parametrize(
    ("after", "seconds"), [(3, 3.0), (0.5, 0.5), (-1, 0.0), (None, None), (math.nan, None), (math.inf, None)]
)
def test_the_wait_that_a_job_asks_for_is_a_number_of_seconds_or_none(after: float | None, seconds: float) -> None:
    outcome = classify(raised(Retry(after=after)), None).outcome
    assert isinstance(outcome, RetryAsked)
    assert outcome.after_s == seconds


def test_a_type_error_within_a_function_is_not_one_of_its_call() -> None:
    def inner(a: int) -> int:
        return a

    fits = binding(inner, [1], {})
    does_not = binding(inner, [], {})
    # raised here, so with a frame of the user's
    assert isinstance(classify(raised(TypeError("x")), does_not).outcome, Failed)
    assert isinstance(classify(TypeError("x"), fits).outcome, Failed)
    assert isinstance(classify(TypeError("x"), does_not).outcome, Rejected)


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    outcome = classify(raised(ValueError("x" * 40_000)), None).outcome
    assert isinstance(outcome, Failed)
    trace = outcome.error.traceback or ""
    assert len(trace) <= 16 * 1024
    assert trace.startswith("Traceback (most recent call last)")
    assert "[...]" in trace
    assert len(outcome.error.message) == 512


def output(data: bytes) -> HeadTail:
    stream = HeadTail(1024 * 1024)
    stream.add(data)
    return stream


def test_a_commands_result_is_its_stdout_up_to_one_mebibyte() -> None:
    whole = endings.complete(Succeeded(), output(b"done\n"), None)
    assert whole == Succeeded(result=msgspec.Raw(b'"done\\n"'))
    cut = endings.complete(Succeeded(), output(b"x" * (1024 * 1024 + 1)), None)
    assert isinstance(cut, Succeeded)
    assert cut.truncated
    assert len(bytes(cut.result)) == 1024 * 1024 + 2


def test_binary_output_is_bounded_as_json_too() -> None:
    cut = endings.complete(Succeeded(), output(b"\x01" * 1024 * 1024), None)
    assert isinstance(cut, Succeeded)
    assert cut.truncated
    assert 1_900_000 < len(bytes(cut.result)) <= endings.MAX_JSON_BYTES


def test_a_commands_error_is_what_it_said_last_unless_it_said_why() -> None:
    silent, told = (Failed(error=Error(reason="exit", message=text, exit=3)) for text in ("", "disk full"))
    stderr = output(b"warning\nno space left\n")
    for outcome, stream, message in (
        (silent, stderr, "no space left"),
        (silent, None, "exit code 3"),
        (told, stderr, "disk full"),
    ):
        completed = endings.complete(outcome, None, stream)
        assert isinstance(completed, Failed)
        assert completed.error.message == message


def test_how_a_process_died_is_said_in_words() -> None:
    memory = endings.MemoryEvents()
    for code, fault, word, message in (
        (-11, "", "crash:SIGSEGV", "the process died: SIGSEGV"),
        (3, "", "crash", "the process died: exit code 3"),
        (-9, "it does not answer", "crash", "the process was killed: it does not answer"),
    ):
        outcome = endings.crashed(code, fault, memory)
        assert isinstance(outcome, Crashed)
        assert (outcome.error.word, outcome.error.message) == (word, message)


def test_jobs_see_none_of_our_variables_unless_the_broker_is_shared() -> None:
    worker = {"HOME": "/h", "JOBRUNNER_URL": "amqp://x", "JOBRUNNER_AUTHKEY_FILE": "/k", "JOBRUNNER_LOG_LEVEL": "info"}
    assert child_environment(worker, share_broker=False) == {"HOME": "/h"}
    shared = child_environment(worker, share_broker=True)
    assert shared == {"HOME": "/h", "JOBRUNNER_URL": "amqp://x", "JOBRUNNER_AUTHKEY_FILE": "/k"}


def test_jobs_get_the_broker_and_the_keys_wherever_the_worker_found_them() -> None:
    worker = {"JOBRUNNER_URL_FILE": "/u", "JOBRUNNER_AUTHKEY": "a:b", "JOBRUNNER_TLS_CA_FILE": "/ca"}
    found = {"JOBRUNNER_URL": "amqp://x", "JOBRUNNER_AUTHKEY_FILE": "/k"}
    assert child_environment(worker, share_broker=True, broker=found) == found | {"JOBRUNNER_TLS_CA_FILE": "/ca"}
    assert child_environment(worker, share_broker=True) == worker
    assert child_environment(worker, share_broker=False, broker=found) == {}
