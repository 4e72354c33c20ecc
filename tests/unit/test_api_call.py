"""What is said of a call before anything is published: its name, its arguments, its options."""

import functools
import math
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from jobrunner import call
from jobrunner.api.options import Options
from jobrunner.envelope import MAX_JOB_BYTES, Envelope
from jobrunner.errors import (
    BadArguments,
    BadDuration,
    BadTarget,
    BadValue,
    MessageTooLarge,
    NotACall,
    NotJson,
    OptionsClash,
)
from tests.support.command import ROOT
from tests.unit import api_tasks as tasks

HERE = tasks.__name__


def sealed(made: call, base: Options | None = None) -> Envelope:  # type: ignore[valid-type]
    return made.seal(base or Options(), "run", "u@h")  # type: ignore[attr-defined,no-any-return]


def test_a_function_goes_by_its_name_with_its_arguments_as_json() -> None:
    job = sealed(call(tasks.add, 1, b=2)).job
    assert (job.task, bytes(job.args), bytes(job.kwargs)) == (f"{HERE}:add", b"[1]", b'{"b":2}')
    assert (job.run, job.user, job.queue) == ("run", "u@h", "task_queue")


def test_a_function_that_is_no_job_goes_by_its_name_too() -> None:
    assert sealed(call(tasks.plain, 1)).job.task == f"{HERE}:plain"


def test_a_name_and_a_command_are_calls() -> None:
    assert sealed(call("other.tasks.resize", "a")).job.task == "other.tasks:resize"
    assert sealed(call(["gzip", "-9", "a"])).job.argv == ["gzip", "-9", "a"]
    assert sealed(call(("gzip",))).job.argv == ["gzip"]


def test_a_partial_is_a_call_of_its_function() -> None:
    job = sealed(call(functools.partial(tasks.add, 1, b=5), b=2)).job
    assert (bytes(job.args), bytes(job.kwargs)) == (b"[1]", b'{"b":2}')


def test_what_is_passed_later_is_not_changed_by_what_happens_to_it_before() -> None:
    value = [1]
    made = call(tasks.back, value)
    value.append(2)
    assert bytes(sealed(made).job.args) == b"[[1]]"


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, r"add\(\): missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"c": 3}, "unexpected keyword argument 'c'"),
        ((1,), {"a": 3}, "multiple values for argument 'a'"),
    ],
)
def test_a_call_that_does_not_fit_its_function_is_refused(args: tuple[int], kwargs: dict[str, int], says: str) -> None:
    with pytest.raises(BadArguments, match=says) as refused:
        call(tasks.add, *args, **kwargs)
    assert refused.value.hint == "add(a: int, b: int = 0) -> int"
    with pytest.raises(BadArguments, match=says):
        call(f"{HERE}:add", *args, **kwargs)


def _itself() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


def _deep(levels: int) -> list[object]:
    found: list[object] = []
    for _ in range(levels - 1):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "object"),
        ({"x": [1, 2 + 3j]}, "complex"),
        (math.nan, "NaN or Infinity"),
        ({"a": [math.inf, None]}, "NaN or Infinity"),
        ("\ud800", "not UTF-8"),
        (_itself(), "holds itself"),
        (_deep(65), "deeper than 64"),
    ],
    ids=["object", "complex", "nan", "inf", "surrogate", "cycle", "deep"],
)
def test_what_is_not_json_is_refused_by_the_name_of_its_argument(value: object, says: str) -> None:
    for args, kwargs, name in (((1, value), {}, "b"), ((1,), {"b": value}, "b"), ((value,), {}, "a")):
        with pytest.raises(NotJson, match=rf"add\(\): the argument '{name}' is not JSON: .*{says}"):
            call(tasks.add, *args, **kwargs)  # type: ignore[arg-type]
    with pytest.raises(NotJson, match="the argument '2' is not JSON"):
        call("elsewhere:add", 1, value)


