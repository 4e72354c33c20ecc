"""`jobrunner map` without a broker: its line, its options, what would run, and what it writes."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobrunner.attempts import Stream
from jobrunner.cli.app import run
from jobrunner.cli.map_bar import Bar
from jobrunner.cli.map_files import Results, opened_log
from jobrunner.cli.map_report import Report
from jobrunner.cli.shared import Shared
from jobrunner.mapping.inputs import Input
from jobrunner.mapping.items import Ended
from jobrunner.mapping.line import Counts
from jobrunner.mapping.recipe import Recipe
from jobrunner.mapping.template import Call, Command
from jobrunner.outcome import Error
from jobrunner.wishes import Wishes
from tests.support.terminal import Terminal

TASKS = """
from jobrunner import job

@job(queue="media")
def resize(path: str, width: int = 1024): ...

@job
def square(n): return n * n
"""


@pytest.fixture(autouse=True)
def _tasks(alone: Path) -> None:
    (alone / "tasks.py").write_text(TASKS)


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What `map -n ARGS` prints. stdin: what is piped in; None for a terminal or nothing at all."""
    opened: list[int] = []

    def ask(*args: str, stdin: bytes | None = None, code: int = 0) -> list[str]:
        if stdin is None:
            handle = os.open(os.devnull, os.O_RDONLY)
        else:
            handle, end = os.pipe()
            os.write(end, stdin)
            os.close(end)
        opened.append(handle)
        with os.fdopen(os.dup(handle), encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            assert run(["map", "-n", *args]) == code
        captured = capsys.readouterr()
        return (captured.out if not code else captured.err).splitlines()

    yield ask
    for handle in opened:
        os.close(handle)


def test_inputs_stand_behind_three_colons(typed: Any) -> None:
    assert typed("tasks:square", ":::", "3", "-5", "--", "x") == [
        "tasks.square(3)",
        "tasks.square(-5)",
        "tasks.square('--')",
        "tasks.square('x')",
    ]
    assert typed("--", "echo", "-n", "{}", ":::", "a b", "--run") == ["echo -n 'a b'", "echo -n --run"]


def test_inputs_come_from_a_pipe_a_file_or_a_range(typed: Any, tmp_path: Path) -> None:
    assert typed("tasks:square", stdin=b"3\n\n5") == ["tasks.square(3)", "tasks.square(5)"]
    assert typed("-0", "tasks:square", stdin=b"a\nb\0c\0") == ["tasks.square('a\\nb')", "tasks.square('c')"]
    (tmp_path / "in").write_text("1\n2\n")
    assert typed("-a", "in", "tasks:square") == ["tasks.square(1)", "tasks.square(2)"]
    assert typed("--range", "1-3:2", "tasks:square") == ["tasks.square(1)", "tasks.square(3)"]
    assert typed("-a", "-", "tasks:square", stdin=b"") == []


def test_several_groups_of_inputs_are_combined(typed: Any) -> None:
    assert typed("tasks:resize", ":::", "a.jpg", "b c.jpg", ":::", "1", "2") == [
        "tasks.resize('a.jpg', 1)",
        "tasks.resize('a.jpg', 2)",
        "tasks.resize('b c.jpg', 1)",
        "tasks.resize('b c.jpg', 2)",
    ]
    assert typed("--", "echo", "{2}:{1.}", ":::", "a.jpg", ":::", "1", "2") == ["echo 1:a", "echo 2:a"]
    assert typed("tasks:resize", ":::", "a", ":::") == []
    many = [str(number) for number in range(60)]
    assert len(typed("tasks:resize", ":::", *many, ":::", *many)) == 3600


def test_inputs_may_be_json_or_rows(typed: Any) -> None:
    assert typed("--jsonl", "tasks:resize", "{p}", "width={w}", stdin=b'{"p": "7", "w": 8}') == [
        "tasks.resize('7', width=8)"
    ]
    assert typed("--csv", "--", "echo", "{b}", stdin=b'a,b\n1,"x y"\n') == ["echo 'x y'"]
    assert typed("--jsonl", "tasks:square", ":::", '"5"') == ["tasks.square('5')"]


def test_many_inputs_are_read_in_pieces(typed: Any) -> None:
    lines = typed("tasks:square", stdin=b"".join(b"%d\n" % number for number in range(9000)))
    assert lines == [f"tasks.square({number})" for number in range(9000)]


def test_an_input_that_is_none_is_told_and_the_others_go_on(typed: Any) -> None:
    assert typed("--jsonl", "tasks:square", stdin=b"{x\n1\n", code=1)[0].startswith("input 1: it is not JSON")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["tasks:square"], "'map' has no inputs: nothing is piped in and there is no ':::'."),
        ([":::", "1"], "There is nothing to run."),
        (["--", ":::", "1"], "No command stands after '--'."),
        (["tasks:square", "--", "x", ":::", "1"], "The target 'tasks:square' and what stands after '--' both say"),
        (["tasks:square", "-a", "f", ":::", "1"], "':::' and --arg-file both say what the inputs are."),
        (["tasks:square", "--range", "1-2", ":::", "1"], "':::' and --range both say what the inputs are."),
        (["--jsonl", "--csv", "-a", "f", "tasks:square"], "--jsonl and --csv both say what one is."),
        (["--csv", "tasks:square", ":::", "1"], "--csv is for inputs from a file or a pipe."),
        (["--jsonl", "tasks:resize", ":::", "1", ":::", "2"], "--jsonl is for one ':::'."),
        (["tasks:square", ":::", "1", ":::", "2"], "tasks.square() takes 1 argument, not 2."),
        (["tasks:square", "{3}", ":::", "1", ":::", "2"], "'{3}' is input 3 of a combination, which has 2."),
        (["--resume", "tasks:square", ":::", "1"], "--resume needs the name of a run."),
        (["--run", "r", "--resume", "--retry-failed", "tasks:square", ":::", "1"], "--resume and --retry-failed both"),
        (["--run", "a b", "tasks:square", ":::", "1"], "'a b' cannot be the name of a run."),
        (["--run", "a*", "tasks:square", ":::", "1"], "'a*' cannot be the name of a run."),
        (["--batch", "5", "--", "x", ":::", "1"], "--batch is for functions"),
        (["--detach", "--halt", "now,fail=1", "tasks:square", ":::", "1"], "--halt waits for results"),
        (["tasks:square", "x=1", ":::", "1"], "tasks.square() has no argument 'x'."),
        (["tasks:resize", "{}", "{}", "{}", ":::", "1"], "tasks.resize() takes 2 arguments, not 3."),
        (["tasks:nope", ":::", "1"], "tasks.py has no function 'nope'."),
        (["-a", "missing", "tasks:square"], "Cannot read 'missing': No such file"),
        (["-a", ".", "tasks:square"], "Cannot read '.': Is a directory."),
        (["--range", "x", "tasks:square"], "'x' is not a range."),
        (["--halt", "x", "tasks:square", ":::", "1"], "'x' does not say when to halt."),
    ],
)
def test_what_cannot_be_meant_is_refused(typed: Any, args: list[str], sentence: str) -> None:
    assert typed(*args, code=2)[0].startswith(f"error: {sentence}")


