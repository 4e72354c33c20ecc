"""`jobrunner map` as people run it, against a real broker and a real worker."""

import json
import os
import pty
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import TestBroker
from tests.support.command import COMMAND
from tests.support.eventually import eventually
from tests.support.home import Home

TASKS = """
import os, signal, time
from pathlib import Path
from jobrunner import Permanent, context, job

@job
def square(n): return n * n

@job(retries=0)
def unless(n, bad):
    if n == bad: raise ValueError(f"not {n}")
    return n

@job
def flaky(n):
    seen = Path(f"seen-{n}")
    if n == 2 and not seen.exists():
        seen.touch()
        raise ConnectionError("not yet")
    return n

@job
def dies(n):
    if n == 2: os.kill(os.getpid(), signal.SIGKILL)
    return n

@job
def gated(n):
    with open("started", "a") as file: file.write(f"{n}\\n")
    while not Path("gate").exists(): time.sleep(0.02)
    return n

@job
def knows(n): return {k: os.environ[f"JOBRUNNER_JOB_{k}"] for k in ("RUN", "SEQ", "INPUT")}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, broker: TestBroker) -> Iterator[Home]:
    """A folder with a worker of two processes that runs functions and commands of this module's queue."""
    made = Home(tmp_path_factory.mktemp("map"), url=broker.url, tasks=TASKS)
    made.environ["JOBRUNNER_MAP_QUEUE"] = f"map-{os.getpid()}"
    with made.worker("-q", f"map-{os.getpid()}", "--allow-commands"):
        yield made


def summary(text: str) -> list[str]:
    """The lines of a summary, its times and rates left out."""
    return [re.sub(r" in [\d.]+ m?s \([\d.,]+/s\)", "", line) for line in text.splitlines()]


def test_three_squares(home: Home) -> None:
    done = home.run("map", "tasks:square", ":::", "3411", "1605", "1398")
    assert (done.returncode, done.stdout, done.stderr) == (0, "11634921\n2576025\n1954404\n", "")


def test_results_of_commands_come_in_the_order_of_the_inputs(home: Home) -> None:
    line = "sleep 0.$((3 - $JOBRUNNER_JOB_SEQ)); echo $JOBRUNNER_JOB_SEQ $JOBRUNNER_JOB_INPUT; echo {/.}"
    done = home.run("map", "--", "sh", "-c", line, stdin=b"d/a.jpg\nb\n")
    assert (done.returncode, done.stdout) == (0, "1 d/a.jpg\na\n2 b\nb\n")


def test_unordered_results_come_as_they_are_there(home: Home) -> None:
    done = home.run("map", "-u", "--", "sh", "-c", "sleep 0.{}; echo {}", ":::", "9", "1")
    assert (done.returncode, done.stdout) == (0, "1\n9\n")


def test_a_job_knows_its_run_its_place_and_its_input(home: Home) -> None:
    done = home.run("map", "--run", "knows", "tasks:knows", ":::", "a b")
    assert json.loads(done.stdout) == {"RUN": "knows", "SEQ": "1", "INPUT": "a b"}


def test_combinations_are_run_in_order_and_taken_up_by_what_they_are(home: Home) -> None:
    words = ["map", "--run", "pairs", "--json", "--joblog", "pairs.log", "--", "echo", ":::"]
    done = home.run(*words, "a b", "c", ":::", "1", "2")
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["input"], line["result"]) for line in lines] == [
        ("'a b' 1", "a b 1\n"),
        ("'a b' 2", "a b 2\n"),
        ("c 1", "c 1\n"),
        ("c 2", "c 2\n"),
    ]
    assert (last["total"], last["succeeded"]) == (4, 4)
    commands = [line.split("\t")[-1] for line in (home.folder / "pairs.log").read_text().splitlines()[1:]]
    assert sorted(commands) == ["echo 'a b' 1", "echo 'a b' 2", "echo c 1", "echo c 2"]
    words.insert(3, "--resume")
    again = home.run(*words, "c", "a", "a b", ":::", "3", "2", "1", "b 1")
    *lines, last = [json.loads(line) for line in again.stdout.splitlines()]
    assert [line["input"] for line in lines] == [
        "c 3",
        "c 'b 1'",
        "a 3",
        "a 2",
        "a 1",
        "a 'b 1'",
        "'a b' 3",
        "'a b' 'b 1'",
    ]
    assert (last["succeeded"], last["skipped"]) == (8, 4)


