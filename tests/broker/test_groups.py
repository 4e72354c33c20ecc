"""Groups of the Python API against real brokers and a real worker."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobrunner import AsyncClient, Call, Client, JobFailed, JobHandle, WaitTimeout, call
from jobrunner.errors import RunExists
from tests.support.broker import TestBroker
from tests.support.command import Commands
from tests.support.eventually import eventually
from tests.support.worker import starts, wait_for_start

QUEUE = f"groups-{os.getpid()}"


def callback(witness: Path) -> Call[Any]:
    return call("tasks:waited", str(witness)).options(queue=QUEUE)


def test_all_of_a_group_succeed(client: Client, broker: TestBroker, queue_name: str, tmp_path: Path) -> None:
    with client.group(queue_name) as group:
        told = group.then(callback(tmp_path / "told"))
        group.enqueue("tasks:slow", str(tmp_path / "w"), 0.3)
        assert group.enqueue_many(call("tasks:add", number, 1) for number in range(20)) == 20
        group.enqueue(["echo", "last"])
        assert starts(tmp_path / "told") == 0
    results = group.results("30s")
    assert results[1:] == [*range(1, 21), "last\n"]
    assert told.result("30s") == {"after": [], "run": queue_name}
    assert starts(tmp_path / "told") == 1
    assert client.results(queue_name) == results
    with pytest.raises(RunExists, match=queue_name):
        client.group(queue_name).enqueue("tasks:add", 1, 2)
    with Client(broker.url) as another:
        assert another.group(queue_name, resume=True).results("30s") == results


def test_threads_fill_a_group_and_each_job_has_its_own_number(client: Client, queue_name: str) -> None:
    def fill(number: int) -> None:
        group.enqueue("tasks:add", number, 0)
        group.enqueue_many(call("tasks:add", number, 0) for _ in range(10))

    with client.group(queue_name) as group, ThreadPoolExecutor(8) as threads:
        list(threads.map(fill, range(8)))
    assert sum(group.results("30s")) == 11 * sum(range(8))
    found = client.work(lambda core: core.members(queue_name))
    assert [row.seq for row in found] == list(range(88))


def one_retried_by_hand(client: Client, commands: Commands, run: str, folder: Path) -> str:
    """The id of the one job of a group, which has failed and runs again in 2 s."""
    gate = folder / "gate"
    with client.options(retries=0).group(run) as group:
        handle = group.enqueue(["sh", "-c", f"test -e {gate} && echo mended"])
    with pytest.raises(JobFailed):
        handle.result("60s")
    gate.touch()
    commands.run("retry", handle.id, "--delay", "2s", "--yes")
    return handle.id


def test_a_job_that_was_retried_by_hand_has_not_ended_for_who_takes_its_group_up_again(
    client: Client, commands: Commands, queue_name: str, tmp_path: Path
) -> None:
    job_id = one_retried_by_hand(client, commands, queue_name, tmp_path)
    again = client.group(queue_name, resume=True)
    (retried,) = again.handles
    told = [retried.then(callback(tmp_path / "told"))]
    assert again.results("60s") == ["mended\n"]
    told.append(retried.then(callback(tmp_path / "told")))
    for one in told:
        assert one.result("60s") == {"after": [job_id], "run": None}


def test_what_waits_for_a_group_of_which_a_job_was_retried_waits_for_the_retry(
    client: Client, commands: Commands, queue_name: str, tmp_path: Path
) -> None:
    one_retried_by_hand(client, commands, queue_name, tmp_path)
    told = client.group(queue_name, resume=True).then(callback(tmp_path / "told"))
    assert told.result("60s") == {"after": [], "run": queue_name}


def test_what_a_failure_in_a_group_brings_about(client: Client, tmp_path: Path) -> None:
    gate, witness = tmp_path / "gate", tmp_path / "w"
    with client.group() as group:
        after = {when: group.then(callback(tmp_path / when), when=when) for when in ("success", "failure", "end")}
        group.enqueue("tasks:until", str(witness), str(gate))
        dead = group.enqueue(call("tasks:hopeless", str(tmp_path / "hopeless")))
    with pytest.raises(JobFailed, match=dead.id[:8]):
        group.results("30s")  # though another one goes on
    done, waiting = group.wait("30s", until="failure")
    assert (done, len(waiting)) == ([dead], 1)
    assert next(group.as_completed("30s")) is dead
    with pytest.raises(WaitTimeout):
        client.results(group.name)
    gate.touch()
    assert client.wait(after.values(), "30s").waiting == []
    assert {when: handle.state for when, handle in after.items()} == {
        "success": "cancelled",
        "failure": "succeeded",
        "end": "succeeded",
    }
    assert [starts(tmp_path / when) for when in ("failure", "end")] == [1, 1]


STARTER = """
import os, sys
from jobrunner import Client, call
name, queue, witness, gate, told, seals = sys.argv[1:]
client = Client().options(queue=queue)
group = client.group(name)
group.then(call("tasks:waited", told).options(queue=queue))
group.enqueue("tasks:until", witness, gate)
if seals == "yes":
    group.seal()
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("seals", ["yes", "no"])
def test_the_callback_runs_once_though_the_starter_was_killed(
    client: Client, commands: Commands, queue_name: str, tmp_path: Path, seals: str
) -> None:
    gate, witness, told = tmp_path / "gate", tmp_path / "w", tmp_path / "told"
    words = [queue_name, QUEUE, str(witness), str(gate), str(told), seals]
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STARTER), *words],
        env=commands.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"begun\n"
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    wait_for_start(witness)
    gate.touch()
    group = client.group(queue_name, resume=True)
    assert group.results("30s") == ["opened"]
    if seals == "no":
        assert starts(told) == 0
        why = commands.run("show", "--why", _waiting(commands)).stderr
        assert f'Client().group("{queue_name}", resume=True).seal()' in why
        group.seal()
    wait_for_start(told)
    assert starts(told) == 1


def _waiting(commands: Commands) -> str:
    return str(commands.run("list", "state:waiting", f"queue:{QUEUE}").stdout.split()[0])


def test_what_is_heard_of_other_runs_is_left_when_nobody_holds_them(client: Client) -> None:
    def keys() -> int:
        async def count(core: object) -> int:
            return len(core._ends._subscription._keys)  # type: ignore[attr-defined]

        return client.work(count)

    client.enqueue("tasks:add", 1, 2)
    own = keys()
    with client.group() as group:
        handle: JobHandle[int] = group.enqueue("tasks:add", 1, 2)
    assert keys() == 2 * own
    del group
    assert handle.result("30s") == 3  # the handle alone holds it
    del handle
    eventually(lambda: _is(keys(), own))


def _is(found: object, expected: object) -> None:
    assert found == expected


def test_a_group_with_an_event_loop(client: Client, commands: Commands, queue_name: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(commands.env["JOBRUNNER_URL"]) as opened:
            asynchronous = opened.options(queue=QUEUE)
            async with asynchronous.group(queue_name) as group:
                told = await group.then(callback(tmp_path / "told"), when="end")
                await group.enqueue("tasks:add", 1, 2)
                await group.enqueue_many(call("tasks:add", number, 1) for number in range(3))
            assert await group.results("30s") == [3, 1, 2, 3]
            assert sorted([await handle async for handle in group.as_completed("30s")]) == [1, 2, 3, 3]
            assert (await told.result("30s"))["run"] == queue_name
            assert await asynchronous.results(queue_name) == [3, 1, 2, 3]

    asyncio.run(main())
    assert client.group(queue_name, resume=True).wait("30s").waiting == []
