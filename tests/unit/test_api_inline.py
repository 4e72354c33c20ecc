"""`jobrunner_inline`: jobs run where they are queued, through the same JSON as on the way to a worker."""

import asyncio
import inspect
import pickle  # noqa: TID251 - users' tools do
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import AsyncClient, Client, JobFailed, JobrunnerExecutor, WaitTimeout, call, context, job
from jobrunner.api.inline import inline
from jobrunner.errors import (
    BadArguments,
    BadValue,
    JobrunnerError,
    NotACall,
    NotAllQueued,
    NotFound,
    OptionsClash,
    RunExists,
)
from tests.support.command import ROOT
from tests.unit import api_tasks as tasks


@pytest.fixture(autouse=True)
def jobrunner_inline() -> Iterator[None]:
    """As the plugin's own fixture of that name, which is here only where the package is installed."""
    tasks.ran.clear()
    with inline():
        yield


def test_a_marked_function_stays_what_it_was() -> None:
    assert tasks.add(2, 3) == 5
    assert list(inspect.signature(tasks.add).parameters) == ["a", "b"]
    assert inspect.isfunction(tasks.add)
    assert inspect.iscoroutinefunction(tasks.double)
    assert pickle.loads(pickle.dumps(tasks.add)) is tasks.add


def test_a_function_in_c_is_registered_though_it_takes_no_attributes() -> None:
    import math

    assert job(math.hypot) is math.hypot


def test_results_are_what_json_keeps_of_them() -> None:
    assert tasks.add.delay(2, 3).result() == 5
    assert tasks.add.enqueue(2, b=3).result() == 5
    assert tasks.back.delay((1, {2})).result() == [1, [2]]
    assert tasks.point.delay().result() == {"x": 1, "y": 2}
    assert tasks.double.delay(4).result() == 8


def test_arguments_are_checked_and_a_result_that_is_not_json_fails_the_job() -> None:
    with pytest.raises(BadArguments):
        tasks.add.delay()  # type: ignore[call-arg]
    with pytest.raises(JobFailed, match="not JSON") as failed:
        call_and_wait(tasks.gives_a_complex)
    assert failed.value.reason == "bad_result"


def call_and_wait(function: object) -> object:
    with Client() as client:
        return client.enqueue(function).result()  # type: ignore[call-overload]


def test_a_job_that_fails_was_tried_as_often_as_it_says() -> None:
    handle = tasks.fails.options(retries=2).delay("busy")
    with pytest.raises(JobFailed, match=r"died after 3 tries: KeyError: 'busy'") as failed:
        handle.result()
    assert tasks.ran == ["busy 1 of 3", "busy 2 of 3", "busy 3 of 3"]
    assert (failed.value.reason, failed.value.class_name, handle.state) == ("error", "KeyError", "dead")
    assert "raise KeyError(kind)" in (failed.value.traceback or "")
    with pytest.raises(JobFailed, match="1 try: Permanent: never"):
        tasks.fails.delay("permanent").result()


def test_a_job_may_queue_another() -> None:
    assert tasks.calls_another.delay(4).result() == [5, True, True]
    with pytest.raises(RuntimeError):
        _ = context.id


def test_map_gives_results_in_order_from_one_or_several_inputs() -> None:
    assert list(tasks.add.map([1, 2, 3])) == [1, 2, 3]
    assert list(tasks.add.map(range(3), range(3))) == [0, 2, 4]
    with Client() as client:
        assert list(client.map(tasks.double, iter([1, 2]), ordered=False)) == [2, 4]


def test_map_gives_what_came_before_a_failure() -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    results = tasks.add.map(inputs())
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_many_calls_are_queued_and_told_of() -> None:
    queued = []
    with Client() as client:
        calls = [tasks.add.call(1), call("tests.unit.api_tasks:add", 2, 3)]
        assert client.enqueue_many(calls, on_queued=queued.append) == 2
        assert [handle.result() for handle in queued] == [1, 5]
        with pytest.raises(NotAllQueued, match="1 jobs are queued, 1 are not: gzip cannot"):
            client.enqueue_many([tasks.add.call(1), call(["gzip"])])


def test_waiting_ends_at_once() -> None:
    with Client() as client:
        handles = [client.enqueue(tasks.add, n) for n in range(3)]
        assert client.wait(handles) == (handles, [])
        assert list(client.as_completed(handles)) == handles
        bad = client.options(retries=0).enqueue(tasks.fails, "x")
        assert client.wait([*handles, bad], until="failure").done == [*handles, bad]
        assert client.result(handles[2].id) == 2
        assert client.status(bad.id).state == "dead"
        client.cancel(handles[0].id)
        with pytest.raises(NotFound):
            client.status("zzzz")


def test_commands_are_refused() -> None:
    with Client() as client, pytest.raises(NotACall, match="not commands"):
        client.enqueue(["gzip"])


def test_an_executor_gives_futures() -> None:
    with JobrunnerExecutor() as executor:
        assert executor.submit(tasks.add, 1, b=2).result() == 3
        assert list(executor.map(tasks.add, range(3), range(3))) == [0, 2, 4]
        assert isinstance(executor.submit(tasks.fails, "permanent").exception(), JobFailed)
        with pytest.raises(BadArguments):
            executor.submit(tasks.add)  # type: ignore[call-arg]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.add, 1)