@pytest.mark.parametrize(
    ("value", "as_json"),
    [
        ((1, 2), b"[1,2]"),
        ({"b": None, "a": 1.5}, b'{"b":null,"a":1.5}'),
        (datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
        (tasks.Point(1, 2), b'{"x":1,"y":2}'),
        (_deep(64), b"[" * 64 + b"]" * 64),
        (2**80, b"1208925819614629174706176"),
    ],
    ids=["tuple", "dict", "datetime", "dataclass", "deep", "large"],
)
def test_what_has_a_json_form_is_sent_in_it(value: object, as_json: bytes) -> None:
    assert bytes(sealed(call(tasks.back, value)).job.args) == b"[" + as_json + b"]"


def _inner() -> None: ...


_inner.__qualname__ = "test.<locals>._inner"


@pytest.mark.parametrize("target", [lambda: None, _inner, tasks.Holder().method, functools.partial(lambda: 1)])
def test_what_no_worker_could_find_is_refused(target: object) -> None:
    with pytest.raises(NotACall, match="workers find functions by name"):
        call(target)  # type: ignore[call-overload]


def test_what_is_no_call_at_all_is_refused() -> None:
    for target in (42, b"gzip", [], ["gzip", 9], {"a": 1}):
        with pytest.raises(NotACall):
            call(target)  # type: ignore[call-overload]
    with pytest.raises(NotACall, match="stand in its list"):
        call(["gzip"], "a")  # type: ignore[call-overload]
    with pytest.raises(BadTarget):
        call("no function")
    with pytest.raises(BadValue, match="NUL"):
        call(["gzip", "a\0b"])


def test_arguments_are_not_shown_by_a_call() -> None:
    assert repr(call(tasks.back, "canary")) == f"<Call {HERE}:back()>"


def test_a_function_of_the_program_itself_goes_by_the_name_of_its_file(tmp_path: Path) -> None:
    program = tmp_path / "shop.py"
    program.write_text(
        "from jobrunner import call, job\n"
        "@job\ndef sell(x: int) -> int: return x\n"
        "if __name__ == '__main__': print(call(sell, 1))\n"
    )
    for command in ([str(program)], ["-m", "shop"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "<Call shop:sell()>\n", done.stderr


# --- options --------------------------------------------------------------------------------------------------------


def test_options_are_those_of_the_envelope() -> None:
    made = tasks.add.options(
        queue="video",
        delay="5m",
        expires=timedelta(hours=1),
        retries=2,
        backoff="1s..1m",
        timeout=30,
        priority="high",
        tags=["a", "b"],
        label="one",
        id="k7f2m9xq4tzd8w1r",
        env={"A": "1"},
        cwd="/tmp",
    ).call(1)
    before = time.time()
    envelope = sealed(made)
    job = envelope.job
    assert (job.queue, job.max_attempts, job.backoff_s, job.backoff_max_s, job.timeout_s) == ("video", 3, 1, 60, 30)
    assert (job.tags, job.label, job.id, job.env, job.cwd) == (["a", "b"], "one", made.given.id, {"A": "1"}, "/tmp")
    assert envelope.priority == 8
    due_s = envelope.state.not_before_ms / 1000
    assert before + 299 < due_s < time.time() + 301
    assert job.expires_at == pytest.approx(due_s + 3600, abs=1)


def test_the_calls_own_options_go_before_the_clients_and_those_before_the_functions() -> None:
    client = Options(queue="slow", retries=1, delay=60)
    assert sealed(tasks.resize.call("a", 1)).job.queue == "media"
    assert sealed(tasks.resize.call("a", 1), client).job.queue == "slow"
    own = sealed(tasks.resize.options(queue="own", at=datetime(2099, 1, 1, tzinfo=UTC)).call("a", 1), client)
    assert (own.job.queue, own.job.max_attempts) == ("own", 2)
    assert own.state.not_before_ms == datetime(2099, 1, 1, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"delay": "5 mins"}, BadDuration),
        ({"delay": -1}, BadValue),
        ({"delay": math.inf}, BadValue),
        ({"delay": 1, "at": 5.0}, OptionsClash),
        ({"retries": -1}, BadValue),
        ({"priority": 10}, BadValue),
        ({"priority": "urgent"}, BadValue),
        ({"timeout": 0}, BadValue),
        ({"tags": "one"}, BadValue),
        ({"id": "short"}, BadValue),
        ({"nonsense": 1}, TypeError),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_where_they_are_written(
    options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        tasks.add.options(**options)  # type: ignore[arg-type]


def test_a_job_over_the_limit_is_refused_with_its_largest_part() -> None:
    made = call(tasks.back, "x" * MAX_JOB_BYTES)
    with pytest.raises(MessageTooLarge, match=r"the limit is 1\.0 MiB\. args: 1\.0 MiB"):
        sealed(made)


def test_a_call_can_be_taken_from_its_bytes_again() -> None:
    envelope = sealed(call(tasks.add, 1, b=2))
    assert msgspec.json.decode(envelope.body)["task"] == f"{HERE}:add"
