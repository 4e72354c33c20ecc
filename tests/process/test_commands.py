"""Commands in a real child: output, exit codes, stdin, what they leave behind."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobrunner.execution import endings
from jobrunner.execution.pool import Finished
from jobrunner.outcome import Crashed, Failed, Interrupted, Rejected, Succeeded, TimedOut
from tests.process.harness import assert_group_gone, once, result, running, several, written
from tests.support.eventually import eventually
from tests.support.jobs import SHELL_TREE, THREAD_SIGNALS
from tests.support.worker import alive

MIB = 1024 * 1024


def sh(line: str, **fields: Any) -> dict[str, Any]:
    return {"argv": ["/bin/sh", "-c", line], **fields}


def test_stdout_is_the_result_and_both_streams_are_kept() -> None:
    end = once(**sh("echo out; echo err >&2"))
    assert result(end) == "out\n"
    assert end.ready
    assert end.ran.stdout is not None
    assert end.ran.stderr is not None
    assert (end.ran.stdout.head, end.ran.stderr.head) == ("out\n", "err\n")


def test_a_command_that_says_nothing_gives_an_empty_text() -> None:
    assert result(once(argv=["true"])) == ""


def test_output_that_is_not_utf8_becomes_replacement_characters() -> None:
    assert result(once(argv=["printf", r"a\377b"])) == "a\ufffdb"


def test_arguments_are_never_read_by_a_shell() -> None:
    nasty = ["; touch /tmp/x", "$(id)", "`id`", "a\nb", "-n", "*", "'\""]
    end = once(argv=["printf", "%s|", *nasty])
    assert result(end) == "|".join(nasty) + "|"


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (1, Failed, "exit"),
        (75, Failed, "exit"),
        (255, Failed, "exit"),
        (65, Rejected, "permanent"),
        (126, Rejected, "cannot_start"),
        (127, Rejected, "cannot_start"),
    ],
)
def test_exit_codes_say_what_follows(code: int, kind: type[Failed | Rejected], reason: str) -> None:
    spoken, silent = several(sh(f"echo first >&2; echo 'the last line' >&2; exit {code}"), sh(f"exit {code}"))
    for end, message in ((spoken, "the last line"), (silent, f"exit code {code}")):
        assert isinstance(end.outcome, kind)
        assert (end.outcome.error.reason, end.outcome.error.exit) == (reason, code)
        assert end.outcome.error.message == message
        assert end.ready


def test_the_reason_file_is_the_error_text() -> None:
    failed, long = several(
        sh('echo noise >&2; echo " disk full " > "$JOBRUNNER_JOB_REASON_FILE"; exit 3'),
        sh('head -c 5000 /dev/zero | tr "\\0" é > "$JOBRUNNER_JOB_REASON_FILE"; exit 65'),
    )
    assert isinstance(failed.outcome, Failed)
    assert failed.outcome.error.message == "disk full"
    assert isinstance(long.outcome, Rejected)
    assert len(long.outcome.error.message) == 512


def test_a_command_ended_by_a_signal_has_crashed_but_its_process_goes_on() -> None:
    killed, clean = several(sh("kill -SEGV $$"), sh("echo fine"))
    assert isinstance(killed.outcome, Crashed)
    assert killed.outcome.error.word == "crash:SIGSEGV"
    assert killed.ready
    assert killed.ran.pid == clean.ran.pid


def test_a_program_that_is_missing_says_so_in_words(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    orphan = tmp_path / "orphan"
    orphan.write_text("#!/no/interpreter\n")
    orphan.chmod(0o755)
    unknown, no_path, not_executable, no_interpreter = several(
        {"argv": ["ffmpeg-that-is-not-here"]},
        {"argv": ["/no/such/program"]},
        {"argv": [str(plain)]},
        {"argv": [str(orphan)]},
    )
    for end, exit_code, words in (
        (unknown, 127, "'ffmpeg-that-is-not-here' is not installed on worker w1 (exit 127)."),
        (no_path, 127, "'/no/such/program' does not exist on worker w1 (exit 127)."),
        (not_executable, 126, f"'{plain}' cannot be started on worker w1: Permission denied (exit 126)."),
        (no_interpreter, 126, f"'{orphan}' cannot be started on worker w1: No such file or directory (exit 126)."),
    ):
        assert isinstance(end.outcome, Rejected)
        assert (end.outcome.error.reason, end.outcome.error.exit) == ("cannot_start", exit_code)
        assert end.outcome.error.message == words
        assert end.ready


def test_the_folder_of_a_command_is_its_own_and_must_exist(tmp_path: Path) -> None:
    there, nowhere, back = several(
        {"argv": ["pwd"], "cwd": str(tmp_path)}, {"argv": ["pwd"], "cwd": "/no/such"}, {"argv": ["pwd"]}
    )
    assert result(there) == f"{tmp_path}\n"
    assert isinstance(nowhere.outcome, Rejected)
    assert nowhere.outcome.error.reason == "cannot_start"
    assert result(back) == f"{Path.cwd()}\n"


def test_stdin_is_what_was_given_and_else_empty() -> None:
    data = bytes(range(256)) * 8192
    count, nothing, empty = several(
        {"argv": ["wc", "-c"], "stdin": data}, {"argv": ["wc", "-c"]}, {"argv": ["wc", "-c"], "stdin": b""}
    )
    assert [int(result(end)) for end in (count, nothing, empty)] == [len(data), 0, 0]


def test_a_command_gets_the_workers_environment_its_own_and_its_facts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JOBRUNNER_URL", "amqp://secret")
    monkeypatch.setenv("FROM_WORKER", "1")
    tool = tmp_path / "own-tool"
    tool.write_text("#!/bin/sh\n/usr/bin/env\n")
    tool.chmod(0o755)
    env, own_path, after = several(
        {"argv": ["env"], "env": {"COLOUR": "blue"}, "attempt": 2},
        {"argv": ["own-tool"], "env": {"PATH": str(tmp_path)}},
        {"argv": ["env"]},
    )
    seen = dict(line.split("=", 1) for line in result(env).splitlines())
    assert (seen["COLOUR"], seen["FROM_WORKER"]) == ("blue", "1")
    assert (seen["JOBRUNNER_JOB_ID"], seen["JOBRUNNER_JOB_ATTEMPT"]) == ("0000000000000001", "2")
    assert "JOBRUNNER_URL" not in seen
    assert f"PATH={tmp_path}" in result(own_path)
    assert "COLOUR" not in result(after)


def test_a_command_starts_with_default_signals() -> None:
    end = once(argv=["grep", "SigIgn\\|SigBlk", "/proc/self/status"])
    masks = [int(line.split()[1], 16) & ~THREAD_SIGNALS for line in result(end).splitlines()]
    assert masks == [0, 0]


def test_a_flood_is_cut_for_the_result_and_kept_by_head_and_tail_in_flat_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def flood() -> tuple[Finished, int]:
        async with running() as harness:
            await harness.run(argv=["true"])
            before = resident()
            end = await harness.run(**sh("echo start; yes | head -c 200000000; echo end; echo warned >&2"))
            return end, resident() - before

    end, grown = asyncio.run(flood())
    assert isinstance(end.outcome, Succeeded)
    assert end.outcome.truncated
    assert len(result(end)) == MIB
    kept = end.ran.stdout
    assert kept is not None
    assert kept.total_bytes == 200_000_000 + len("start\nend\n")
    assert (len(kept.head), len(kept.tail)) == (64 * 1024, 64 * 1024)
    assert kept.head.startswith("start\ny\n")
    assert kept.tail.endswith("y\nend\n")
    assert grown < 24 * MIB


def test_one_mebibyte_is_not_cut() -> None:
    end = once(**sh("yes | head -c 1048576"))
    assert isinstance(end.outcome, Succeeded)
    assert not end.outcome.truncated
    assert len(result(end)) == MIB


def test_what_a_command_leaves_behind_is_ended_and_does_not_hold_up_its_end(tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    background = f"sleep 96 & echo $! >> {marker}; (setsid sh -c 'echo $$ >> {marker}; exec sleep 96' &); echo done"
    end, clean = several(sh(background + f"; while [ $(wc -l < {marker}) -lt 2 ]; do :; done"), {"argv": ["true"]})
    assert result(end) == "done\n"
    assert end.ready
    assert clean.ran.pid == end.ran.pid
    for pid in marker.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_shell_tree_that_ignores_sigterm_is_gone_after_its_timeout() -> None:
    end = once(**sh(SHELL_TREE, timeout_s=0.3))
    assert isinstance(end.outcome, TimedOut)
    assert (end.outcome.error.reason, end.outcome.error.message) == ("timeout", "still running after 0.3 s: killed")
    assert not end.ready
    assert_group_gone(end.ran.pid)
    assert 5.3 <= (end.ran.ended_at or 0) - end.ran.started_at < 7


def test_what_left_its_session_and_ignores_sigterm_is_gone_after_the_timeout_too(tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    stubborn = f"trap '' TERM; echo $$ >> {marker}; while :; do sleep 0.1; done"
    tree = f'(setsid sh -c "{stubborn.replace("$", chr(92) + "$")}" &); {stubborn}'
    end, clean = several(sh(tree, timeout_s=1.0), {"argv": ["true"]})
    assert isinstance(end.outcome, TimedOut)
    assert isinstance(clean.outcome, Succeeded)
    pids = marker.read_text().split()
    assert len(pids) == 2
    eventually(lambda: all_gone(pids))


def all_gone(pids: list[str]) -> None:
    assert not any(alive(int(pid)) for pid in pids)


def test_a_command_has_time_to_clean_up_before_it_is_killed() -> None:
    end = once(**sh("trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.02; done", timeout_s=0.3))
    assert isinstance(end.outcome, TimedOut)
    assert end.ran.stdout is not None
    assert end.ran.stdout.head == "cleaned\n"
    assert (end.ran.ended_at or 0) - end.ran.started_at < 2


def test_a_command_that_exits_with_0_when_interrupted_has_not_succeeded(tmp_path: Path) -> None:
    async def interrupted() -> Finished:
        async with running() as harness:
            marker = tmp_path / "started"
            harness.give(**sh(f"trap 'exit 0' TERM; echo x > {marker}; while :; do sleep 0.02; done"))
            await written(marker)
            harness.pool.interrupt(0)
            return await harness.expect(Finished)

    assert isinstance(asyncio.run(interrupted()).outcome, Interrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2])
def test_a_command_has_its_time_to_end_whatever_the_signal(number: signal.Signals, tmp_path: Path) -> None:
    async def interrupted() -> Finished:
        async with running() as harness:
            marker = tmp_path / "started"
            trap = f"trap 'sleep 0.1; echo cleaned; exit 3' {number.name.removeprefix('SIG')}"
            harness.give(**sh(f"{trap}; echo x > {marker}; while :; do sleep 0.02; done"))
            await written(marker)
            harness.pool.interrupt(0, 30.0, number)
            return await harness.expect(Finished)

    end = asyncio.run(interrupted())
    assert isinstance(end.outcome, Interrupted)
    assert end.ran.stdout is not None
    assert end.ran.stdout.head == "cleaned\n"


@pytest.mark.parametrize(("kills", "reason"), [(1, "oom"), (0, "crash")])
def test_a_command_that_the_kernel_has_killed_for_want_of_memory_says_so(
    kills: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "memory.events"
    told.write_text("oom 0\noom_kill 0\n")
    monkeypatch.setattr(endings, "_events_file", lambda: told)
    end = once(**sh(f"echo oom_kill {kills} > {told}; kill -KILL $$"))
    assert isinstance(end.outcome, Crashed)
    assert end.outcome.error.word == f"{reason}:SIGKILL"
    assert end.ready


def test_the_child_dies_with_its_command_when_the_group_is_killed() -> None:
    end = once(**sh("kill -KILL 0"))
    assert isinstance(end.outcome, Crashed)
    assert end.outcome.error.signal == signal.SIGKILL.name
    assert not end.ready
