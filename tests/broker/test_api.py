"""The Python API against real brokers and a real worker."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

import pytest

from jobrunner import Call, Client, JobCancelled, JobFailed, JobHandle, JobrunnerExecutor, WaitTimeout, call
from jobrunner.broker import catchup
from jobrunner.errors import BrokerError, MessageTooLarge, NotAllQueued, NotFound
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import starts, wait_for_start

QUEUE = f"api-{os.getpid()}"


def test_a_result_comes_back(client: Client) -> None:
    handle = client.enqueue("tasks:add", 2, b=3)
    assert handle.result(timeout=60) == 5
    assert (handle.state, handle.done) == ("succeeded", True)
    assert client.enqueue(["sh", "-c", "echo hello"]).result("20s") == "hello\n"


def test_a_job_that_died_raises_what_the_function_raised(client: Client, tmp_path: Path) -> None:
    handle = client.options(retries=0).enqueue("tasks:fails", str(tmp_path / "w"))
    with pytest.raises(JobFailed, match=r"died after 1 try: ValueError: no such luck") as failed:
        handle.result(60)
    assert (failed.value.reason, failed.value.class_name, handle.state) == ("error", "ValueError", "dead")
    assert "no such luck" in (failed.value.traceback or "")


def test_a_wait_ends_and_the_job_goes_on(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    handle = client.enqueue("tasks:until", str(tmp_path / "w"), str(gate))
    wait_for_start(tmp_path / "w")
    with pytest.raises(TimeoutError, match=f"Still not ended after 0 s: {handle.id[:8]}"):
        handle.result(timeout=0.1)
    assert not handle.done
    eventually(lambda: _is(handle.state, "running"))
    gate.touch()
    assert handle.result(60) == "opened"


def _is(found: object, expected: object) -> None:
    assert found == expected


def test_one_client_serves_many_threads(client: Client) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for step in range(20):
            found = client.enqueue("tasks:add", 1000 * number, step).result(60)
            if found != 1000 * number + step:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_all_that_was_queued_is_told_of_before_what_the_input_raised(client: Client) -> None:
    def calls() -> Iterator[Call[int]]:
        for number in range(5):
            yield call("tasks:add", number, 1)
        raise ValueError("no more")

    queued: list[JobHandle[int]] = []
    with pytest.raises(ValueError, match="no more"):
        client.enqueue_many(calls(), on_queued=queued.append)
    assert [handle.result(60) for handle in queued] == [1, 2, 3, 4, 5]


def _add(a: int, b: int) -> int:
    return a + b


_add.__module__, _add.__qualname__ = "tasks", "add"


def test_a_client_closes_though_a_future_was_cancelled_while_its_job_was_queued(broker: TestBroker) -> None:
    for step in range(10):
        client = Client(broker.url)
        client.enqueue("tasks:add", 1, 2)
        executor = JobrunnerExecutor(client=client)
        future = executor.submit(_add, 1, 2)
        threading.Event().wait(0.002 * step)  # at whatever step of the enqueue
        future.cancel()
        closing = threading.Thread(target=client.close, daemon=True)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()


def test_map_gives_results_in_input_order_and_reads_no_further_than_allowed(client: Client) -> None:
    read = ahead = taken = 0

    def inputs() -> Iterator[int]:
        nonlocal read, ahead
        for number in range(300):
            read += 1
            ahead = max(ahead, read - taken)
            yield number

    for number, result in enumerate(client.map("tasks:add", inputs(), iter(lambda: 1, 0), max_in_flight=20)):
        taken += 1
        assert result == number + 1
    assert taken == 300
    assert ahead <= 21


def test_map_without_order_gives_what_ends_first(client: Client, tmp_path: Path) -> None:
    gates = [tmp_path / name for name in ("held", "open", "open")]
    gates[1].touch()
    results = client.map("tasks:until", [str(tmp_path / "w")] * 3, [str(gate) for gate in gates], ordered=False)
    assert [next(results), next(results)] == ["opened"] * 2
    gates[0].touch()
    assert list(results) == ["opened"]


def test_a_failure_within_a_map_stands_where_its_result_would(client: Client, tmp_path: Path) -> None:
    witness = str(tmp_path / "w")
    results = client.options(retries=0).map("tasks:fails_until", [witness] * 3, [1, 2, 1])
    assert next(results) == 1
    with pytest.raises(JobFailed, match="ConnectionError"):
        next(results)


def test_a_map_that_is_left_leaves_nothing_behind(client: Client) -> None:
    results = client.map("tasks:add", range(10_000), iter(lambda: 1, 0), max_in_flight=10)
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert client.enqueue("tasks:add", 1, 1).result(60) == 2


def test_many_calls_are_queued_without_reading_far_ahead(client: Client) -> None:
    read = told = ahead = 0

    def calls() -> Iterator[call]:  # type: ignore[valid-type]
        nonlocal read, ahead
        for number in range(5000):
            read += 1
            ahead = max(ahead, read - told)
            yield call("tasks:add", number, 1)

    handles: list[JobHandle[object]] = []

    def on_queued(handle: JobHandle[object]) -> None:
        nonlocal told
        told += 1
        if told > 4990:
            handles.append(handle)

    assert client.enqueue_many(calls(), on_queued=on_queued) == 5000
    assert ahead <= 5 * 500
    # nobody listened while the first of them ended
    assert [handle.result(60) for handle in handles] == list(range(4991, 5001))


def test_a_call_that_cannot_be_sent_takes_no_other_along(client: Client) -> None:
    large = call("tasks:add", "x" * 1024 * 1024, "y")
    handles: list[JobHandle[object]] = []
    with pytest.raises(NotAllQueued, match=r"4 jobs are queued, 1 are not: This job has 1\.0 MiB"):
        client.enqueue_many(
            [*(call("tasks:add", n, 1) for n in range(3)), large, call("tasks:add", 3, 1)], on_queued=handles.append
        )
    assert [handle.result(60) for handle in handles] == [1, 2, 3, 4]
    results = client.map("tasks:add", [1, "x" * 1024 * 1024, 2], [1, "y", 2])
    assert next(results) == 2
    with pytest.raises(MessageTooLarge):
        next(results)


def test_waiting_for_several(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    quick, held = client.enqueue("tasks:add", 1, 2), client.enqueue("tasks:until", str(tmp_path / "w"), str(gate))
    assert client.wait([held, quick], timeout=60, until="first") == ([quick], [held])
    assert client.wait([held, quick], timeout=0.2) == ([quick], [held])
    in_order = client.as_completed([held, quick], timeout=60)
    assert next(in_order) is quick
    gate.touch()
    assert next(in_order) is held
    assert client.wait([held, quick]).waiting == []
    bad = client.options(retries=0).enqueue("tasks:fails", str(tmp_path / "w"))
    late = client.options(delay="1h").enqueue("tasks:add", 1, 2)
    assert client.wait([late, bad], timeout=60, until="failure") == ([bad], [late])
    with pytest.raises(WaitTimeout, match="1 job"):
        list(client.as_completed([late], timeout=0.1))
    late.cancel()


@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
def test_a_client_waits_for_the_handles_of_another(
    client: Client, broker: TestBroker, tmp_path: Path, is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "LINGER_S", 0.0)
    gate = tmp_path / "gate"
    with Client(broker.url) as queueing, client.group() as group:
        held = queueing.options(queue=QUEUE).enqueue("tasks:until", str(tmp_path / "w"), str(gate))
        grouped = group.enqueue("tasks:until", str(tmp_path / "w"), str(gate))
        with Client(broker.url) as waiting:
            assert waiting.wait([held, grouped], timeout=0.1).waiting == [held, grouped]
            if is_closed:
                queueing.close()
            threading.Timer(1.0, gate.touch).start()
            assert waiting.wait([held, grouped], timeout=20).waiting == []
            assert [held.result(60), grouped.result(60)] == ["opened"] * 2


def test_any_job_can_be_asked_for_by_its_id(client: Client, broker: TestBroker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ended = client.enqueue("tasks:add", 1, 2)
    ended.result(60)
    held = client.enqueue("tasks:until", str(tmp_path / "w"), str(gate))
    wait_for_start(tmp_path / "w")
    with Client(broker.url) as other:
        assert other.result(ended.id, timeout=60) == 3
        assert other.result(ended.id[:10]) == 3
        found = other.status(ended.id)
        assert (found.state, found.run, found.task) == ("succeeded", client.run, "tasks:add")
        with pytest.raises(WaitTimeout):
            other.result(held.id, timeout=0.2)
        gate.touch()
        assert other.result(held.id, timeout=60) == "opened"
        with pytest.raises(NotFound):
            other.result("zzzzzzzz")


def test_a_job_is_cancelled_where_it_runs_and_before_it_starts(client: Client, tmp_path: Path) -> None:
    running = client.enqueue("tasks:until", str(tmp_path / "w"), str(tmp_path / "never"))
    wait_for_start(tmp_path / "w")
    running.cancel("enough")
    with pytest.raises(JobCancelled):
        running.result(60)
    waiting = client.options(delay=60).enqueue("tasks:until", str(tmp_path / "w"), str(tmp_path / "never"))
    client.cancel(waiting.id)
    with pytest.raises(JobCancelled):
        waiting.result(60)
    assert starts(tmp_path / "w") == 1
    running.cancel()
    far = client.options(delay="10d", queue=f"{QUEUE}-nobody").enqueue("tasks:add", 1, 2)
    far.cancel()
    with pytest.raises(JobCancelled):
        far.result(5)


def test_an_executor_gives_futures(client: Client, tmp_path: Path) -> None:
    with JobrunnerExecutor(client=client) as executor:
        futures = [executor.submit(_named("add"), number, 1) for number in range(50)]
        assert [future.result(60) for future in futures] == list(range(1, 51))
        assert list(executor.map(_named("add"), range(5), range(5))) == [0, 2, 4, 6, 8]
        never = executor.submit(_named("until"), str(tmp_path / "w"), str(tmp_path / "never"))
        wait_for_start(tmp_path / "w")
        assert never.cancel()
        with pytest.raises(JobFailed):
            executor.submit(_named("hopeless"), str(tmp_path / "w2")).result(60)
    assert client.enqueue("tasks:add", 1, 1).result(60) == 2


def test_an_executor_with_few_places_queues_no_more_at_a_time(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with JobrunnerExecutor(1, client=client) as executor:
        first = executor.submit(_named("until"), str(tmp_path / "w"), str(gate))
        others = [executor.submit(_named("add"), number, 1) for number in range(3)]
        wait_for_start(tmp_path / "w")
        assert others[0].cancel()
        assert list(as_completed(others[:1], 20)) == others[:1]
        assert not any(other.done() for other in others[1:])
        gate.touch()
        assert [first.result(60), *(other.result(60) for other in others[1:])] == ["opened", 2, 3]
    with pytest.raises(ValueError, match="greater than 0"):
        JobrunnerExecutor(max_workers=0)


def test_an_executor_that_is_left_leaves_no_future_open(commands: Commands, client: Client, tmp_path: Path) -> None:
    own = Client(commands.env["JOBRUNNER_URL"]).options(queue=QUEUE)
    executor = JobrunnerExecutor(1, client=own)
    futures = [executor.submit(_named("until"), str(tmp_path / "w"), str(tmp_path / "gate")) for _ in range(2)]
    wait_for_start(tmp_path / "w")
    executor.shutdown(wait=False)
    own.close()
    for future in futures:
        with pytest.raises(RuntimeError, match="the client was closed"):
            future.result(60)
    (tmp_path / "gate").touch()
    executor = JobrunnerExecutor(client=client)
    futures = [executor.submit(_named("until"), str(tmp_path / "w2"), str(tmp_path / "never")) for _ in range(20)]
    executor.shutdown(cancel_futures=True)  # also those that are on their way to the broker
    assert set(as_completed(futures, 20)) == set(futures)
    rows = client.work(lambda core: core.members(client.run))
    assert {row.state for row in rows} <= {"cancelled"}


def _named(name: str) -> object:
    """A function whose module is the worker's."""

    def function(*_args: object) -> None: ...

    function.__module__, function.__qualname__ = "tasks", name
    return function


