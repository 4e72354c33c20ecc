"""`jobrunner enqueue` without a broker: forms, options, what would be published."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobrunner.attempts import Stream
from jobrunner.cli.app import run
from jobrunner.cli.enqueue_result import failure_of, finish
from jobrunner.cli.shared import Shared
from jobrunner.envelope import MAX_JOB_BYTES
from jobrunner.errors import BadValue
from jobrunner.outcome import Error
from jobrunner.watch import End
from jobrunner.wishes import Wishes, build

ID = "k7f2m9xq4tzd8w1r"
TASKS = """
from jobrunner import job

@job(queue="media")
def resize(path: str, width: int = 1024): ...

@job
def hello(name): ...
"""


@pytest.fixture(autouse=True)
def _tasks(alone: Path) -> None:
    (alone / "tasks.py").write_text(TASKS)


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Any:
    """What `enqueue -n --json ARGS` would publish."""

    def ask(*args: str) -> dict[str, Any]:
        code = run(["enqueue", "-n", "--json", *args])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        document: dict[str, Any] = json.loads(captured.out)
        return document

    return ask


def test_a_function_with_typed_arguments(plan: Any) -> None:
    document = plan("tasks:hello", "name:=[1]", "--id", ID)
    assert document["id"] == document["message"]["id"] == ID
    assert (document["task"], document["argv"], document["queue"]) == ("tasks:hello", None, "task_queue")
    assert document["message"]["kwargs"] == {"name": [1]}
    assert document["route"] == {"exchange": "", "routing_key": "task_queue"}
    assert set(document["message"]) == {"v", "id", "queue", "iat", "task", "args", "kwargs", "user"}


def test_a_command_is_an_argument_list_and_is_never_quoted_again(plan: Any) -> None:
    document = plan("-q", "video", "--retries", "0", "--", "ffmpeg", "-i", "in file.mov", "--json", "$HOME")
    assert document["argv"] == ["ffmpeg", "-i", "in file.mov", "--json", "$HOME"]
    assert (document["queue"], document["message"]["max_attempts"]) == ("video", 1)


def test_a_shell_line_is_given_to_sh(plan: Any) -> None:
    assert plan("--shell", "a | b")["argv"] == ["/bin/sh", "-c", "a | b"]


def test_every_option_reaches_the_message(plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "t")
    options = "--retries 5 --backoff 1s..1m --timeout 90 --tag a --tag b --label L --env TOKEN_OF_TEST --env X=1=2"
    document = plan(*options.split(), "--cwd", "sub", "--expires", "1h", "--priority", "high", "tasks:hello", "x")
    message = document["message"]
    assert (message["max_attempts"], message["backoff_s"], message["backoff_max_s"]) == (6, 1.0, 60.0)
    assert (message["timeout_s"], message["tags"], message["label"]) == (90.0, ["a", "b"], "L")
    assert (message["env"], message["cwd"]) == ({"TOKEN_OF_TEST": "t", "X": "1=2"}, str(tmp_path / "sub"))
    assert message["expires_at"] == pytest.approx(message["iat"] + 3600, abs=5)


def test_limits_that_were_not_typed_are_left_to_the_function(plan: Any) -> None:
    assert not {"max_attempts", "backoff_s", "timeout_s"} & set(plan("tasks:hello", "x")["message"])


def test_the_functions_own_queue_holds_unless_one_is_typed(plan: Any) -> None:
    assert plan("tasks:resize", "a.jpg")["queue"] == "media"
    assert plan("tasks:resize", "a.jpg", "-q", "other")["queue"] == "other"


def test_an_empty_queue_name_does_not_become_the_default_queue() -> None:
    for queue, own in (("", None), ("", "media"), (None, "")):
        with pytest.raises(BadValue, match="A queue needs a name"):
            build(Wishes(queue=queue), {"argv": ["x"]}, own, "u@h")


def test_a_delayed_job_goes_through_the_ladder(plan: Any) -> None:
    document = plan("tasks:hello", "x", "--delay", "10s")
    assert document["not_before"] is not None
    assert document["route"]["exchange"].startswith("jobrunner.v1.delay.")


def test_expiry_counts_from_the_time_it_is_due() -> None:
    envelope = build(Wishes(delay_s=100.0, expires_s=10.0), {"argv": ["x"]}, None, "u@h")
    assert envelope.job.expires_at == pytest.approx(envelope.job.iat + 110, abs=1)


def test_literal_and_raw_arguments_are_text(plan: Any) -> None:
    assert plan("elsewhere:f", "1", "--arg", "-5", "--arg", "42")["message"]["args"] == [1, "-5", "42"]
    assert plan("elsewhere:f", "--raw", "42", "a=b")["message"]["args"] == ["42", "a=b"]


def test_stdin_becomes_the_commands(plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x00in")))
    assert plan("--stdin", "--", "cat")["message"]["stdin"] == "AGlu"


def test_the_dry_run_for_people_shows_call_route_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["enqueue", "-n", "tasks:hello", "you", "--id", ID]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[:4] == [
        "call     tasks.hello('you')",
        "queue    task_queue",
        "route    exchange '' key 'task_queue'",
        "headers  priority=4",
    ]
    assert lines[4].startswith('message  {"v":1,"id":"k7f2m9xq4tzd8w1r","queue":"task_queue",')
    assert captured.err == "Nothing was queued (--dry-run).\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("tasks:hello x --delay 5m --at 07:00", "--delay and --at both say when."),
        ("tasks:hello -- ls", "The target 'tasks:hello' and what stands after '--' both say what to run."),
        ("--shell x -- ls", "What stands after '--' and --shell both say what to run."),
        ("tasks:hello --from x", "The target 'tasks:hello' and --from both say what to run."),
        ("tasks:hello x --stdin", "--stdin is for commands; a function takes arguments."),
        ("--from x --id k7f2m9xq4tzd8w1r", "--id names one job, --from holds many."),
        ("--raw -- ls", "--arg and --raw are for a function's arguments."),
        ("tasks:hello x --strict", "--strict is for --from."),
        ("tasks:hello x --wait-timeout 5s", "--wait-timeout needs --wait or --follow."),
        ("tasks:hello x --exit-code", "--exit-code needs --wait or --follow."),
        ("tasks:hello x --wait -n", "--dry-run queues nothing to wait for."),
    ],
)
def test_options_that_say_two_things_clash(args: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["enqueue", *args.split()]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: {message}"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["tasks:rezise", "a"],
            "error: tasks.py has no function 'rezise'. Did you mean 'resize'?\nhint:  It has: resize, hello\n",
        ),
        (["tasks:resize", "a", "widht=1"], "hint:  resize(path: str, width: int = 1024)\n"),
        (["tasks.py:resize"], "Functions are named by module: tasks:resize\nhint:  jobrunner enqueue tasks:resize\n"),
        (["ffmpeg"], "hint:  a command: jobrunner enqueue -- ffmpeg\n"),
        ([], "error: There is nothing to enqueue.\n"),
        (["--"], "error: No command stands after '--'.\n"),
        (
            ["tasks:hello", "x", "--env", "NOT_SET_HERE"],
            "error: The variable 'NOT_SET_HERE' is not set here.\nhint:  --env NOT_SET_HERE=VALUE\n",
        ),
        (["tasks:hello", "x", "--id", "short"], "error: 'short' is not a job id.\n"),
        (
            ["tasks:hello", "x", "--priority", "12"],
            "error: '12' is not a priority.\nhint:  0 to 9, low, normal, high\n",
        ),
        (["tasks:hello", "x", "--timeout", "0"], "error: '0' is no time at all.\n"),
        (["tasks:hello", "x", "-q", "jobrunner.v1.dead"], "belong to jobrunner itself."),
        (["tasks:hello", "x", "-q", "ä" * 100], "the limit is 199.\n"),
        (["--", "echo", "\udcff"], "error: An argument is not UTF-8 text.\n"),
        (
            ["tasks:hello", "x" * (MAX_JOB_BYTES + 1)],
            "error: This job has 1.0 MiB; the limit is 1.0 MiB. args: 1.0 MiB\nhint:  pass a path or URL\n",
        ),
        (["--from", "nowhere"], "error: Cannot read 'nowhere': No such file or directory.\n"),
    ],
)
def test_what_cannot_be_queued_is_refused_before_a_broker_is_asked(
    args: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["enqueue", "--url", "amqp://no.such.host.invalid", "-n", *args]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""


# --- how a job ended ------------------------------------------------------------------------------------------------


def _end(state: str = "succeeded", **facts: Any) -> End:
    if "result" in facts:
        facts["result"] = msgspec.Raw(facts["result"])
    return End(id=ID, state=state, attempt=facts.pop("attempt", 1), **facts)


def _finish(end: End, *, argv: list[str] | None = None, exit_code: bool = False, as_json: bool = False) -> int:
    return finish(Shared(json=as_json), end, {"id": ID}, is_command=argv is not None, exit_code=exit_code)


def test_a_functions_result_is_a_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(_end(result=b'{"a":[1]}')) == 0
    assert _finish(_end(result=b'"text"')) == 0
    assert capsys.readouterr().out == '{"a":[1]}\n"text"\n'


def test_a_commands_output_is_printed_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(_end(result=b'"no newline"'), argv=["x"]) == 0
    assert capsys.readouterr().out == "no newline"


def test_a_dead_job_is_told_with_its_tries_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    error = Error(reason="error", message="read timed out", class_name="TimeoutError")
    assert _finish(_end("dead", attempt=4, error=error)) == 1
    told = "error: k7f2m9xq died after 4 tries: TimeoutError: read timed out\nhint:  jobrunner show k7f2\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Error(reason="exit", message="exit 7", exit=7), 7),
        (Error(reason="crash", message="died", signal="SIGKILL"), 137),
        (Error(reason="timeout", message="took too long"), 1),
    ],
)
def test_with_exit_code_the_commands_own_status_is_given(
    error: Error, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    end = _end(
        "dead", error=error, stdout=Stream(head="half", total_bytes=4), stderr=Stream(head="why\n", total_bytes=4)
    )
    assert _finish(end, argv=["x"], exit_code=True) == code
    assert _finish(end, argv=["x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "halfhalf"
    assert captured.err.startswith("why\nerror: k7f2m9xq died after 1 try: ")


def test_a_result_that_was_cut_exits_5(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(_end(result=b'"part"', truncated=True), argv=["x"]) == 5
    assert capsys.readouterr().err == "error: k7f2m9xq succeeded, but its result was over 1 MiB and is cut.\n"


def test_an_output_with_a_gap_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    _finish(_end("dead", stdout=Stream(head="ab", tail="yz", total_bytes=104)), argv=["x"])
    assert capsys.readouterr().out == "ab\n… 100 bytes not kept …\nyz"


@pytest.mark.parametrize(
    ("state", "code"), [("expired", "job_expired"), ("cancelled", "job_cancelled"), ("dead", "job_failed")]
)
def test_each_end_that_is_no_success_has_its_row(state: str, code: str) -> None:
    failure = failure_of(_end(state))
    assert failure is not None
    assert (failure.code, failure.exit_code) == (code, 1)


def test_the_end_as_json_adds_to_the_jobs_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert _finish(_end(result=b"5", took_s=0.5), as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": 1, "id": ID, "state": "succeeded", "took_s": 0.5, "result": 5, "error": None}
