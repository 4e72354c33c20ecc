"""The pool as a whole: how children start, are renewed and recycled, and what becomes of them when the worker dies."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobrunner.errors import AppImport, ChildrenKeepDying
from jobrunner.execution import slot as slots
from jobrunner.execution.pool import Finished, Pool, PoolBroken, PoolSettings, SlotDown, SlotReady
from jobrunner.outcome import Succeeded
from tests.process.harness import (
    Harness,
    assert_group_gone,
    group,
    once,
    result,
    running,
    several,
    starting,
    work_of,
    written,
)
from tests.support.eventually import eventually, eventually_async
from tests.support.jobs import SHELL_TREE

ROOT = Path(__file__).parents[2]


def test_a_child_has_its_own_session_and_nothing_of_the_parents() -> None:
    facts = result(once(task="process"))
    assert facts["parent"] == os.getpid()
    assert facts["leads_group"]
    assert (facts["blocked"], facts["oom_score_adj"], facts["core"]) == (0, 500, 0)
    assert facts["ignored"] == (1 << (signal.SIGPIPE - 1)) | (1 << (signal.SIGXFSZ - 1))


def test_a_child_holds_its_streams_its_control_socket_and_the_file_for_its_stacks() -> None:
    files = result(once(task="process"))["files"]
    high = sorted((int(fd), target) for fd, target in files.items() if int(fd) > 2)
    assert [files["0"], files["1"][:5], files["2"][:5]] == ["/dev/null", "pipe:", "pipe:"]
    assert len(high) == 2, high
    assert min(high)[0] >= 1000
    assert high[0][1].startswith("socket:")
    assert high[1][1].endswith("(deleted)")


def test_a_child_imports_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # an app that imports nothing, since the other jobs of these tests import much
    (tmp_path / "lean.py").write_text(
        "import sys\nfrom jobrunner import job\n\n@job\ndef modules():\n    return list(sys.modules)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    (end,) = several({"task": "lean:modules"}, apps=("lean",))
    heavy = {"pika", "click", "rich", "sqlite3", "asyncio", "subprocess", "threading", "traceback", "pathlib", "socket"}
    assert heavy.isdisjoint(result(end))


def test_signals_that_the_worker_ignores_or_blocks_reach_the_jobs() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        facts = result(once(task="process"))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGUSR2, before)
    assert facts["blocked"] == 0
    assert facts["ignored"] & (1 << (signal.SIGUSR2 - 1)) == 0


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app in a worker's folder; its text is the test's."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path / "my_app.py"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No module named 'my_app'"),
        ("import os\n\nimport PIL_not_here\n", "No module named 'PIL_not_here' (my_app.py:3)"),
        ("x = 1 / 0\n", "ZeroDivisionError: division by zero (my_app.py:1)"),
        ("def f(:\n", "SyntaxError: invalid syntax (my_app.py:1)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (my_app.py:2)"),
    ],
)
def test_an_app_that_cannot_be_imported_breaks_the_pool_before_any_slot_is_ready(
    app: Path, text: str | None, reason: str
) -> None:
    if text is not None:
        app.write_text(text)

    async def broken() -> Harness:
        async with starting(apps=("my_app",), procs=2) as harness:
            error = (await harness.expect(PoolBroken)).error
            assert isinstance(error, AppImport)
            assert error.message == f"Cannot import 'my_app': {reason}, with {sys.executable}"
        return harness

    assert asyncio.run(broken()).told == []


def test_a_raw_handler_that_is_not_there_breaks_the_pool(app: Path) -> None:
    app.write_text("from os import system\n")

    async def broken() -> str:
        async with starting(apps=(), raw_handler="my_app:system") as harness:
            return (await harness.expect(PoolBroken)).error.message

    assert "Cannot import 'my_app': it has no function 'system'" in asyncio.run(broken())


def test_children_that_die_at_every_start_break_the_pool_after_five(app: Path) -> None:
    app.write_text("import os\nos.write(2, b'no license\\n')\nos._exit(1)\n")

    async def broken() -> Harness:
        async with starting(apps=("my_app",), procs=2) as harness:
            error = (await harness.expect(PoolBroken)).error
            assert isinstance(error, ChildrenKeepDying)
            assert error.message == "Worker processes keep dying: 5 failed starts in 1m. Last: no license"
        return harness

    assert asyncio.run(broken()).told == []


def test_renewing_imports_changed_sources_at_once_in_free_children_and_later_in_busy_ones(app: Path) -> None:
    text = "from jobrunner import job\nfrom threading import Event\nfrom pathlib import Path\n\n"
    text += "@job\ndef version():\n    return {}\n\n"
    text += "@job\ndef wait(path):\n    while not Path(path).exists():\n        Event().wait(0.01)\n    return {}\n"
    app.write_text(text.format(1, 1))

    def change() -> None:
        app.write_text(text.format(2, 2))

    def go() -> None:
        app.with_name("go").touch()

    async def renewed() -> list[Any]:
        async with running(apps=("my_app",), procs=2) as harness:
            busy = harness.give(1, task="my_app:wait", args=["go"])
            change()
            harness.pool.renew()
            assert (await harness.expect(SlotDown)).slot == 0
            assert (await harness.ready()).slot == 0
            new = await harness.run(0, task="my_app:version")
            go()
            old = await harness.expect(Finished)
            assert (old.key, old.ready) == (busy.key, False)
            assert (await harness.ready()).slot == 1
            again = await harness.run(1, task="my_app:version")
            assert not harness.told
            return [result(new), result(old), result(again)]

    assert asyncio.run(renewed()) == [2, 1, 2]


def test_a_child_is_recycled_after_its_number_of_jobs() -> None:
    ends = several(*[{"task": "noop"}] * 7, max_jobs=3)
    assert [end.ready for end in ends] == [True, True, False, True, True, False, True]
    assert len({end.ran.pid for end in ends}) == 3


def test_a_child_that_grew_over_its_memory_is_recycled() -> None:
    small, grown, clean = several(
        {"task": "noop"}, {"task": "mess", "args": ["memory"]}, {"task": "noop"}, max_memory_bytes=80 * 1024 * 1024
    )
    assert [small.ready, grown.ready, clean.ready] == [True, False, True]
    assert isinstance(grown.outcome, Succeeded)


def test_a_child_that_leaves_runs_its_exit_handlers(app: Path) -> None:
    app.write_text(
        "import atexit\nfrom pathlib import Path\nfrom jobrunner import job\n\n"
        "atexit.register(Path('left').touch)\n\n@job\ndef noop():\n    pass\n"
    )
    several({"task": "my_app:noop"}, apps=("my_app",))
    assert Path("left").exists()


def test_processes_that_an_app_starts_while_it_is_imported_are_left_alone(app: Path) -> None:
    app.write_text(
        "import subprocess\nfrom jobrunner import job\n\nhelper = subprocess.Popen(['sleep', '95'])\n\n"
        "@job\ndef alive():\n    return helper.poll() is None\n"
    )
    first, second = several({"task": "my_app:alive"}, {"task": "my_app:alive"}, apps=("my_app",))
    assert result(first) is result(second) is True
    assert first.ran.pid == second.ran.pid
    assert_group_gone(first.ran.pid)


def test_a_free_child_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.execution.pool.PING_S", 0.7)

    async def frozen() -> None:
        async with running() as harness:
            pid = (await harness.run(task="noop")).ran.pid
            for _ in range(200):
                await asyncio.sleep(0.01)
            assert not harness.told
            os.kill(pid, signal.SIGSTOP)
            await harness.expect(SlotDown)
            await harness.ready()
            assert (await harness.run(task="noop")).ran.pid != pid

    asyncio.run(frozen())


def test_a_child_that_does_not_get_ready_in_time_is_a_failed_start(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app.write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.setattr("jobrunner.execution.handle.READY_S", 0.2)
    monkeypatch.setattr(slots, "BACKOFF_S", (0.01, 0.01))

    async def slow() -> str:
        async with starting(apps=("my_app",)) as harness:
            return (await harness.expect(PoolBroken)).error.message

    assert "its apps were not imported within 0.2 s" in asyncio.run(slow())


def test_stacks_of_a_job_that_holds_the_gil_can_be_asked_for_and_go_to_the_parents_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def dumped() -> None:
        async with running() as harness:
            assert (await harness.run(task="mess", args=["take SIGUSR1"])).ready
            harness.give(task="hold_gil")
            texts: list[str] = []

            def in_the_job() -> None:
                harness.pool.stacks(0, texts.append)
                assert "in hold_gil" in "".join(texts)

            await eventually_async(in_the_job, interval_s=0.15)
            harness.pool.dump_stacks()

            said: list[str] = []

            def shown() -> None:
                said.append(capsys.readouterr().err)
                assert "in hold_gil" in "".join(said)

            await eventually_async(shown)

    asyncio.run(dumped())


def test_output_of_a_running_job_can_be_looked_at(tmp_path: Path) -> None:
    async def looked() -> None:
        async with running() as harness:
            line = f"echo early; echo wrong >&2; echo x > {tmp_path / 'said'}; exec sleep 94"
            harness.give(argv=["/bin/sh", "-c", line])
            await written(tmp_path / "said")

            def seen() -> None:
                stdout, stderr = harness.pool.output(0)
                assert stdout is not None
                assert stderr is not None
                assert (bytes(stdout.head), bytes(stderr.head)) == (b"early\n", b"wrong\n")

            await eventually_async(seen)

    asyncio.run(looked())


def test_a_pool_is_refused_in_another_thread() -> None:
    async def start() -> None:
        await Pool(PoolSettings(procs=1, worker="w1"), lambda _: None).start()

    async def elsewhere() -> None:
        await asyncio.to_thread(asyncio.run, start())

    with pytest.raises(RuntimeError, match="main thread"):
        asyncio.run(elsewhere())


def test_a_guardian_that_dies_is_started_again_and_told_of_all_children() -> None:
    async def killed() -> None:
        async with running(procs=2) as harness:
            guard = harness.pool._guard
            assert guard is not None
            for _ in range(2):
                old = guard.pid
                assert old is not None
                os.kill(old, signal.SIGKILL)

                def restarted(old: int = old) -> None:
                    assert guard.pid not in (None, old)

                await eventually_async(restarted)
            assert (await harness.run(1, task="noop")).ready
            os.kill(guard.pid, signal.SIGKILL)
            error = (await harness.expect(PoolBroken)).error
            assert (error.exit_code, "died 3 times in 60 s" in error.message) == (70, True)

    asyncio.run(killed())


PARENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.process.harness import running, written

async def main():
    async with running(procs={procs}) as harness:
        {give}
        print(*(harness.pid(slot) for slot in range({procs})), harness.pool._guard.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
SHELLS = """
        for slot in range(2):
            marker = Path({folder!r}) / str(slot)
            harness.give(slot, argv=["/bin/sh", "-c", {line!r} % marker])
            await written(marker)