def test_json_lines_follow_the_inputs_and_end_with_all_counts(home: Home) -> None:
    done = home.run("map", "--json", "tasks:unless", "{}", "2", ":::", "1", "2", "3")
    assert (done.returncode, done.stderr) == (1, "")
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["seq"], line["input"], line["state"], line["result"]) for line in lines] == [
        (1, "1", "succeeded", 1),
        (2, "2", "dead", None),
        (3, "3", "succeeded", 3),
    ]
    assert lines[1]["error"] == {"reason": "error", "message": "not 2", "class": "ValueError"}
    assert (last["total"], last["succeeded"], last["dead"], last["skipped"]) == (3, 2, 1, 0)


def test_what_failed_is_told_and_only_that_runs_again(home: Home) -> None:
    first = home.run("map", "--run", "again", "tasks:unless", "{}", "2", ":::", "1", "2", "3")
    assert (first.returncode, first.stdout) == (1, "1\n3\n")
    head, failed, hint = summary(first.stderr)
    assert (head, hint) == ("✓ 2 ok  ✗ 1 failed ", "  Again, only these:  add  --run again --retry-failed")
    assert re.fullmatch(r"  2  ValueError: not 2   jobrunner logs [0-9a-z]{4}", failed)

    exists = home.run("map", "--run", "again", "tasks:unless", "{}", "2", ":::", "1")
    assert (exists.returncode, exists.stderr.splitlines()[0]) == (2, "error: There is a run 'again' already.")
    differs = home.run("map", "--run", "again", "--resume", "tasks:unless", "{}", "3", ":::", "1")
    assert differs.returncode == 2
    assert differs.stderr.startswith("error: The run 'again' was made with: tasks:unless {} 2\n")

    # the list was edited: what counts is what an input is, not where it stands
    resumed = home.run("map", "--run", "again", "--resume", "tasks:unless", "{}", "2", ":::", "4", "3", "2")
    assert (resumed.returncode, resumed.stdout) == (1, "4\n")
    assert summary(resumed.stderr)[0] == "✓ 1 ok  ✗ 1 failed  1 skipped "
    retried = home.run("map", "--run", "again", "--retry-failed", "tasks:unless", "{}", "2", ":::", "9", "2", "1")
    assert (retried.returncode, summary(retried.stderr)[0]) == (1, "✓ 0 ok  ✗ 1 failed  2 skipped ")
    shown = home.run("--json", "list", "run:again", "state:dead")
    (dead,) = json.loads(shown.stdout)["jobs"]
    assert (dead["chain"], dead["args"]) == (2, [2, 2])


def test_another_machine_takes_a_run_up(home: Home) -> None:
    home.run("map", "--run", "moves", "tasks:unless", "{}", "2", ":::", "1", "2")
    elsewhere = {"JOBRUNNER_STATE_DIR": str(home.folder / "elsewhere")}
    done = home.run("map", "--run", "moves", "--resume", "tasks:unless", "{}", "2", ":::", "1", "2", environ=elsewhere)
    assert (done.returncode, summary(done.stderr)[0]) == (1, "✓ 0 ok  ✗ 1 failed  1 skipped ")


def test_a_run_that_does_not_exist_has_nothing_that_failed(home: Home) -> None:
    done = home.run("map", "--run", "nope", "--retry-failed", "tasks:square", ":::", "1")
    assert (done.returncode, done.stderr.splitlines()[0]) == (4, "error: There is no run 'nope'.")


def test_equal_inputs_are_jobs_of_their_own(home: Home) -> None:
    done = home.run("map", "--run", "twice", "tasks:square", ":::", "5", "5", "5")
    assert done.stdout == "25\n25\n25\n"
    again = home.run("map", "--run", "twice", "--resume", "tasks:square", ":::", "5", "5", "5", "5")
    assert (again.stdout, summary(again.stderr)) == ("25\n", ["✓ 1 ok  3 skipped "])


