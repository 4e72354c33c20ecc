"""`enqueue --from`: lines, and what is told of them in the order of the input."""

import asyncio
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.cli.app import run
from jobrunner.cli.enqueue_after import Earlier
from jobrunner.cli.enqueue_lines import LineReader
from jobrunner.cli.enqueue_many import _Batch
from jobrunner.cli.enqueue_plan import Plan
from jobrunner.cli.enqueue_report import Report
from jobrunner.cli.lines import chunks_of_lines, opened
from jobrunner.cli.shared import Shared
from jobrunner.envelope import After, Envelope, new_job, seal
from jobrunner.errors import BadDuration, BrokerBlocked, JobrunnerError, QueueRefused, Unconfirmed, Unroutable
from jobrunner.outcome import Error
from jobrunner.watch import End
from jobrunner.wishes import Wishes


def _read(line: dict[str, Any] | str, wishes: Wishes | None = None) -> Plan:
    text = line if isinstance(line, str) else json.dumps(line)
    return LineReader(wishes or Wishes()).read(text.encode())


def test_a_line_is_a_call_a_command_or_a_shell_line() -> None:
    call = _read({"call": "mod.fn", "args": [1], "kwargs": {"a": None}}).envelope.job
    assert (call.task, bytes(call.args), bytes(call.kwargs)) == ("mod:fn", b"[1]", b'{"a": null}')
    assert _read({"run": ["prog", "arg"]}).envelope.job.argv == ["prog", "arg"]
    assert _read({"shell": "a | b"}).envelope.job.argv == ["/bin/sh", "-c", "a | b"]


def test_a_line_takes_the_options_by_their_long_names() -> None:
    line = {
        "run": ["x"],
        "queue": "q",
        "delay": "5m",
        "expires": 60,
        "priority": "high",
        "retries": 0,
        "backoff": "1s..2s",
        "timeout": 1.5,
        "id": "k7f2m9xq4tzd8w1r",
        "tag": ["a"],
        "label": "L",
        "env": {"K": "V"},
        "cwd": "/tmp",
        "stdin": "in",
    }
    envelope = _read(line).envelope
    job = envelope.job
    assert (job.queue, envelope.priority, job.max_attempts, job.backoff_s, job.backoff_max_s) == ("q", 8, 1, 1.0, 2.0)
    assert (job.timeout_s, job.id, job.tags, job.label, job.env) == (1.5, "k7f2m9xq4tzd8w1r", ["a"], "L", {"K": "V"})
    assert (job.cwd, job.stdin, envelope.state.not_before_ms > 0) == ("/tmp", b"in", True)


def test_what_a_line_does_not_say_the_command_line_says() -> None:
    wishes = Wishes(queue="q", retries=2, tags=["a"], env={"A": "1"}, at_s=4e9)
    line = {"run": ["x"], "retries": 5, "tag": "b", "env": {"B": "2"}}
    envelope = _read(line, wishes).envelope
    job = envelope.job
    assert (job.queue, job.max_attempts, job.tags, job.env) == ("q", 6, ["a", "b"], {"A": "1", "B": "2"})
    assert envelope.state.not_before_ms == 4e12
    assert _read({"run": ["x"], "delay": 1}, wishes).envelope.state.not_before_ms < 4e12


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"call":"t:f" "args":[]}', "not JSON: Expecting ',' at column 15"),
        ("", "not JSON"),
        ("[1]", "expected an object, got a list"),
        ('{"call":"t:f","retires":3}', "unknown key 'retires'. Did you mean 'retries'?"),
        ('{"call":"t:f","retries":"3"}', "retries: expected a whole number or null, got text"),
        ('{"call":"t:f","retries":-1}', "retries: -1 is not in 0 to 999999"),
        ('{"args":[]}', "exactly one of call, run and shell must say what to run"),
        ('{"call":"t:f","run":["x"]}', "exactly one of call, run and shell must say what to run"),
        ('{"run":[]}', "run is empty"),
        ('{"run":["","x"]}', "run is empty"),
        ('{"shell":""}', "shell is empty"),
        ('{"run":["a\\u0000"]}', "an argument holds a NUL character"),
        ('{"call":"t:f","args":{}}', "args must be a list and kwargs an object"),
        ('{"call":"t:f","kwargs":[]}', "args must be a list and kwargs an object"),
        ('{"call":"t:f","delay":1,"at":"07:00"}', "delay and at both say when"),
        ('{"call":"t:f","stdin":"x"}', "stdin is for commands; a function takes arguments"),
        ('{"call":"t:f","timeout":"5 mins"}', "'5 mins' is not a duration."),
        ('{"call":"nothing"}', "'nothing' does not name a function. Functions are named by module: tasks:resize"),
        ('{"run":["x"],"id":"x"}', "'x' is not a job id."),
        ('{"run":["x"],"when":"end"}', "when needs after"),
        ('{"run":["x"],"after":"k7f2","when":"now"}', "when: invalid enum value 'now'"),
        ('{"run":["x"],"after":[]}', "--after names no job."),
        ('{"run":["x"],"after":"k7f2m9xq4tzd8w1r"}', "No job starts with 'k7f2m9xq4tzd8w1r'."),
        ('{"run":["x"],"after":"run:r"}', "There is no run 'r'."),
    ],
)
def test_a_line_that_is_no_job_says_why(line: str, why: str) -> None:
    with pytest.raises(JobrunnerError) as caught:
        _read(line)
    assert caught.value.message.startswith(why)


