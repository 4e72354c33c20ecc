"""Functions in a real child: results, failures, what a job knows."""

import asyncio
import os
import time
from pathlib import Path

import msgspec
import pytest

from jobrunner.execution.pool import Finished, Found
from jobrunner.outcome import Failed, Rejected, RetryAsked, Succeeded, UnknownFunction
from jobrunner.registry import FunctionSpec
from tests.process.harness import JOBS, once, result, running, several


def test_a_function_gives_its_result() -> None:
    before = time.time()
    end = once(task="add", args=[2], kwargs={"b": 40})
    assert end.outcome == Succeeded(result=msgspec.Raw(b"42"))
    assert end.ready
    assert before <= end.ran.started_at <= (end.ran.ended_at or 0) <= time.time()
    assert end.ran.stdout is end.ran.stderr is None


def test_a_coroutine_is_run_to_its_end() -> None:
    first, failed, again = several(
        {"task": "add_later", "args": [2, 3]}, {"task": "fail_later"}, {"task": "add_later", "args": [5, 6]}
    )
    assert (result(first), result(again)) == (5, 11)
    assert isinstance(failed.outcome, Failed)
    trace = failed.outcome.error.traceback or ""
    assert "in fail_later" in trace
    assert "asyncio" not in trace


def test_the_child_reports_its_functions_with_their_defaults() -> None:
    async def functions() -> dict[str, FunctionSpec]:
        async with running() as harness:
            harness.pool.renew()
            return {spec.name: spec for spec in (await harness.ready()).functions}

    found = asyncio.run(functions())
    assert found[f"{JOBS}:with_defaults"] == FunctionSpec(
        name=f"{JOBS}:with_defaults", retries=7, backoff_s=2.0, backoff_max_s=60.0, timeout_s=300.0, queue="slow"
    )
    assert f"{JOBS}:raw" not in found


def test_a_failure_tells_class_message_and_only_the_users_frames() -> None:
    plain, deep = several({"task": "fail"}, {"task": "fail_deeply"})
    assert isinstance(plain.outcome, Failed)
    error = plain.outcome.error
    assert (error.reason, error.class_name, error.message) == ("error", "ValueError", "no luck")
    assert (error.traceback or "").count("File ") == 1
    assert "jobs.py" in (error.traceback or "")
    assert plain.ready
    assert isinstance(deep.outcome, Failed)
    assert "The above exception was the direct cause" in (deep.outcome.error.traceback or "")


def test_permanent_and_retry_are_told_apart_from_other_failures() -> None:
    permanent, later, whenever, nonsense = several(
        {"task": "give_up"},
        {"task": "ask_again", "args": [30]},
        {"task": "ask_again", "args": [None]},
        {"task": "ask_again", "args": ["soon"]},
    )
    assert isinstance(permanent.outcome, Rejected)
    assert (permanent.outcome.error.reason, permanent.outcome.error.message) == ("permanent", "no such user")
    for end, after_s in ((later, 30.0), (whenever, None), (nonsense, None)):
        assert isinstance(end.outcome, RetryAsked)
        assert end.outcome.after_s == after_s


def test_error_texts_of_any_kind_arrive_clipped() -> None:
    surrogates, unprintable, recursion = several({"task": "surrogates"}, {"task": "unprintable"}, {"task": "recurse"})
    assert isinstance(surrogates.outcome, Failed)
    assert surrogates.outcome.error.message.startswith("\\ud800xxx")
    assert len(surrogates.outcome.error.message) == 512
    assert isinstance(unprintable.outcome, Failed)
    assert unprintable.outcome.error.class_name == "Nasty"
    assert isinstance(recursion.outcome, Failed)
    assert len(recursion.outcome.error.traceback or "") < 16 * 1024


def test_arguments_that_do_not_fit_can_never_work_but_a_type_error_within_may() -> None:
    missing, extra, inside = several(
        {"task": "add"}, {"task": "noop", "kwargs": {"x": 1}}, {"task": "fail_binding_inside"}
    )
    for end in (missing, extra):
        assert isinstance(end.outcome, Rejected)
        assert end.outcome.error.reason == "bad_arguments"
    assert isinstance(missing.outcome, Rejected)
    assert missing.outcome.error.message == "add() missing 1 required positional argument: 'a'"
    assert isinstance(inside.outcome, Failed)


