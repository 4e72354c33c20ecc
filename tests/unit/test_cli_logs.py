"""The worker's log: lines for people, for files and for machines."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from jobrunner.cli.banner import dev_banner, worker_banner
from jobrunner.cli.logs import JsonFormatter, TextFormatter, configure
from jobrunner.cli.pretty import PrettyFormatter
from jobrunner.cli.summary import LINES_A_SECOND, SummaryHandler

JOB = {"job_id": "k7f2m9xq4tzd8w1r", "task": "tasks:resize", "attempt": 1, "max_attempts": 4, "slot": 1}
STARTED = {
    "version": "1.0.0",
    "worker": "mbp-7f3a",
    "pid": 4121,
    "procs": 4,
    "broker": "amqp://app@localhost:5672/jobs",
    "server_version": "4.3.1",
    "queues": ["high", "task_queue"],
    "apps": ["tasks"],
    "functions": 12,
    "allow_commands": False,
    "allow_programs": [],
    "allow_import": [],
    "signed": True,
}


class _Stream(io.StringIO):
    encoding = "utf-8"


class _Ascii(io.StringIO):
    encoding = "ascii"


@pytest.fixture(autouse=True)
def _own_logger() -> Iterator[None]:
    logger = logging.getLogger("jobrunner")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def _record(action: str, message: str = "", level: int = logging.INFO, **facts: Any) -> logging.LogRecord:
    record = logging.LogRecord("jobrunner.worker", level, "", 0, message, None, None)
    record.created = 1_795_258_801.25  # 2026-11-21T11:00:01.250Z
    for name, value in ({"action": action} | facts).items():
        setattr(record, name, value)
    return record


def _pretty(record: logging.LogRecord, stream: io.StringIO | None = None) -> str:
    line = PrettyFormatter(stream or _Stream(), "never", worker_banner).format(record)
    return line[9:] if line[2] == ":" else line


def test_a_text_line_has_time_level_action_id_and_facts() -> None:
    line = TextFormatter().format(_record("job.succeeded", "succeeded", took_s=1.9, queue="task_queue", **JOB))
    assert line == (
        "2026-11-21T11:00:01.250Z INFO job.succeeded k7f2m9xq4tzd8w1r "
        "took_s=1.900 queue=task_queue task=tasks:resize attempt=1 max_attempts=4 slot=1"
    )


def test_a_text_line_without_a_job_has_its_sentence() -> None:
    line = TextFormatter().format(_record("broker.back", "connected again after 41 s, 6 tries", after_s=41.0, tries=6))
    assert line.endswith('broker.back after_s=41.000 tries=6 message="connected again after 41 s, 6 tries"')


def test_a_text_line_is_one_line_whatever_a_job_wrote() -> None:
    line = TextFormatter().format(_record("job.dead", "x", error='bad\n"thing"\x1b[31m', job_id="a" * 16))
    assert "\n" not in line
    assert "\x1b" not in line


def test_a_json_line_is_ecs() -> None:
    document = json.loads(JsonFormatter().format(_record("job.dead", "ValueError: x", logging.ERROR, **JOB)))
    assert document["@timestamp"] == "2026-11-21T11:00:01.250Z"
    assert (document["log.level"], document["event.action"], document["message"]) == (
        "error",
        "job.dead",
        "ValueError: x",
    )
    assert document["labels"] == JOB


@pytest.mark.parametrize(
    ("action", "facts", "line"),
    [
        ("job.started", {}, "● k7f2m9xq tasks.resize  [1]"),
        ("job.succeeded", {"took_s": 1.9}, "✓ k7f2m9xq tasks.resize  1.9 s  [1]"),
        (
            "job.retrying",
            {"error": "TimeoutError: read timed out", "due_in_s": 20.0},
            "↻ k7f2m9xq tasks.resize  TimeoutError: read timed out, try 2/4 in 20 s  [1]",
        ),
        ("job.dead", {"error": "ValueError: x"}, "✗ k7f2m9xq tasks.resize  ValueError: x, after try 1/4  [1]"),
        (
            "job.parked",
            {"error": "no f", "due_in_s": 12.8},
            "↻ k7f2m9xq tasks.resize  no f, asked again in 12.8 s  [1]",
        ),
    ],
)
def test_a_line_for_people_has_a_mark_the_job_and_what_happened(action: str, facts: dict[str, Any], line: str) -> None:
    assert _pretty(_record(action, "text", **facts, **JOB)) == line


def test_what_is_handed_back_is_told_as_such() -> None:
    record = _record("job.handed_back", "handed back, not counted as an attempt", **JOB)
    assert _pretty(record) == "⇠ k7f2m9xq handed back, not counted as an attempt"


def test_marks_are_ascii_where_the_locale_is() -> None:
    line = _pretty(_record("job.retrying", "", error="x…", due_in_s=1.0, **JOB), _Ascii())
    assert line.startswith("~ k7f2m9xq")
    assert line.isascii()


def test_sentences_of_the_worker_are_shown_as_they_are() -> None:
    again = "Stopping. 1 job running. Ctrl-C again hands them back now."
    assert _pretty(_record("worker.stopping", "Stopping. 1 job running.", running=1)) == again
    assert _pretty(_record("worker.stopping", "Stopping. 0 jobs running.", running=0)) == "Stopping. 0 jobs running."
    assert _pretty(_record("worker.stopped", "Stopped: 41 done, 1 handed back.")) == "Stopped: 41 done, 1 handed back."
    assert _pretty(_record("broker.lost", "gone", logging.WARNING)) == "! gone"


def test_the_banner_says_who_where_and_what() -> None:
    assert worker_banner(_record("worker.started", **STARTED)) == [
        "jobrunner 1.0.0  worker mbp-7f3a  pid 4121  4 processes",
        "broker  amqp://app@localhost:5672/jobs  RabbitMQ 4.3.1",
        "queues  high, task_queue    runs  12 functions in tasks, no commands    signed  yes",
    ]


@pytest.mark.parametrize(
    ("facts", "runs"),
    [
        ({"apps": [], "allow_import": ["a.b"]}, "functions under a.b, no commands"),
        ({"allow_import": ["*"], "allow_commands": True}, "12 functions in tasks, any function, any command"),
        ({"allow_programs": ["ffmpeg", "convert"]}, "12 functions in tasks, commands ffmpeg, convert"),
        ({"functions": 1}, "1 function in tasks, no commands"),
    ],
)
def test_the_banner_says_what_may_run(facts: dict[str, Any], runs: str) -> None:
    assert f"    runs  {runs}    " in worker_banner(_record("worker.started", **(STARTED | facts)))[2]


def test_the_banner_of_dev_lists_functions_and_a_command_to_try(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.py").write_text("def hello(n): ...\ndef add(a, b): ...\n")
    lines = dev_banner(", keeps running (jobrunner broker stop)", ["tasks"])(_record("worker.started", **STARTED))
    assert lines == [
        "jobrunner dev: for trying things out. Runs any function or command it receives.",
        "broker  amqp://app@localhost:5672/jobs  RabbitMQ 4.3.1, keeps running (jobrunner broker stop)",
        "worker  mbp-7f3a  4 processes  reloads on *.py  tasks.py: hello, add",
        "Try, in another terminal:  jobrunner enqueue tasks:hello you",
    ]


@pytest.mark.parametrize(
    ("source", "example"),
    [
        ("def add(a: int, b: float): ...", "tasks:add 2 3"),
        ("def add(a: int, b: int = 1, *, c: int, d: str = ''): ...", "tasks:add 2 c=3"),
        ("def count(path: str): ...\ndef nothing(): ...", "tasks:nothing"),
        ("def total(numbers: list[int]): ...", "-- echo hello"),
    ],
)
def test_the_command_that_dev_tells_to_try_is_one_that_can_be_typed(
    source: str, example: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.py").write_text(source)
    lines = dev_banner("", ["tasks"])(_record("worker.started", **STARTED))
    assert lines[-1] == f"Try, in another terminal:  jobrunner enqueue {example}"


def test_over_twenty_lines_a_second_the_rest_is_one_summary() -> None:
    stream = _Stream()
    handler = SummaryHandler(stream)
    handler.setFormatter(PrettyFormatter(stream, "never", worker_banner))

    async def burst() -> None:
        for _ in range(LINES_A_SECOND + 30):
            handler.emit(_record("job.succeeded", "", **JOB))
        handler.emit(_record("broker.lost", "gone", logging.WARNING))

    asyncio.run(burst())
    lines = stream.getvalue().splitlines()
    assert len(lines) == LINES_A_SECOND + 2
    assert lines[-2].endswith(" … and 30 succeeded")
    assert lines[-1].endswith("! gone")


def test_the_summary_comes_by_itself_at_the_end_of_a_burst() -> None:
    told = asyncio.Event()

    class Telling(_Stream):
        def write(self, text: str) -> int:
            if "and 1 succeeded" in text:
                told.set()
            return super().write(text)

    handler = SummaryHandler(Telling())

    async def burst() -> None:
        for number in range(LINES_A_SECOND + 1):
            record = _record("job.succeeded", str(number), **JOB)
            record.created += 0.7  # the second is almost over
            handler.emit(record)
        await told.wait()

    asyncio.run(asyncio.wait_for(burst(), 2))
    assert told.is_set()
    handler.close()


def test_the_format_is_text_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure("auto", "info", "auto")
    logging.getLogger("jobrunner.worker").info("hi", extra={"action": "worker.stopped"})
    logging.getLogger("jobrunner.worker").debug("hidden", extra={"action": "worker.stopped"})
    assert capsys.readouterr().err.endswith(" INFO worker.stopped message=hi\n")


def test_every_action_of_the_worker_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    from jobrunner.worker.journal import ACTIONS

    for action in ACTIONS:
        facts = STARTED if action == "worker.started" else JOB
        assert _pretty(_record(action, "said", **facts))
        assert action in TextFormatter().format(_record(action, "said", **facts))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "formatter", [TextFormatter(), JsonFormatter(), PrettyFormatter(_Stream(), "never", worker_banner)]
)
@pytest.mark.parametrize(
    "said",
    [
        "no route to amqps://app:CANARY@rabbit/jobs",
        "401 for {'Authorization': 'Bearer CANARY', 'user': 'me'}",
        "401 for Authorization: token CANARY",
        "no AWS_SECRET_ACCESS_KEY=CANARY and SECRET_KEY: CANARY",
        'bad request: {"api_key": "CANARY"}',
        "https://api/v1?token=CANARY&page=2",
        "DB_PASSWORD=CANARY is wrong",
        "jr-state-sig: CANARY",
    ],
)
def test_what_looks_like_a_secret_in_an_error_is_not_in_the_log(formatter: logging.Formatter, said: str) -> None:
    for action in ("job.dead", "broker.lost"):
        line = formatter.format(_record(action, said, error=said, **JOB))
        assert "CANARY" not in line
        assert "…" in line


def test_what_looks_like_none_stays() -> None:
    said = "tokens: 5 of 7 at http://api:8080/a@b, secretary"
    assert said in TextFormatter().format(_record("worker.bug", said))