def test_one_bad_input_of_a_batch_fails_alone(home: Home) -> None:
    args = ["map", "--run", "batch", "--batch", "4", "tasks:unless", "{}", "3", ":::", "1", "2", "3", "4", "5"]
    done = home.run(*args)
    assert (done.returncode, done.stdout) == (1, "1\n2\n4\n5\n")
    assert summary(done.stderr)[0] == "✓ 4 ok  ✗ 1 failed "
    # the function is not tried again, so there are no jobs but the two batches
    jobs = json.loads(home.run("--json", "list", "run:batch").stdout)["jobs"]
    assert sorted(job["state"] for job in jobs) == ["succeeded", "succeeded"]
    args.insert(3, "--resume")
    again = home.run(*args, "6")
    assert (again.returncode, again.stdout, summary(again.stderr)[0]) == (1, "6\n", "✓ 1 ok  ✗ 1 failed  4 skipped ")


def test_a_call_of_a_batch_that_failed_is_retried_alone(home: Home) -> None:
    done = home.run("map", "--run", "flaky", "--backoff", "0.1", "--batch", "3", "tasks:flaky", ":::", "1", "2", "3")
    assert (done.returncode, done.stdout) == (0, "1\n2\n3\n")
    jobs = json.loads(home.run("--json", "list", "run:flaky").stdout)["jobs"]
    assert len(jobs) == 2


def test_a_call_that_ends_its_process_ends_no_other_call_of_its_batch(home: Home) -> None:
    done = home.run("map", "--backoff", "0.1", "--batch", "3", "tasks:dies", ":::", "1", "2", "3")
    assert (done.returncode, done.stdout) == (1, "1\n3\n")
    assert "the process died: SIGKILL" in done.stderr


def test_a_halt_cancels_what_goes_on(home: Home) -> None:
    line = "mkdir first 2> /dev/null && exit 3; sleep 600"  # whichever begins first
    done = home.run("map", "--halt", "now,fail=1", "--retries", "0", "--", "sh", "-c", line, ":::", *"123456")
    assert done.returncode == 5
    assert summary(done.stderr)[0] == "✓ 0 ok  ✗ 1 failed  ⊘ 5 cancelled "
    assert re.fullmatch(r"Halted: now,fail=1\. The rest:  add  --run \S+ --resume", done.stderr.splitlines()[-1])


def test_a_soft_halt_lets_what_was_queued_end(home: Home) -> None:
    args = ["map", "-m", "2", "--halt", "soon,fail=1", "tasks:unless", "{}", "2", ":::", *map(str, range(1, 50))]
    done = home.run(*args)
    assert done.returncode == 5
    assert done.stdout.startswith("1\n")
    assert len(done.stdout.splitlines()) < 10


def close_gate(home: Home) -> None:
    """What is `gated` has not started, and will wait."""
    for name in ("gate", "started"):
        (home.folder / name).unlink(missing_ok=True)


def test_a_detached_run_is_taken_up_later(home: Home) -> None:
    args = ["map", "--run", "later", "tasks:gated", ":::", "1", "2", "3"]
    close_gate(home)
    done = home.run(*args[:3], "--detach", *args[3:])
    assert (done.returncode, done.stdout, done.stderr) == (0, "later\n", "")
    with home.piped(*args[:3], "--resume", *args[3:], "4") as process:
        # the fourth is queued once the first three are waited for
        eventually(lambda: _has_jobs(home, "run:later", 4), timeout_s=60)
        (home.folder / "gate").touch()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "1\n2\n3\n4\n", "")
    jobs = json.loads(home.run("--json", "list", "run:later").stdout)["jobs"]
    assert [job["attempt"] for job in jobs] == [1, 1, 1, 1]


def _has_jobs(home: Home, words: str, count: int) -> None:
    assert len(json.loads(home.run("--json", "list", words).stdout)["jobs"]) == count


def _has_lines(path: Path, count: int) -> None:
    assert path.exists()
    assert len(path.read_text().splitlines()) >= count