@pytest.mark.parametrize(
    "args",
    [
        b"[" * 900 + b"]" * 900,
        b"[" * 66 + b"]" * 66,
        b"[" + b"9" * 5000 + b"]",
        b'["\xff"]',
        b'[{"a":' * 40 + b"1" + b"}]" * 40,
    ],
)
def test_arguments_that_are_bombs_are_malformed_and_hurt_nobody(args: bytes) -> None:
    bomb, clean = several({"task": "add", "args": msgspec.Raw(args)}, {"task": "add", "args": [1]})
    assert isinstance(bomb.outcome, Rejected), bomb.outcome
    assert bomb.outcome.error.reason == "malformed"
    assert bomb.ready
    assert result(clean) == 2


def test_results_must_be_json() -> None:
    bad = ("nan", "infinity", "object", "cyclic", "surrogate")
    good = {"none inside": [None, 1.5], "set": [1], "big integer": 2**70}
    ends = several(*({"task": "give", "args": [kind]} for kind in (*bad, *good)))
    for kind, end in zip(bad, ends, strict=False):
        assert isinstance(end.outcome, Rejected), kind
        assert end.outcome.error.reason == "bad_result"
        assert end.ready
    assert [result(end) for end in ends[len(bad) :]] == list(good.values())


def test_of_a_result_over_one_mebibyte_the_beginning_is_kept_and_marked() -> None:
    (end,) = several({"task": "give", "args": ["large"]})
    assert isinstance(end.outcome, Succeeded)
    assert end.outcome.truncated
    assert len(bytes(end.outcome.result)) == pytest.approx(64 * 1024, abs=64)


def test_a_running_job_knows_its_context_and_its_variables() -> None:
    facts, variables, later = several(
        {"task": "facts", "attempt": 3, "timeout_s": 60.0},
        {"task": "variables", "args": ["JOBRUNNER_"], "attempt": 3, "timeout_s": 60.0, "run": "r1", "seq": 7},
        {"task": "variables", "args": ["JOBRUNNER_"]},
    )
    seen = result(facts)
    assert abs(seen.pop("deadline") - (facts.ran.started_at + 60)) < 0.001
    assert seen == {
        "id": "0000000000000001",
        "attempt": 3,
        "max_attempts": 4,
        "idempotency_key": "0000000000000001",
        "queue": "task_queue",
        "worker": "w1",
    }
    deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(variables.ran.started_at + 60))
    always = {"MAX_ATTEMPTS": "4", "QUEUE": "task_queue", "WORKER": "w1", "SLOT": "1"}
    assert result(variables) == {
        f"JOBRUNNER_JOB_{name}": value
        for name, value in {
            **always,
            "ID": "0000000000000002",
            "ATTEMPT": "3",
            "DEADLINE": deadline,
            "RUN": "r1",
            "SEQ": "7",
        }.items()
    }
    assert result(later) == {
        f"JOBRUNNER_JOB_{name}": value for name, value in {**always, "ID": "0000000000000003", "ATTEMPT": "1"}.items()
    }


def test_a_job_gets_its_own_variables_and_folder_and_the_next_one_does_not(tmp_path: Path) -> None:
    home = os.environ["HOME"]
    mine, where, others, back = several(
        {"task": "variables", "args": [""], "env": {"COLOUR": "blue", "HOME": "/mine"}},
        {"task": "folder", "cwd": str(tmp_path)},
        {"task": "variables", "args": [""]},
        {"task": "folder"},
    )
    assert (result(mine)["COLOUR"], result(mine)["HOME"]) == ("blue", "/mine")
    assert "COLOUR" not in result(others)
    assert result(others)["HOME"] == home
    assert (result(where), result(back)) == (str(tmp_path), str(Path.cwd()))