def test_the_asynchronous_face_runs_coroutines_on_its_own_loop() -> None:
    async def main() -> None:
        async with AsyncClient() as client:
            assert await (await client.enqueue(tasks.double, 4)) == 8
            assert await (await client.enqueue(tasks.add.call(4))).result(timeout=0) == 4
            assert [one async for one in client.map(tasks.add, range(3))] == [0, 1, 2]
            handles = [await client.enqueue(tasks.add, n) for n in range(2)]
            assert (await client.wait(handles)).done == handles
            assert [one async for one in client.as_completed(handles)] == handles
            assert await client.enqueue_many(tasks.add.call(n) for n in range(3)) == 3

    asyncio.run(main())


def test_a_client_is_closed_for_good() -> None:
    client = Client()
    assert client.enqueue(tasks.add, 1).result() == 1
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.enqueue(tasks.add, 1)


def test_a_wait_that_is_too_long_is_a_timeout_error_of_the_standard_library_as_well() -> None:
    assert issubclass(WaitTimeout, TimeoutError)
    assert issubclass(WaitTimeout, JobrunnerError)


def test_marking_a_function_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = {"pika", "asyncio", "concurrent.futures", "threading", "sqlite3", "click", "jobrunner.client"}
    (tmp_path / "shop.py").write_text("from jobrunner import job\n@job(retries=1)\ndef sell(x): return x\n")
    code = f"import sys, shop; print(shop.sell.delay.__name__, sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "enqueue []\n"


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    code = "import sys, jobrunner; print([name for name in sys.modules if name.startswith('jobrunner.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_waits_for_another_job_runs_by_its_end() -> None:
    with Client() as client:
        good, bad = client.enqueue(tasks.add, 1, 2), client.enqueue(tasks.fails, "permanent")
        assert good.then(call(tasks.add, 3, 4)).result() == 7
        by_its_end = {
            "success": bad.then(call(tasks.add, 3, 4)),
            "failure": bad.then(call(tasks.add, 3, 4), when="failure"),
            "end": bad.then(call(tasks.add, 3, 4), when="end"),
        }
        states = {when: handle.state for when, handle in by_its_end.items()}
        assert states == {"success": "cancelled", "failure": "succeeded", "end": "succeeded"}
        with pytest.raises(OptionsClash):
            good.then(call(tasks.add, 3, 4).options(delay=5))
        assert client.then([good, good], call(tasks.add, 1, 1)).result() == 2
        assert client.then([good, bad], call(tasks.add, 1, 1)).state == "cancelled"
        with pytest.raises(BadValue):
            client.then([], call(tasks.add, 1, 1))


def test_a_group_is_waited_for_as_one_and_has_a_callback_once() -> None:
    with Client() as client:
        with client.group("sums") as group:
            first = group.then(tasks.note.call("all"))
            assert group.enqueue(tasks.add, 1, 2).result() == 3
            assert group.enqueue_many(tasks.add.call(n, n) for n in range(3)) == 3
            assert not first.done
        assert group.results() == [3, 0, 2, 4]
        assert [handle.result() for handle in group.as_completed()] == [3, 0, 2, 4]
        assert group.wait().waiting == []
        assert client.results("sums") == [3, 0, 2, 4]
        assert first.result() == {"text": "all", "after": [], "run": "sums"}
        assert group.then(tasks.note.call("late")).state == "succeeded"
        assert group.then(tasks.note.call("never"), when="failure").state == "cancelled"
        with pytest.raises(RuntimeError, match="is sealed"):
            group.enqueue(tasks.add, 1)
        with pytest.raises(RunExists, match="'sums'"):
            client.group("sums").enqueue(tasks.add, 1)
        with client.group("sums", resume=True) as again:
            again.enqueue(tasks.add, 5)
        assert again.results() == [3, 0, 2, 4, 5]


def test_a_group_with_a_failure_raises_it_and_runs_what_is_for_failures() -> None:
    with Client() as client:
        with pytest.raises(ZeroDivisionError), client.group() as broken:
            good = broken.then(tasks.note.call("good"))
            bad = broken.then(tasks.note.call("bad"), when="failure")
            broken.enqueue(tasks.add, 1)
            raise ZeroDivisionError
        assert (good.state, bad.state) == ("cancelled", "succeeded")
        with client.group() as group:
            handle = group.enqueue(tasks.fails, "permanent")
        with pytest.raises(JobFailed, match=handle.id[:8]):
            group.results()
        with pytest.raises(JobFailed):
            client.results(group.name)
        assert group.wait(until="failure").done == [handle]


def test_a_callback_knows_what_it_waited_for() -> None:
    with Client() as client:
        handles = [client.enqueue(tasks.add, n) for n in (1, 2)]
        told = client.then(handles, tasks.note.call("x")).result()
        assert told == {"text": "x", "after": [handle.id for handle in handles], "run": None}


def test_a_group_of_an_asynchronous_client() -> None:
    async def main() -> None:
        async with AsyncClient() as client:
            async with client.group() as group:
                await group.enqueue(tasks.double, 4)
                await group.enqueue_many(tasks.add.call(n) for n in range(2))
                told = await group.then(tasks.note.call("x"), when="end")
            assert await group.results() == [8, 0, 1]
            assert [await handle async for handle in group.as_completed()] == [8, 0, 1]
            assert (await group.wait()).waiting == []
            assert (await told)["run"] == group.name
            assert await client.results(group.name) == [8, 0, 1]

    asyncio.run(main())