def test_bytes_that_are_no_utf8_are_told_with_their_place() -> None:
    with pytest.raises(JobrunnerError, match="not UTF-8 at byte 10"):
        LineReader(Wishes()).read(b'{"shell":\xff}')


def test_an_id_may_be_used_once() -> None:
    reader = LineReader(Wishes())
    reader.read(b'{"shell":"x","id":"k7f2m9xq4tzd8w1r"}')
    with pytest.raises(JobrunnerError, match="was used in an earlier line"):
        reader.read(b'{"shell":"x","id":"k7f2m9xq4tzd8w1r"}')


FIRST = "k7f2m9xq4tzd8w1r"
OTHER = "h4m2x0v81srqn5k3"


def test_a_line_may_wait_for_an_earlier_one() -> None:
    reader = LineReader(Wishes(delay_s=60, after=None))
    first = reader.read(f'{{"shell":"x","id":"{FIRST}"}}'.encode()).envelope.job
    reader.read(f'{{"shell":"x","id":"{OTHER}"}}'.encode())
    found = reader.read(f'{{"shell":"y","after":["{FIRST}","{OTHER}"],"when":"end"}}'.encode()).envelope
    assert found.job.after == After(jobs={FIRST: 0, OTHER: 0}, when="end", since=first.iat)
    assert not found.state.not_before_ms
    assert reader.read(f'{{"shell":"y","after":"{FIRST},{OTHER}"}}'.encode()).envelope.job.after is not None
    with pytest.raises(JobrunnerError, match="after says when as well"):
        reader.read(f'{{"shell":"y","after":"{FIRST}","delay":1}}'.encode())


def test_what_a_line_waits_for_goes_before_what_the_command_line_says() -> None:
    wishes = Wishes(after=After(jobs={OTHER: 1}, since=5.0))
    assert _read({"run": ["x"], "when": "failure"}, wishes).envelope.job.after == After(
        jobs={OTHER: 1}, when="failure", since=5.0
    )
    reader = LineReader(wishes)
    reader.read(f'{{"shell":"x","id":"{FIRST}"}}'.encode())
    found = reader.read(f'{{"shell":"x","after":"{FIRST}"}}'.encode()).envelope.job.after
    assert found is not None
    assert found.jobs == {FIRST: 0}
    with pytest.raises(JobrunnerError, match="--after says when as well"):
        reader.read(b'{"shell":"x","delay":1}')