@pytest.mark.parametrize("name", ["PATH", "PYTHONPATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "JOBRUNNER_URL"])
def test_a_function_may_not_set_variables_that_change_what_runs(name: str) -> None:
    end = once(task="noop", env={name: "x"})
    assert isinstance(end.outcome, Rejected)
    assert end.outcome.error.reason == "not_allowed"


def test_variables_and_folders_that_cannot_be_are_refused() -> None:
    nul, equals, folder, clean = several(
        {"task": "noop", "env": {"A": "b\0c"}},
        {"task": "noop", "env": {"A=B": "c"}},
        {"task": "noop", "cwd": "/no/such/folder"},
        {"task": "variables", "args": ["A"]},
    )
    reasons = [end.outcome.error.reason for end in (nul, equals, folder) if isinstance(end.outcome, Rejected)]
    assert reasons == ["malformed", "malformed", "cannot_start"]
    assert "A" not in result(clean)


def test_the_workers_own_variables_are_not_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRUNNER_URL", "amqp://secret")
    monkeypatch.setenv("JOBRUNNER_AUTHKEY", "secret")
    monkeypatch.setenv("JOBRUNNER_LOG_LEVEL", "debug")
    asked = {"task": "variables", "args": ["JOBRUNNER_"]}
    kept = result(several(asked)[0])
    shared = result(several(asked, share_broker=True)[0])
    assert not {name for name in kept if not name.startswith("JOBRUNNER_JOB_")}
    assert {name for name in shared if not name.startswith("JOBRUNNER_JOB_")} == {"JOBRUNNER_URL", "JOBRUNNER_AUTHKEY"}


def test_only_registered_functions_run_unless_their_module_is_allowed() -> None:
    body = {"task": "raw", "raw": b"\x00\xffabc"}
    (plain,) = several(body)
    assert isinstance(plain.outcome, UnknownFunction)
    allowed, private, imported, stdlib, missing = several(
        body,
        {"task": "_private"},
        {"task": "subprocess"},
        {"task": "os:system", "args": ["true"]},
        {"task": "tests.support.nothing_here:f"},
        allow_import=("tests.support",),
        apps=(),
    )
    assert result(allowed) == {"size": 5, "start": "00ff61"}
    for end in (private, imported, stdlib, missing):
        assert isinstance(end.outcome, UnknownFunction), end.outcome
        assert end.outcome.error.reason == "unknown_function"


def test_what_a_function_wants_holds_from_its_first_run_on_also_if_it_is_imported_on_demand() -> None:
    """Its process does not begin before its parent knows: the timeout is the parent's, and so are the retries."""

    async def twice() -> tuple[Found, Finished, Finished]:
        async with running(allow_import=("tests.support",), apps=()) as harness:
            harness.give(task="with_wishes")
            found = await harness.expect(Found)
            again = await harness.run(task="with_wishes", timeout_s=found.function.timeout_s)
            return found, again, await harness.run(task="with_wishes")

    found, again, known = asyncio.run(twice())
    assert (found.function.retries, found.function.timeout_s) == (0, 3600.0)
    assert result(again) == [4, True]
    assert result(known) == [4, False]


def test_a_function_that_a_module_only_imported_is_not_its_own() -> None:
    (end,) = several({"task": "subprocess:open", "args": ["/etc/passwd"]}, allow_import=("*",), apps=())
    assert isinstance(end.outcome, UnknownFunction)


def test_a_raw_handler_takes_a_body_of_eight_mebibytes() -> None:
    (end,) = several({"task": "raw", "raw": b"\xfe" * 8 * 1024 * 1024}, apps=(), raw_handler=f"{JOBS}:raw")
    assert result(end) == {"size": 8 * 1024 * 1024, "start": "fefefe"}


def test_output_belongs_to_its_job() -> None:
    loud, quiet, direct = several(
        {"task": "say", "args": ["héllo", "wrong"]}, {"task": "noop"}, {"task": "write_directly", "args": ["words"]}
    )
    assert loud.ran.stdout is not None
    assert loud.ran.stderr is not None
    assert (loud.ran.stdout.head, loud.ran.stderr.head) == ("héllo\n", "wrong")
    assert quiet.ran.stdout is quiet.ran.stderr is None
    assert direct.ran.stdout is not None
    assert direct.ran.stderr is not None
    assert (direct.ran.stdout.head, direct.ran.stderr.head) == ("words", "words by a child\n")