"""
HOLD = """
        for slot in range(2):
            harness.give(slot, task="hold_gil")
"""


@contextlib.contextmanager
def a_worker(give: str, procs: int) -> Any:
    script = PARENT.format(root=str(ROOT), give=give, procs=procs)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True) as worker:
        assert worker.stdout is not None
        pids = [int(word) for word in worker.stdout.readline().split()]
        assert len(pids) == procs + 1
        try:
            yield worker, pids
        finally:
            worker.kill()


def assert_all_gone(pids: list[int]) -> None:
    def gone() -> None:
        assert not [member for pid in pids for member in group(pid)]

    eventually(gone, timeout_s=20)


@pytest.mark.parametrize("give", ["shells", "hold"])
def test_nothing_survives_a_worker_that_is_killed(give: str, tmp_path: Path) -> None:
    line = f"echo x > %s; {SHELL_TREE}"
    code = SHELLS.format(folder=str(tmp_path), line=line) if give == "shells" else HOLD
    with a_worker(code, 2) as (worker, pids):
        if give == "shells":
            assert all(len(group(pid)) >= 3 for pid in pids[:2])
        worker.send_signal(signal.SIGKILL)
        assert_all_gone(pids)


def test_no_idle_child_survives_a_worker_that_is_killed_with_its_guardian() -> None:
    """Each sits in a read of its socket, of which nobody else holds the other end."""
    with a_worker("", 8) as (worker, pids):
        os.kill(pids[-1], signal.SIGSTOP)  # it would be replaced if it were killed
        worker.send_signal(signal.SIGKILL)
        assert_all_gone(pids[:-1])
        os.kill(pids[-1], signal.SIGCONT)
        assert_all_gone(pids)


def test_output_of_a_child_between_jobs_belongs_to_none(app: Path) -> None:
    app.write_text("from jobrunner import job\nprint('imported')\n\n@job\ndef noop():\n    pass\n")
    (end,) = several({"task": "my_app:noop"}, apps=("my_app",))
    assert end.ran.stdout is None


def test_slots_are_told_apart() -> None:
    async def two() -> None:
        async with starting(procs=2) as harness:
            ready = {(await harness.ready()).slot for _ in range(2)}
            assert ready == {0, 1}
            for slot in ready:
                harness.pool.run(slot, work_of(slot, task="variables", args=["JOBRUNNER_JOB_SLOT"]))
            for _ in range(2):
                end = await harness.expect(Finished)
                assert result(end) == {"JOBRUNNER_JOB_SLOT": str(end.slot + 1)}
            assert not [message for message in harness.told if isinstance(message, SlotReady)]

    asyncio.run(two())