# --- what it writes -------------------------------------------------------------------------------------------------


def ended(seq: int, state: str = "succeeded", text: str = "a.jpg", **fields: Any) -> Ended:
    return Ended(seq=seq, given=Input(text), id="k7f2m9xq4tzd8w1r", state=state, **fields)


FAILED = Error(reason="exit", message="corrupt image", exit=3)
COMMAND = Recipe(run="r", wishes=Wishes(), user="u", command=Command(["convert", "{}"], has_keys=False))
FUNCTION = Recipe(run="r", wishes=Wishes(), user="u", task="tasks:f", call=Call([], has_keys=False))


def test_the_log_of_jobs_has_the_columns_of_gnu_parallel(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for appends in (False, True):
        with opened_log(str(path), COMMAND, appends=appends) as log:
            out = Stream(head="abc", total_bytes=3)
            log.write(ended(1, text="a\tb", stdout=out, started_at=1.5, took_s=0.25, host="web3"))
    with opened_log(str(path), FUNCTION, appends=True) as log:
        log.write(ended(2, "dead", error=FAILED))
        log.write(ended(3, "dead", error=Error(reason="crash", message="died", signal="SIGKILL")))
        log.write(ended(4, "cancelled"))
    lines = path.read_text().splitlines()
    assert lines[0].replace("\t", " ") == "Seq Host Starttime JobRuntime Send Receive Exitval Signal Command"
    assert lines[1] == lines[2] == "1\tweb3\t1.500\t     0.250\t0\t3\t0\t0\tconvert 'a\\tb'"
    assert [line.split("\t")[6:] for line in lines[3:]] == [
        ["3", "0", "tasks.f('a.jpg')"],
        ["1", "9", "tasks.f('a.jpg')"],
        ["-1", "0", "tasks.f('a.jpg')"],
    ]


def test_results_lie_in_a_folder_for_each_input(tmp_path: Path) -> None:
    commands = Results(str(tmp_path / "c" / "d"), is_command=True)
    commands.write(ended(1, result=msgspec.Raw(b'"out\\n"'), stderr=Stream(head="oh", total_bytes=2)))
    functions = Results(str(tmp_path / "f"), is_command=False)
    functions.write(ended(2, "dead", error=FAILED))
    functions.write(ended(2, result=msgspec.Raw(b'{"a":1}')))
    functions.write(ended(3, "cancelled"))
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*/*") if path.is_file()}
    assert found == {
        "c/d/1/input": "a.jpg",
        "c/d/1/stdout": "out\n",
        "c/d/1/stderr": "oh",
        "f/2/input": "a.jpg",
        "f/2/result.json": '{"a":1}\n',
        "f/3/input": "a.jpg",
        "f/3/error": "cancelled\n",
    }


def test_the_line_of_progress() -> None:
    bar = Bar("crawl-3fd2", lambda: (Counts(), 0, None))
    began = bar._samples[0][0]
    counts = Counts(added=600, succeeded=411, dead=1)
    assert bar.text(counts, 8, 600, began + 10) == "crawl-3fd2  412/600 68%  ✓ 411 ✗ 1 ● 8  41/s  eta 5s"
    assert bar.text(Counts(added=700, succeeded=412), 0, None, began + 20) == "crawl-3fd2  412  ✓ 412  21/s"
    assert bar.text(counts, 0, 600, began + 60) == "crawl-3fd2  412/600 68%  ✓ 411 ✗ 1"


def report(*ends: Ended, is_command: bool = False, **shared: Any) -> Report:
    made = Report(Shared(**shared), is_command=is_command)
    made._flush_soon = lambda: None  # type: ignore[method-assign]  # there is no loop
    for one in ends:
        made.ended(one)
        made.result(one)
    return made


def test_piped_results_are_all_that_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    one, bad = ended(1, result=msgspec.Raw(b'{"a":1}')), ended(2, "dead", error=FAILED)
    report(one, bad, ended(3)).conclude("r", Counts(added=3, succeeded=2, dead=1))
    text = msgspec.Raw(b'"no end of line"')
    report(ended(1, result=text), is_command=True).conclude("r", Counts(added=1, succeeded=1))
    captured = capsys.readouterr()
    assert captured.out == '{"a":1}\nnull\nno end of line'
    lines = captured.err.splitlines()
    assert lines[0].startswith("✓ 2 ok  ✗ 1 failed  in 0.0 s (")
    assert lines[1:] == [
        "  a.jpg  exit 3  corrupt image   jobrunner logs k7f2",
        "  Again, only these:  add  --run r --retry-failed",
    ]


def test_of_many_failures_the_first_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    error = Error(reason="error", message="no", class_name="ValueError")
    ends = [ended(seq, "dead", text=f"\x1b[2J{seq}", error=error) for seq in range(1, 15)]
    report(*ends).conclude("r", Counts(added=20, succeeded=3, dead=14, expired=1, skipped=2, cut=1))
    lines = capsys.readouterr().err.splitlines()
    assert "  ".join(lines[0].split("  ")[:5]) == "✓ 3 ok  ✗ 14 failed  ⌛ 1 expired  1 cut at 1 MiB  2 skipped"
    assert lines[1] == "  \\x1b[2J1  ValueError: no   jobrunner logs k7f2"
    assert len(lines) == 13
    assert lines[11] == "  and 5 more: jobrunner list run:r state:failed"


def test_what_has_no_job_is_not_offered_to_retry_failed(capsys: pytest.CaptureFixture[str]) -> None:
    error = Error(reason="bad_input", message="it has no 'a'.")
    report(ended(1, "dead", error=error, was_queued=False)).conclude("r", Counts(added=1, dead=1))
    assert capsys.readouterr().err.splitlines()[1:] == ["  a.jpg  it has no 'a'."]


def test_json_has_a_line_for_each_input_and_one_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    error = Error(reason="error", message="no", class_name="ValueError", traceback="...")
    made = report(ended(1, result=msgspec.Raw(b"[1]"), took_s=0.5), ended(2, "dead", error=error), json=True)
    made.conclude("r", Counts(added=2, succeeded=1, dead=1, skipped=3))
    captured = capsys.readouterr()
    first, second, last = (json.loads(line) for line in captured.out.splitlines())
    assert first == {
        "schema": 1,
        "seq": 1,
        "input": "a.jpg",
        "id": "k7f2m9xq4tzd8w1r",
        "state": "succeeded",
        "took_s": 0.5,
        "result": [1],
        "error": None,
    }
    assert (second["state"], second["error"]) == (
        "dead",
        {"reason": "error", "message": "no", "class": "ValueError"},
    )
    assert {name: value for name, value in last.items() if name != "took_s"} == {
        "schema": 1,
        "run": "r",
        "total": 5,
        "succeeded": 1,
        "dead": 1,
        "cancelled": 0,
        "expired": 0,
        "skipped": 3,
    }
    assert captured.err == ""


def test_a_map_in_which_all_went_well_has_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    report(ended(1)).conclude("r", Counts(added=1, succeeded=1))
    assert capsys.readouterr().err == ""


def test_on_a_terminal_controls_in_results_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    report(ended(1, result=msgspec.Raw(b'"\\u001b[2Jx"')), is_command=True)
    report(ended(1, result=msgspec.Raw('"\x9b1m"'.encode())))
    assert terminal.getvalue() == '\\x1b[2Jx\n"\\x9b1m"\n'
