"""What the command imports before it does anything; how it ends when it is stopped. The bench says what it costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import COMMAND
from tests.support.home import Home

ASK = """
import json, sys
from jobrunner.cli.app import run
code = run({args!r})
sys.stdout.flush()
print(json.dumps([code, sorted(set(sys.modules) & set({banned!r}))]), file=sys.stderr)
"""
HEAVY = ["pika", "msgspec", "sqlite3", "rich", "asyncio"]
FILES = ["tomllib", "platformdirs"]
"""What reading the configuration takes."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tasks="def hello(name): ...\n")


def _imported(home: Home, args: list[str], banned: list[str], **environ: str) -> tuple[int, list[str]]:
    """Exit code, and what was imported of `banned`."""
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(args=args, banned=banned)],
        cwd=home.folder,
        env=home.environ | environ,
        capture_output=True,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, modules


@pytest.mark.parametrize(
    ("args", "exit_code"),
    [
        ([], 0),
        (["--help"], 0),
        (["enqueue", "--help"], 0),
        (["worker", "--help"], 0),
        (["dev", "--help"], 0),
        (["broker", "start", "--help"], 0),
        (["queues", "--help"], 0),
        (["status", "--help"], 0),
        (["list", "--help"], 0),
        (["show", "--help"], 0),
        (["logs", "--help"], 0),
        (["wait", "--for", "x"], 2),
        (["--version"], 0),
        (["enqueu"], 2),
        (["enqueue", "tasks:f", "--retires", "3"], 2),
        (["worker", "-z"], 2),
        (["completion", "bash"], 0),
    ],
)
def test_help_wrong_usage_and_completion_import_nothing_heavy(args: list[str], exit_code: int, home: Home) -> None:
    assert _imported(home, args, HEAVY) == (exit_code, [])


@pytest.mark.parametrize("args", [["--help"], ["worker", "--help"], ["enqueue", "tasks:f", "--retires", "3"]])
def test_help_and_wrong_usage_do_not_read_the_configuration(args: list[str], home: Home) -> None:
    assert _imported(home, args, FILES)[1] == []


def test_completing_a_word_imports_nothing_heavy(home: Home) -> None:
    environ = {"_JOBRUNNER_COMPLETE": "bash_complete", "COMP_WORDS": "jobrunner enqueue --re", "COMP_CWORD": "2"}
    assert _imported(home, [], HEAVY, **environ) == (0, [])


def test_enqueue_draws_nothing_and_opens_no_database(home: Home) -> None:
    assert _imported(home, ["enqueue", "-n", "tasks:hello", "you"], ["rich", "sqlite3"]) == (0, [])


def test_a_pipe_that_is_closed_ends_the_command_in_silence(home: Home) -> None:
    line = f"{' '.join(COMMAND)} help errors | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=home.folder, env=home.environ, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_no_broker_is_a_sentence_a_hint_and_exit_code_3(home: Home) -> None:
    done = home.run("enqueue", "tasks:hello", "you", "--url", "amqp://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "error: Cannot reach the broker at 127.0.0.1:1: connection refused.\n"
        "hint:  jobrunner dev · set JOBRUNNER_URL · in a job: worker --share-broker\n"
    )


def test_with_json_the_error_is_a_document(home: Home) -> None:
    done = home.run("queues", "list", "--url", "amqp://127.0.0.1:1", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert json.loads(done.stderr)["error"]["code"] == "broker_refused"


def test_a_failpoint_in_the_environment_does_not_disturb_help(home: Home) -> None:
    assert home.run("--help", environ={"JOBRUNNER_FAILPOINT": "x:raise"}).returncode == 0


def test_a_terminal_gets_the_overview_as_it_is(home: Home) -> None:
    code, text = home.on_terminal()
    assert code == 0
    assert text.startswith("Run jobs on one machine or many, through RabbitMQ.\n\n  jobrunner dev ")
    assert text.endswith("Every command: --help.  Bugs: paste the output of `jobrunner doctor --report`.\n")