def test_a_closed_client_leaves_no_thread(commands: Commands) -> None:
    before = set(threading.enumerate())
    with Client(commands.env["JOBRUNNER_URL"]) as client:
        client.options(queue=QUEUE).enqueue("tasks:add", 1, 2).result(60)
        assert {thread.name for thread in set(threading.enumerate()) - before} >= {"jobrunner client"}
    assert set(threading.enumerate()) <= before


def test_a_client_that_cannot_connect_says_why_and_may_try_again() -> None:
    client = Client("amqp://127.0.0.1:1/%2F")
    for _ in range(2):
        with pytest.raises(BrokerError, match="Cannot reach the broker"):
            client.enqueue("tasks:add", 1, 2)
    client.close()


def _run(code: str, commands: Commands, *args: str) -> str:
    """What a program prints, run beside the worker's tasks."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *args],
        cwd=commands.folder,
        env=commands.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_a_marked_function_queues_itself_and_the_program_ends_by_itself(commands: Commands) -> None:
    code = f"""
    from tasks import add
    handle = add.options(queue={QUEUE!r}).delay(2, b=3)
    print(handle.result(60), list(add.options(queue={QUEUE!r}).map([1, 2], [3, 4])))
    """
    assert _run(code, commands) == "5 [4, 6]\n"


def test_what_was_queued_last_is_not_lost_when_the_program_ends(commands: Commands, client: Client) -> None:
    code = f"""
    import sys
    from tasks import add
    print(add.options(queue={QUEUE!r}).delay(20, 3).id)
    sys.exit()
    """
    assert client.result(_run(code, commands).strip(), timeout=20) == 23


def test_a_fork_gets_connections_of_its_own_and_the_parent_keeps_its_own(commands: Commands) -> None:
    code = f"""
    import os, sys, warnings
    from jobrunner import Client
    warnings.simplefilter("ignore", DeprecationWarning)
    client = Client().options(queue={QUEUE!r})
    before = client.options(delay=1).enqueue("tasks:add", 1, 1)
    children = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                assert client.enqueue("tasks:add", number, 10).result(60) == number + 10
                assert before.result(60) == 2     # queued by the parent
                assert list(client.map("tasks:add", [1, 2], [3, 4])) == [4, 6]
                client.close()
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert client.enqueue("tasks:add", 5, 10).result(60) == 15
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert before.result(60) == 2
    assert client.enqueue("tasks:add", 6, 10).result(60) == 16
    print("fine")
    """
    assert _run(code, commands) == "fine\n"


def test_a_process_pool_that_forks_can_use_the_functions(commands: Commands) -> None:
    code = f"""
    import multiprocessing, warnings
    from tasks import add
    warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads

    def work(number):
        return add.options(queue={QUEUE!r}).delay(number, 1).result(60)

    assert work(1) == 2
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(sum(pool.map(work, range(10))))
    """
    assert _run(code, commands) == "55\n"
