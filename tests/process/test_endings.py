"""Timeouts, crashes, interruptions: whatever a job does, its end is told once and nothing of it is left."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from jobrunner.execution import frames
from jobrunner.execution.pool import Finished, SlotDown
from jobrunner.outcome import Crashed, Interrupted, Succeeded, TimedOut
from tests.process.harness import Harness, assert_group_gone, once, result, running, several, starting, written


@pytest.mark.parametrize("task", ["spin", "hold_gil"])
def test_a_timeout_ends_a_job_that_never_listens(task: str) -> None:
    end, clean = several({"task": task, "timeout_s": 0.2}, {"task": "noop"})
    assert isinstance(end.outcome, TimedOut)
    assert not end.ready
    assert_group_gone(end.ran.pid)
    assert 0.2 <= (end.ran.ended_at or 0) - end.ran.started_at < 20
    assert isinstance(clean.outcome, Succeeded)
    assert clean.ran.pid != end.ran.pid


def test_a_timeout_reaches_what_a_function_started(tmp_path: Path) -> None:
    end = once(task="wait_in_shell", args=[str(tmp_path / "pid")], timeout_s=0.5)
    assert isinstance(end.outcome, TimedOut)
    assert_group_gone(end.ran.pid)


def test_a_result_that_comes_in_time_wins_over_the_deadline() -> None:
    ends = several(*({"task": "noop", "timeout_s": 0.0005 * n} for n in range(1, 25)))
    assert len({end.key for end in ends}) == len(ends)
    assert all(isinstance(end.outcome, Succeeded | TimedOut) for end in ends)
    assert isinstance(ends[-1].outcome, Succeeded)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_process_that_dies_under_a_job_is_a_crash_with_its_signal_and_output(number: int) -> None:
    end, clean = several({"task": "die", "args": [number]}, {"task": "noop"})
    assert isinstance(end.outcome, Crashed)
    name = signal.Signals(number).name
    assert (end.outcome.error.word, end.outcome.error.message) == (f"crash:{name}", f"the process died: {name}")
    assert end.ran.stdout is not None
    assert end.ran.stdout.head == "last words\n"
    assert isinstance(clean.outcome, Succeeded)


def test_a_process_that_exits_under_a_job_is_a_crash_with_its_code() -> None:
    end = once(task="exit_at_once", args=[3])
    assert isinstance(end.outcome, Crashed)
    assert (end.outcome.error.exit, end.outcome.error.message) == (3, "the process died: exit code 3")


def test_a_busy_child_killed_from_outside_is_a_crash(tmp_path: Path) -> None:
    async def killed() -> Finished:
        async with running() as harness:
            harness.give(task="wait", args=[str(tmp_path / "pid")])
            os.kill(int(await written(tmp_path / "pid")), signal.SIGKILL)
            return await harness.expect(Finished)

    end = asyncio.run(killed())
    assert isinstance(end.outcome, Crashed)
    assert end.outcome.error.signal == "SIGKILL"


def test_an_idle_child_that_is_killed_is_replaced() -> None:
    async def killed() -> tuple[int, Finished]:
        async with running() as harness:
            pid = (await harness.run(task="noop")).ran.pid
            os.kill(pid, signal.SIGKILL)
            await harness.expect(SlotDown)
            await harness.ready()
            return pid, await harness.run(task="noop")

    pid, end = asyncio.run(killed())
    assert isinstance(end.outcome, Succeeded)
    assert end.ran.pid != pid


def test_a_job_for_a_child_that_was_just_lost_is_handed_back() -> None:
    async def lost() -> Finished:
        async with running() as harness:
            pid = (await harness.run(task="noop")).ran.pid
            os.kill(pid, signal.SIGKILL)
            await harness.expect(SlotDown)
            return await harness.run(task="noop")

    end = asyncio.run(lost())
    assert isinstance(end.outcome, Interrupted)
    assert not end.ready


def test_jobs_that_kill_their_process_do_not_slow_down_the_next_ones() -> None:
    """Eight pauses, each twice as long as the one before, would take 25 seconds."""

    async def eight() -> float:
        async with running() as harness:
            began = time.monotonic()
            for _ in range(8):
                end = await harness.run(argv=["sh", "-c", "kill -9 $PPID"])
                assert isinstance(end.outcome, Crashed)
                await harness.ready()
            return time.monotonic() - began

    assert asyncio.run(eight()) < 20


def test_an_interrupted_job_uses_no_attempt_and_leaves_nothing(tmp_path: Path) -> None:
    async def interrupted() -> Finished:
        async with running() as harness:
            harness.give(task="wait_in_shell", args=[str(tmp_path / "pid")])
            await written(tmp_path / "pid")
            harness.pool.interrupt(0, term_s=0.2)
            end = await harness.expect(Finished)
            await harness.ready()
            return end

    end = asyncio.run(interrupted())
    assert isinstance(end.outcome, Interrupted)
    assert_group_gone(end.ran.pid)


def test_a_result_that_is_there_wins_over_an_interruption() -> None:
    async def race() -> list[Finished]:
        ends = []
        async with running() as harness:
            for turn in range(10):
                harness.give(task="noop")
                end = time.perf_counter() + turn / 10_000
                while time.perf_counter() < end:
                    pass
                harness.pool.interrupt(0)
                ends.append(await harness.expect(Finished))
                if not ends[-1].ready:
                    await harness.ready()
            assert not harness.told
        return ends

    ends = asyncio.run(race())
    assert len({end.key for end in ends}) == len(ends) == 10
    assert all(isinstance(end.outcome, Succeeded | Interrupted) for end in ends)


def test_a_function_that_ends_well_when_told_to_stop_has_succeeded(tmp_path: Path) -> None:
    async def told() -> Finished:
        async with running() as harness:
            harness.give(task="finish_when_told", args=[str(tmp_path / "pid")])
            await written(tmp_path / "pid")
            harness.pool.interrupt(0, term_s=5)
            return await harness.expect(Finished)

    assert result(asyncio.run(told())) == "told"


def test_stopping_the_pool_interrupts_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    async def stopped() -> tuple[Harness, list[int]]:
        async with running(procs=3) as harness:
            harness.give(0, task="wait", args=[str(tmp_path / "one")])
            harness.give(1, task="spin")
            pids = [(await harness.run(2, task="noop")).ran.pid, int(await written(tmp_path / "one")), harness.pid(1)]
        return harness, pids

    harness, pids = asyncio.run(stopped())
    ends = [message for message in harness.told if isinstance(message, Finished)]
    assert [type(end.outcome) for end in ends] == [Interrupted, Interrupted]
    for pid in pids:
        assert_group_gone(pid)


def test_a_pool_that_is_stopped_while_it_starts_leaves_nothing() -> None:
    async def stopped() -> tuple[Harness, list[int]]:
        async with starting(procs=2) as harness:
            pids = [harness.pid(0), harness.pid(1)]
        return harness, pids

    harness, pids = asyncio.run(stopped())
    assert harness.told == []
    assert min(pids) > 1
    for pid in pids:
        assert_group_gone(pid)


def test_a_frame_that_ends_in_the_middle_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRUNNER_FAILPOINT", "child.mid_frame:kill:2")
    first, cut = several({"task": "variables", "args": ["JOBRUNNER_FAIL"]}, {"task": "add", "args": [1]})
    assert result(first) == {}
    assert isinstance(cut.outcome, Crashed)
    assert cut.outcome.error.signal == "SIGKILL"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x00\x20\x00\x01\x44", "a frame of 2097153 bytes; the limit is 2097152"),
        (b"\x00\x00\x00\x01\x09x", "a frame of the unknown type 9"),
        (b"\x00\x00\x00\x02\x44[]", "cannot be decoded"),
        (frames.encode(frames.Ready(functions=[])), "it sent Ready out of order"),
    ],
)
def test_a_child_that_breaks_the_protocol_is_killed(data: bytes, words: str) -> None:
    end, clean = several({"task": "write_to_the_parent", "args": [data.hex()]}, {"task": "noop"})
    assert isinstance(end.outcome, Crashed)
    assert end.outcome.error.reason == "crash"
    assert words in end.outcome.error.message
    assert isinstance(clean.outcome, Succeeded)


def test_a_job_that_closes_its_childs_own_socket_is_killed() -> None:
    end, clean = several({"task": "close_everything"}, {"task": "noop"})
    assert isinstance(end.outcome, Crashed)
    assert end.outcome.error.message == "the process was killed: it closed its control socket"
    assert isinstance(clean.outcome, Succeeded)


def test_a_stopped_child_does_not_stop_the_loop() -> None:
    """A frame that the child does not take waits in memory; the loop goes on meanwhile."""

    async def longest_gap() -> float:
        async with running(apps=(), raw_handler="tests.support.jobs:raw") as harness:
            pid = (await harness.run(task="raw", raw=b"")).ran.pid
            os.kill(pid, signal.SIGSTOP)
            harness.give(task="raw", raw=b"x" * 8 * 1024 * 1024)
            last, gap = time.perf_counter(), 0.0
            for _ in range(50):
                await asyncio.sleep(0.01)
                now = time.perf_counter()
                last, gap = now, max(gap, now - last)
            os.kill(pid, signal.SIGCONT)
            assert isinstance((await harness.expect(Finished)).outcome, Succeeded)
            return gap

    assert asyncio.run(longest_gap()) < 5  # a loop that waited for it would wait for ever


def test_a_child_that_dies_with_its_job_half_taken_is_a_crash_with_its_signal() -> None:
    async def half_taken() -> Finished:
        async with running(apps=(), raw_handler="tests.support.jobs:raw") as harness:
            pid = (await harness.run(task="raw", raw=b"")).ran.pid
            os.kill(pid, signal.SIGSTOP)
            harness.give(task="raw", raw=b"x" * 8 * 1024 * 1024)
            os.kill(pid, signal.SIGKILL)
            return await harness.expect(Finished)

    end = asyncio.run(half_taken())
    assert isinstance(end.outcome, Crashed)
    assert end.outcome.error.word == "crash:SIGKILL"