def test_one_interrupt_stops_adding_and_the_second_leaves(home: Home) -> None:
    close_gate(home)
    with home.piped("map", "--run", "stops", "-m", "2", "tasks:gated", ":::", "1", "2", "3", "4") as process:
        eventually(lambda: _has_lines(home.folder / "started", 2), timeout_s=60)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert said == "Stopped adding jobs; 2 go on. Ctrl-C again to leave. To stop them: jobrunner cancel run:stops\n"
    assert (process.returncode, out) == (130, "")
    assert err == "2 go on. To take it up again:  add  --run stops --resume\n"
    (home.folder / "gate").touch()
    args = ["map", "--run", "stops", "--resume", "tasks:gated", ":::", "1", "2", "3", "4"]
    home.run("wait", "run:stops")
    done = home.run(*args)
    assert (done.returncode, done.stdout, summary(done.stderr)) == (0, "3\n4\n", ["✓ 2 ok  2 skipped "])


def test_after_one_interrupt_it_waits_for_what_was_queued(home: Home) -> None:
    close_gate(home)
    with home.piped("map", "-m", "2", "tasks:gated", ":::", "1", "2", "3", "4") as process:
        eventually(lambda: _has_lines(home.folder / "started", 2), timeout_s=60)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Stopped adding jobs; 2 go on.")
        (home.folder / "gate").touch()
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "1\n2\n")


def test_without_a_worker_it_says_so(home: Home) -> None:
    queue = f"map-idle-{os.getpid()}"
    warning = f"! No worker listens on '{queue}'. The jobs wait safely.\n  Start one:  jobrunner worker -q {queue}\n"
    done = home.run("map", "--detach", "--run", "idle", "-q", queue, "tasks:square", ":::", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "idle\n", warning)
    with home.piped("map", "-q", queue, "--run", "idler", "tasks:square", ":::", "1") as process:
        assert process.stderr is not None
        assert process.stderr.readline() + process.stderr.readline() == warning
    assert home.run("cancel", "run:idle", "run:idler").returncode == 0


def test_a_reader_that_has_enough_ends_it_quietly(home: Home) -> None:
    line = f"{' '.join(COMMAND)} map -m 20 --range 1-100000 tasks:square | head -2"
    done = subprocess.run(
        ["bash", "-c", line], cwd=home.folder, env=home.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n4\n", "")


def test_a_slow_pipe_is_answered_line_by_line(home: Home) -> None:
    with home.piped("map", "tasks:square", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (3, 5):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 20)[0]
            assert process.stdout.readline() == f"{number * number}\n"
        process.stdin.close()
        assert process.wait(60) == 0


def test_logs_and_results_lie_in_files(home: Home) -> None:
    line = "echo out {}; echo err >&2; test {} != b"
    args = ["map", "--retries", "0", "--joblog", "log", "--results", "found", "--", "sh", "-c", line, ":::", "a", "b"]
    assert home.run(*args).returncode == 1
    rows = [line.split("\t") for line in (home.folder / "log").read_text().splitlines()]
    assert [row[0] for row in rows[1:]] in (["1", "2"], ["2", "1"])
    assert {(row[0], row[6], row[7]) for row in rows[1:]} == {("1", "0", "0"), ("2", "1", "0")}
    assert (home.folder / "found" / "1" / "stdout").read_text() == "out a\n"
    assert (home.folder / "found" / "2" / "stderr").read_text() == "err\n"
    assert (home.folder / "found" / "2" / "error").read_text() == "dead: err\n"


def test_on_a_terminal_there_is_a_line_of_progress(home: Home) -> None:
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "map", "--run", "bar", "--", "sh", "-c", "sleep 0.9", ":::", *"123456"],
        cwd=home.folder,
        env=home.environ | {"NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=secondary,
    )
    os.close(secondary)
    try:
        out, _ = process.communicate(timeout=60)
        text = _all_of(primary)
    finally:
        os.close(primary)
    assert (process.returncode, out) == (0, b"")
    drawn = re.findall(r"\r(bar  [^\r\x1b]*)\x1b\[K", text)
    assert drawn
    assert all(re.match(r"bar  \d/6 \d+%  ✓ \d", line) for line in drawn)
    assert any(re.search(r"● [12]", line) for line in drawn)
    assert any(re.search(r"[\d.]+/s  eta \d+s", line) for line in drawn)
    assert re.search(r"\r\x1b\[K✓ 6 ok  in [\d.]+ s \([\d.]+/s\)\r\n$", text)


def _all_of(handle: int) -> str:
    text = b""
    while select.select([handle], [], [], 0.2)[0]:
        try:
            part = os.read(handle, 65_536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        text += part
    return text.decode()
