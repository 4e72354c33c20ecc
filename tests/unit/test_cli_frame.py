"""The frame of the command line: what is found, what is refused, how it ends."""

import io
import json
import os
import signal
import sys
from pathlib import Path

import click
import pytest

from jobrunner.cli import app, table
from jobrunner.cli.app import run
from jobrunner.cli.command import Command, command, group, option, pass_shared, tail_of
from jobrunner.cli.selecting import ids_from_stdin
from jobrunner.cli.shared import Shared
from jobrunner.errors import BrokerRefused, BrokerUnknownHost

OVERVIEW = """\
Run jobs on one machine or many, through RabbitMQ.

  jobrunner dev                               try it now: broker + worker
  jobrunner enqueue tasks:resize a.jpg        queue a Python function
  jobrunner enqueue -- ffmpeg -i a.mov a.mp4  queue a command
  ls *.jpg | jobrunner map -- convert {} {.}.webp

Run      enqueue  map  worker
Look     status  list  show  logs  result  wait  events
Fix      retry  cancel  dead  audit
Operate  queues  workers
Set up   dev  broker  init  doctor  key  config  completion

Every command: --help.  Bugs: paste the output of `jobrunner doctor --report`.
"""

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A command `probe` that notes what reached it."""
    seen: dict[str, object] = {}

    @command("probe", takes_tail=True)
    @click.argument("words", nargs=-1)
    @option("--level", type=int, default=1)
    @option("--arg", multiple=True)
    @option("--raises", hidden=True)
    @pass_shared
    @click.pass_context
    def noting(ctx: click.Context, shared: Shared, /, **values: object) -> int:
        seen.update(values, shared=shared, tail=tail_of(ctx))
        if values["words"] == ("tell",):
            sys.stdout.write("a line\n")
        match values["raises"]:
            case "bug":
                raise KeyError("canary-of-a-secret")
            case "refused":
                raise BrokerRefused(address="localhost:5672")
            case "pipe":
                raise BrokenPipeError
            case "ctrl-c":
                raise KeyboardInterrupt("k7f2m9xq goes on.")
            case "term":
                raise app.Terminated
        return 0

    monkeypatch.setitem(table.COMMANDS, "probe", table.Entry("nowhere:probe", "Run", "for tests"))
    load = table.load
    monkeypatch.setattr(table, "load", lambda name: noting if name == "probe" else load(name))
    return seen


def _shared(probe: dict[str, object]) -> Shared:
    shared = probe["shared"]
    assert isinstance(shared, Shared)
    return shared


def test_the_bare_command_shows_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out == OVERVIEW


def test_every_command_of_the_table_loads_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in table.COMMANDS:
        assert run([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"Usage: jobrunner {name}")


def test_every_option_of_every_command_has_help_and_names_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    def commands(name: str, found: click.Command) -> list[tuple[str, click.Command]]:
        if isinstance(found, click.Group):
            return [each for key, child in found.commands.items() for each in commands(f"{name} {key}", child)]
        return [(name, found)]

    for name in table.COMMANDS:
        loaded = table.load(name)
        assert loaded is not None
        for words, found in commands(name, loaded):
            assert isinstance(found, Command)
            assert run([*words.split(), "--help"]) == 0
            text = "".join(capsys.readouterr().out.split())
            for param in found.params:
                if isinstance(param, click.Option) and not param.hidden:
                    assert param.help, (words, param.name)
                    long_name = next(each for each in param.opts if each.startswith("--")).removeprefix("--")
                    assert f"$JOBRUNNER_{words}_{long_name}".upper().replace(" ", "_").replace("-", "_") in text


def test_help_on_a_command_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    run(["queues", "purge", "--help"])
    of_command = capsys.readouterr().out
    run(["help", "queues", "purge"])
    assert capsys.readouterr().out == of_command


def test_help_shows_the_exit_codes_and_every_error(capsys: pytest.CaptureFixture[str]) -> None:
    run(["help", "exit-codes"])
    assert "124  the timeout of a waiting command ran out" in capsys.readouterr().out
    run(["help", "errors"])
    text = capsys.readouterr().out
    assert "broker_refused [3]" in text
    assert "bad_duration [2]" in text


def test_the_version_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from jobrunner import __version__

    assert run(["--version"]) == run(["-V"]) == 0
    assert capsys.readouterr().out == f"jobrunner {__version__}\n" * 2


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["enqueu"], "No such command 'enqueu'. Did you mean 'enqueue'?", "jobrunner --help"),
        (["zzz"], "No such command 'zzz'.", "jobrunner --help"),
        (["queues", "lst"], "No such command 'lst'. Did you mean 'list'?", "jobrunner queues --help"),
        (["help", "wroker"], "No such command 'wroker'. Did you mean 'worker'?", "jobrunner --help"),
        (["worker", "--prcs", "3"], "No such option '--prcs'. Did you mean '--procs'?", "jobrunner worker --help"),
        (["worker", "--foo"], "No such option '--foo'.", "jobrunner worker --help"),
        (["worker", "-z"], "No such option '-z'.", "jobrunner worker --help"),
        (
            ["enqueue", "tasks:f", "-5"],
            "'-5' looks like an option, but 'enqueue' has none of that name.",
            "--arg=-5 · x:=-5",
        ),
        (
            ["enqueue", "tasks:f", "-1.5e3"],
            "'-1.5e3' looks like an option, but 'enqueue' has none of that name.",
            "--arg=-1.5e3 · x:=-1.5e3",
        ),
        (
            ["enqueue", "t:f", "--retires", "3"],
            "No such option '--retires'. Did you mean '--retries'?",
            "jobrunner enqueue --help",
        ),
        (["enqueue", "t:f", "--delay"], "Option '--delay' requires an argument.", "jobrunner enqueue --help"),
        (["enqueue", "t:f", "--delay", "5 mins"], "'5 mins' is not a duration.", "90s, 5m, 1h30m"),
        (
            ["enqueue", "t:f", "--retries", "x"],
            "--retries: 'x' is not a whole number from 0 to 999999.",
            "jobrunner enqueue --help",
        ),
        (
            ["key", "new", "/none/k", "--jobs", "a.* revoked"],
            "--jobs: 'a.* revoked' has blanks.",
            "--jobs 'billing.*,mail.send'",
        ),
        (["key", "check", "/"], "FILE: File '/' is a directory.", "jobrunner key check --help"),
        (["key", "check", "/none"], "/none: No such file or directory.", "jobrunner key new FILE"),
        (["enqueue", "-q", "", "t:f"], "A queue needs a name.", "--queue task_queue"),
        (["map", "-q", "", "t:f", ":::", "1"], "A queue needs a name.", "--queue task_queue"),
        (["dev", "-q", ""], "A queue needs a name.", "--queue task_queue"),
        (
            ["enqueue", "--", ""],
            "No command stands after '--'.",
            "jobrunner enqueue tasks:resize a.jpg · jobrunner enqueue -- COMMAND",
        ),
        (
            ["enqueue", "--shell", ""],
            "There is nothing to enqueue.",
            "jobrunner enqueue tasks:resize a.jpg · jobrunner enqueue -- COMMAND",
        ),
        (
            ["map", "--", ""],
            "No command stands after '--'.",
            "jobrunner map tasks:square ::: 3 5 8 · ls | jobrunner map -- COMMAND",
        ),
        (["queues", "pause", ""], "A queue needs a name.", "jobrunner queues list"),
        (["queues", "list", ""], "A queue needs a name.", "jobrunner queues list"),
        (["status", ""], "A queue needs a name.", "jobrunner queues list"),
        (["list", "--connect-timeout", "0"], "'0' is no time at all.", "90s, 5m, 1h30m"),
        (
            ["list", "--limit", "9" * 20],
            f"--limit: '{'9' * 20}' is not a whole number from 1 to 1000000000.",
            "jobrunner list --help",
        ),
        (
            ["queues", "declare", "--print", "--broker-version", "new"],
            "'new' is not a version of RabbitMQ.",
            "--broker-version 3.13.0",
        ),
        (["worker", "--", "x"], "'worker' takes nothing after '--'.", "jobrunner worker --help"),
        (
            ["completion"],
            "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish.",
            "jobrunner completion --help",
        ),
    ],
)
def test_wrong_usage_is_answered_with_the_nearest_right_one(
    args: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {message}\nhint:  {hint}\n"


def test_an_error_is_a_document_with_json_even_if_the_line_was_not_read_to_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["enqueue", "--retires", "3", "--json"]) == 2
    document = json.loads(capsys.readouterr().err)
    assert document == {
        "schema": 1,
        "error": {
            "code": "no_such_option",
            "message": "No such option '--retires'. Did you mean '--retries'?",
            "hint": "jobrunner enqueue --help",
            "exit": 2,
        },
    }


@pytest.mark.parametrize(
    "args",
    [
        ["--json", "--connect-timeout", "3s", "probe"],
        ["probe", "--json", "--connect-timeout", "3s"],
        ["--json", "probe", "a", "--connect-timeout=3s", "b"],
        ["--connect-timeout", "9s", "probe", "--connect-timeout", "3s", "--json"],
    ],
)
def test_shared_options_may_stand_before_and_after_the_command(args: list[str], probe: dict[str, object]) -> None:
    assert run(args) == 0
    assert (_shared(probe).json, _shared(probe).connect_timeout) == (True, 3.0)


def test_shared_options_come_from_the_environment_too(
    probe: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBRUNNER_QUIET", "1")
    monkeypatch.setenv("JOBRUNNER_CONNECT_TIMEOUT", "7s")
    run(["probe"])
    assert (_shared(probe).quiet, _shared(probe).connect_timeout) == (True, 7.0)
    run(["probe", "--connect-timeout", "2s"])
    assert _shared(probe).connect_timeout == 2.0


def test_the_line_is_cut_at_the_first_double_dash_whatever_follows(probe: dict[str, object]) -> None:
    run(["probe", "a", "--level", "2", "--", "ls", "-x", "--json", "--", "y"])
    assert probe["words"] == ("a",)
    assert probe["level"] == 2
    assert probe["tail"] == ["ls", "-x", "--json", "--", "y"]
    assert not _shared(probe).json


def test_without_a_double_dash_there_is_no_tail(probe: dict[str, object]) -> None:
    run(["probe"])
    assert probe["tail"] is None


def test_a_host_that_is_not_found_names_the_profiles_that_may_have_been_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Shared) -> None:
        raise BrokerUnknownHost(host="rabit.prod", origin="JOBRUNNER_URL")

    monkeypatch.setattr(Shared, "settings", property(fails))
    assert run(["config", "show"]) == 3
    assert capsys.readouterr().err.splitlines()[1] == "hint:  jobrunner config show"
    text = "[profiles.prod]\nurl = 'amqp://app:secret@rabbit.prod:5672/jobs'\n[profiles.dev]\nurl_file = 'u'\n"
    Path("jobrunner.toml").write_text(text)
    assert run(["config", "show"]) == 3
    assert capsys.readouterr().err.splitlines()[1] == "hint:  Profiles: dev, prod (rabbit.prod:5672)"


def test_an_option_comes_from_its_variable_or_the_file(
    probe: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("jobrunner.toml").write_text("[probe]\nlevel = 5\n")
    run(["probe"])
    assert probe["level"] == 5
    monkeypatch.setenv("JOBRUNNER_PROBE_LEVEL", "6")
    run(["probe"])
    assert probe["level"] == 6
    run(["probe", "--level", "7"])
    assert probe["level"] == 7


def test_a_wrong_value_says_which_file_or_variable_it_came_from(
    probe: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobrunner.toml").write_text("\n[probe]\nlevel = 'high'\n")
    assert run(["probe"]) == 2
    assert "error: jobrunner.toml:3: level: 'high' is not a valid integer." in capsys.readouterr().err
    monkeypatch.setenv("JOBRUNNER_PROBE_LEVEL", "low")
    assert run(["probe"]) == 2
    assert "error: JOBRUNNER_PROBE_LEVEL: 'low' is not a valid integer." in capsys.readouterr().err
    assert not probe


def test_help_does_not_read_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    Path("jobrunner.toml").write_text("this is not TOML")
    assert run(["enqueue", "--help"]) == 0
    assert run(["queues", "--retires"]) == 2
    assert "TOML" not in capsys.readouterr().err


def test_an_error_of_ours_ends_with_its_exit_code(probe: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--raises", "refused"]) == 3
    assert capsys.readouterr().err == (
        "error: Cannot reach the broker at localhost:5672: connection refused.\n"
        "hint:  jobrunner dev · set JOBRUNNER_URL · in a job: worker --share-broker\n"
    )
    assert run(["probe", "--raises", "refused", "-v"]) == 3
    assert "Traceback" in capsys.readouterr().err
    assert probe["raises"] == "refused"


@pytest.mark.usefixtures("probe")
def test_a_bug_writes_a_report_without_values_and_exits_70(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--raises", "bug"]) == 70
    err = capsys.readouterr().err
    report = tmp_path / "state/bug-1.txt"
    assert err.startswith("error: jobrunner hit a bug (KeyError in test_cli_frame.py:")
    assert err.endswith(f"). Jobs in the broker are safe. Report: {report}\n")
    text = report.read_text()
    assert "KeyError" in text
    assert "canary" not in text.replace('raise KeyError("canary-of-a-secret")', "")
    assert report.stat().st_mode & 0o777 == 0o600
    assert run(["probe", "--raises", "bug"]) == 70
    assert (tmp_path / "state/bug-2.txt").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("args", [["--version"], ["probe", "tell"]])
@pytest.mark.usefixtures("probe")
def test_a_full_disk_is_told_as_such_and_is_no_bug(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run(args) == 1
    assert capsys.readouterr().err.startswith("error: Not all could be written: No space left on device.\n")
    assert not list(tmp_path.rglob("bug-*"))


def test_a_second_sigterm_that_comes_at_once_does_not_break_off_what_the_first_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = app.OnTerminate()
    with pytest.raises(app.Terminated):
        handler(signal.SIGTERM, None)
    handler(signal.SIGTERM, None)
    monkeypatch.setattr(app, "SAME_S", 0.0)
    with pytest.raises(app.Terminated):
        handler(signal.SIGTERM, None)


@pytest.mark.usefixtures("probe")
def test_ctrl_c_when_nobody_reads_any_more_ends_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert run(["probe", "tell", "--raises", "ctrl-c"]) == 130
    assert capsys.readouterr().err == "k7f2m9xq goes on.\n"


@pytest.mark.usefixtures("probe")
def test_stdin_that_is_no_utf_8_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"k7f2\xff\n"), encoding="utf-8", errors="strict"))
    assert run(["probe"]) == 0
    assert ids_from_stdin(["-"]) == ["k7f2\ufffd"]


def test_a_closed_stream_is_no_bug_and_changes_no_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("stdin", "stdout"):  # as Python has them where it was started with `<&- >&-`
        monkeypatch.setattr(f"sys.{name}", None)
    assert run(["frobnicate"]) == 2
    assert capsys.readouterr().err.startswith("error: No such command 'frobnicate'.\n")
    assert sys.stdin.read() == ""
    sys.stdin.close()
    sys.stdout.close()


@pytest.mark.usefixtures("probe")
def test_ctrl_c_and_sigterm_end_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--raises", "ctrl-c"]) == 130
    assert capsys.readouterr().err == "k7f2m9xq goes on.\n"
    assert run(["probe", "--raises", "term"]) == 143
    assert capsys.readouterr().err == "Ended by SIGTERM.\n"


@pytest.mark.usefixtures("probe")
def test_colour_is_used_only_where_it_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["probe", "--raises", "refused", "--color", "always"])
    assert "\x1b[31m" in capsys.readouterr().err
    monkeypatch.setenv("FORCE_COLOR", "1")
    run(["probe", "--raises", "refused"])
    assert "\x1b[31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    run(["probe", "--raises", "refused"])
    assert "\x1b[" not in capsys.readouterr().err


def test_a_bare_group_shows_its_list(capsys: pytest.CaptureFixture[str]) -> None:
    @group("things")
    def things() -> None:
        """Some things."""

    @things.command("one")
    def one() -> None:
        """The first."""

    with pytest.raises(click.exceptions.Exit) as caught:
        things.make_context("things", [])
    assert caught.value.exit_code == 0
    assert "one" in capsys.readouterr().out
    assert one.name == "one"