class OneByOne:
    """In the broker's place: answers once its input is at its end, and refuses what has no place."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []

    async def enqueue_many(self, envelopes: Iterator[Envelope], on_answer: Callable[..., None]) -> None:
        batch = list(envelopes)
        self.sent.append([envelope.job.argv[0] for envelope in batch if envelope.job.argv])
        for envelope in batch:
            error = Unroutable(queue="full", user="u") if envelope.job.queue == "full" else None
            on_answer(envelope, error)


def test_what_waits_for_a_line_that_the_broker_refused_is_not_queued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"run": ["a"], "id": FIRST},
        {"run": ["b"], "id": OTHER, "queue": "full"},
        {"run": ["c"], "after": FIRST, "id": "p3h8w2acp3h8w2ac"},
        {"run": ["d"], "after": OTHER, "id": "p3h8w2acp3h8w2ad"},
        {"run": ["e"], "after": "p3h8w2acp3h8w2ad"},
        {"run": ["f"], "after": ["p3h8w2acp3h8w2ac", FIRST]},
        {"run": ["g"]},
    ]
    path = tmp_path / "lines"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    earlier, broker = Earlier(), OneByOne()
    report = Report(Shared(), is_waiting=False, is_strict=False)
    batch = _Batch(Shared(), LineReader(Wishes(), earlier), report, earlier)
    with opened(str(path)) as handle:
        asyncio.run(batch._enqueue(broker, handle))  # type: ignore[arg-type]
    # what waits for a line is sent once that line is confirmed, and not before
    assert broker.sent == [["a", "b"], ["c"], ["f", "g"]]
    assert (report.queued, report.refused, report.bad_lines) == (4, 1, 2)
    told = capsys.readouterr().err
    assert f"line 4: It waits for {OTHER}, which was not queued; skipped" in told
    assert "line 5: It waits for p3h8w2acp3h8w2ad, which was not queued; skipped" in told


def _told(*answers: JobrunnerError | None) -> Report:
    """Three jobs were on their way; these are the answers that came."""
    report = Report(Shared(), is_waiting=False, is_strict=False)
    jobs = [seal(new_job(queue="q", argv=["x"])) for _ in range(3)]
    for number in (1, 2, 3):
        report.expect(number)
    for job, answer in zip(jobs, answers, strict=False):
        report.answered(job, answer)
    return report


def test_an_input_that_was_cut_short_is_refused_only_where_nothing_may_be_queued(
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocked = BrokerBlocked(alarm="disk alarm")
    unsure = Unconfirmed(until="within 10 s", job_id=FIRST[:8], full_id=FIRST)
    assert _told().cut_short(blocked) is blocked
    for answer in (None, unsure):
        said = _told(answer).cut_short(blocked)
        assert said.exit_code == 5
        assert said.message == "RabbitMQ takes no new jobs (disk alarm). Line 2 and those after it were not queued."
    assert f"line 1: No confirm within 10 s: {FIRST} may be queued or not\n" in capsys.readouterr().err
    assert _told(unsure, blocked, blocked).conclude() == 5
    assert _told(blocked, blocked, blocked).conclude() == 3


@given(st.binary(max_size=60))
def test_no_bytes_make_the_reader_fail_otherwise(line: bytes) -> None:
    with pytest.raises(JobrunnerError):
        LineReader(Wishes()).read(line)


def test_arguments_are_checked_against_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.py").write_text("def f(a): ...")
    with pytest.raises(JobrunnerError, match="has no argument 'b'"):
        _read({"call": "tasks:f", "kwargs": {"b": 1}})
    assert _read({"call": "tasks:f", "args": [1]}).shown == "tasks.f(1)"


# --- reading --------------------------------------------------------------------------------------------------------


def test_lines_come_from_a_pipe_as_they_are_written() -> None:
    reading, writing = os.pipe()

    async def slowly() -> list[list[bytes]]:
        os.write(writing, b"a\nb")
        seen: list[list[bytes]] = []
        async for lines in chunks_of_lines(reading):
            seen.append(lines)
            if len(seen) == 1:
                os.write(writing, b"c\nlast")
                os.close(writing)
        return seen

    try:
        assert asyncio.run(slowly()) == [[b"a"], [b"bc"], [b"last"]]
    finally:
        os.close(reading)


def test_lines_come_from_a_regular_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(100_000)))

    async def count() -> int:
        with path.open("rb") as file:
            return sum([len(lines) async for lines in chunks_of_lines(file.fileno())])

    assert asyncio.run(count()) == 100_000


# --- telling --------------------------------------------------------------------------------------------------------


def _envelope() -> Envelope:
    return _read({"shell": "x"}).envelope


def test_ids_and_refusals_are_told_in_the_order_of_the_input(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Shared(json=True), is_waiting=False, is_strict=False)
    first, second = _envelope(), _envelope()
    report.expect(1)
    report.skipped(2, BadDuration(value="x"))
    report.expect(3)
    assert capsys.readouterr().out == ""
    report.answered(first, None)
    report.answered(second, Unroutable(queue="q", user="u"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["line"] for line in lines] == [1, 2, 3]
    assert lines[0]["id"] == first.job.id
    assert [line["error"]["code"] for line in lines[1:]] == ["bad_duration", "unroutable"]
    assert report.conclude() == 5


def test_the_summary_counts_what_was_queued_skipped_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Shared(), is_waiting=False, is_strict=False)
    report.skipped(1, BadDuration(value="x"))
    report.expect(2)
    report.answered(_envelope(), None)
    assert report.conclude() == 5
    assert capsys.readouterr().err == (
        "line 1: 'x' is not a duration; skipped\n1 queued, 1 line skipped (--strict stops at the first)\n"
    )


def test_if_nothing_was_queued_the_exit_code_is_that_of_the_reason() -> None:
    report = Report(Shared(quiet=True), is_waiting=False, is_strict=False)
    report.expect(1)
    report.answered(_envelope(), QueueRefused(queue="q"))
    assert report.conclude() == 3
    report = Report(Shared(quiet=True), is_waiting=False, is_strict=True)
    report.skipped(1, BadDuration(value="x"))
    assert report.is_stopped
    assert report.conclude() == 2


def test_ends_are_told_in_the_order_of_the_input(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Shared(), is_waiting=True, is_strict=False)
    first, second = _envelope(), _envelope()
    error = Error(reason="error", message="a\tb", class_name="ValueError")
    report.ended(End(id=second.job.id, state="dead", attempt=1, error=error))
    for number, envelope in ((1, first), (2, second)):
        report.expect(number)
        report.answered(envelope, None)
    assert (capsys.readouterr().out, report.waiting) == ("", 2)
    report.ended(End(id=first.job.id, state="succeeded", attempt=1, result=b"[1]"))
    assert capsys.readouterr().out == f"{first.job.id}\tsucceeded\t[1]\n{second.job.id}\tdead\tValueError: a\\tb\n"
    assert report.waiting == 0
    assert report.conclude() == 1


def test_as_json_an_end_names_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Shared(json=True), is_waiting=True, is_strict=False)
    made = _envelope()
    report.skipped(1, BadDuration(value="x"))
    report.expect(2)
    report.answered(made, None)
    report.ended(End(id=made.job.id, state="succeeded", attempt=1, result=msgspec.Raw(b"[1]")))
    refused, ended = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (refused["line"], refused["error"]["code"]) == (1, "bad_duration")
    assert (ended["line"], ended["id"], ended["state"], ended["result"]) == (2, made.job.id, "succeeded", [1])


class _Closed(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        return self.nowhere

    nowhere = -1


def test_a_reader_that_leaves_does_not_keep_the_other_jobs_from_being_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = _Closed()
    closed.nowhere = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr("sys.stdout", closed)
    report = Report(Shared(quiet=True), is_waiting=False, is_strict=False)
    for number in (1, 2, 3):
        report.expect(number)
        report.answered(_envelope(), None)
    monkeypatch.undo()
    os.close(closed.nowhere)
    assert (report.queued, report.conclude()) == (3, 0)


def test_a_dry_run_checks_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    Path("l").write_text('{"run":["a","b c"],"id":"k7f2m9xq4tzd8w1r"}\n\n{"run":1}\n{"call":"t:f","args":[1]}\n')
    assert run(["enqueue", "-n", "--from", "l"]) == 5
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "k7f2m9xq4tzd8w1r\ttask_queue\t\ta 'b c'"
    assert captured.out.splitlines()[1].endswith("\ttask_queue\t\tt.f(1)")
    assert captured.err.startswith(
        "line 3: run: expected a list or null, got a whole number; skipped\n2 would be queued, 1 line skipped"
    )
    assert run(["enqueue", "-n", "--strict", "--from", "l"]) == 5
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert captured.err.endswith("; stopped\n1 would be queued, stopped at a bad line\n")
