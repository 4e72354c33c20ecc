"""`jobrunner worker` and `dev` up to the start: what may run, and from whom."""

from pathlib import Path
from typing import Any

import pytest

from jobrunner.brokerurl import BrokerUrl
from jobrunner.cli.app import run
from jobrunner.cli.shared import Shared
from jobrunner.cli.worker_settings import settings_of, usable_cpus, warn_of_openness
from jobrunner.errors import BadTarget, BadValue, JobrunnerError, OptionsClash, QueueNameTooLong, WorkerOpen
from jobrunner.worker.settings import WorkerSettings

LOOPBACK, REMOTE = "amqp://app:x@127.0.0.1/jobs", "amqp://app:x@rabbit.prod/jobs"
DEFAULTS: dict[str, Any] = {
    "procs": None,
    "queue": (),
    "app": (),
    "allow_commands": False,
    "allow_command": (),
    "allow_import": (),
    "insecure": False,
    "share_broker": False,
    "grace": 25.0,
    "lost_after": 15.0,
    "burst": False,
    "max_jobs": None,
    "max_memory": None,
    "reload": False,
    "name": None,
    "raw_handler": None,
    "raw_handler_command": None,
}


@pytest.fixture(autouse=True)
def _tasks(alone: Path) -> None:
    (alone / "tasks.py").write_text("")


def _settings(url: str = LOOPBACK, **options: Any) -> WorkerSettings:
    return settings_of(Shared(url=url), DEFAULTS | options)


def test_the_defaults_are_one_queue_every_cpu_and_the_tasks_of_this_folder() -> None:
    settings = _settings()
    assert (settings.queues, settings.procs, settings.apps) == (("task_queue",), usable_cpus(), ("tasks",))
    assert (settings.allow_commands, settings.allow_import) == (False, ())
    assert len(settings.name.rpartition("-")[2]) == 4


def test_a_package_of_tasks_counts_and_an_empty_folder_does_not() -> None:
    Path("tasks.py").unlink()
    Path("tasks").mkdir()
    with pytest.raises(BadValue, match="would run nothing"):
        _settings()
    Path("tasks/__init__.py").touch()
    assert _settings().apps == ("tasks",)


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("commands", [False, True])
@pytest.mark.parametrize("url", [LOOPBACK, REMOTE])
def test_only_commands_from_another_machine_are_refused(url: str, commands: bool, insecure: bool) -> None:
    if url == REMOTE and commands and not insecure:
        with pytest.raises(WorkerOpen) as caught:
            _settings(url, allow_commands=commands, insecure=insecure)
        assert caught.value.message == "Anyone who can publish to rabbit.prod could run any command here."
        assert caught.value.hint == "--authkey-file · --insecure"
        return
    assert _settings(url, allow_commands=commands, insecure=insecure).allow_commands is commands


def test_a_list_of_programs_is_narrow_and_what_is_no_program_is_refused() -> None:
    settings = _settings(REMOTE, allow_command=("ffmpeg", "/opt/bin/convert", "ffmpeg"))
    assert (settings.allow_commands, settings.allow_programs) == (False, ("ffmpeg", "/opt/bin/convert"))
    for wrong in ("", "./run.sh", "bin/run", "rm -rf", "-q", "..", "wc\n"):
        with pytest.raises(BadValue, match="neither the name of a program nor its whole path"):
            _settings(allow_command=(wrong,))
    with pytest.raises(OptionsClash, match="allows every command"):
        _settings(allow_command=("ffmpeg",), allow_commands=True)
    Path("tasks.py").unlink()
    assert _settings(allow_command=("ffmpeg",)).apps == ()


@pytest.mark.parametrize("program", ["sh", "/bin/sh", "/usr/bin/bash", "env", "xargs", "python3.11", "/usr/bin/perl"])
def test_a_list_with_what_runs_anything_is_as_open_as_all_commands(program: str) -> None:
    with pytest.raises(WorkerOpen):
        _settings(REMOTE, allow_command=("wc", program))
    assert _settings(REMOTE, allow_command=(program,), insecure=True).allow_programs == (program,)
    assert _settings(allow_command=(program,)).allow_programs == (program,)


def test_a_broker_of_ones_own_runs_everything_unless_a_list_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BrokerUrl, "is_local_broker", True)
    open_one = _settings()
    assert (open_one.allow_commands, open_one.allow_programs, open_one.allow_import) == (True, (), ("*",))
    for listed in ({"allow_command": ("wc",)}, {"allow_import": ("billing",)}):
        narrow = _settings(**listed)
        assert narrow.allow_commands is False
        assert (narrow.allow_programs, narrow.allow_import) == (
            listed.get("allow_command", ()),
            listed.get("allow_import", ()),
        )


def test_programs_may_come_from_the_file_and_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobrunner.toml").write_text('[worker]\nallow_command = ["wc", "a b"]\n')
    assert run(["worker", "--url", REMOTE]) == 2
    assert "'a b' is neither" in capsys.readouterr().err
    Path("jobrunner.toml").unlink()
    monkeypatch.setenv("JOBRUNNER_WORKER_ALLOW_COMMAND", "wc sh")
    assert run(["worker", "--url", REMOTE]) == 2
    assert "could run any command here" in capsys.readouterr().err


def test_with_a_key_commands_from_another_machine_are_fine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBRUNNER_AUTHKEY", "A" * 43)
    settings = _settings("amqps://rabbit.prod/jobs", allow_commands=True)
    assert settings.allow_commands
    warn_of_openness(Shared(), settings)
    assert capsys.readouterr().err == ""
    with pytest.raises(OptionsClash, match="not signed"):
        _settings("amqps://rabbit.prod/jobs", raw_handler="tasks:f")


def test_a_broker_elsewhere_is_warned_of_and_one_here_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_openness(Shared(), _settings("amqp://rabbit.prod/jobs"))
    assert capsys.readouterr().err == (
        "! Jobs from rabbit.prod are not signed: whoever can publish there chooses which of its functions run.\n"
        "! Passwords and jobs cross the network to rabbit.prod in the clear. amqps:// encrypts.\n"
    )
    warn_of_openness(Shared(), _settings("amqps://rabbit.prod/jobs", allow_commands=True, insecure=True))
    assert len(capsys.readouterr().err.splitlines()) == 1
    warn_of_openness(Shared(), _settings("amqps://rabbit.prod/jobs", allow_command=("wc",)))
    assert capsys.readouterr().err.endswith("chooses which of its functions and programs run.\n")
    warn_of_openness(Shared(), _settings("amqp://127.0.0.1"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"allow_import": ("os",)}, BadValue),
        ({"allow_import": ("os.path",)}, BadValue),
        *[
            ({"allow_import": (prefix,)}, BadValue)
            for prefix in (
                "*",
                "..",
                "../x",
                ".tasks",
                "tasks.",
                "t\u0430sks",
                "\uff54asks",
                "a/b",
                "tasks:f",
                "tasks\n",
            )
        ],
        *[
            ({"allow_import": (prefix,)}, BadValue)
            for prefix in ("builtins", "__main__", "jobrunner", "jobrunner.execution")
        ],
        ({"allow_import": ("",)}, BadValue),
        ({"app": ("tasks.py",)}, BadValue),
        ({"app": ("a/b",)}, BadValue),
        ({"raw_handler": "t:f", "raw_handler_command": "wc"}, OptionsClash),
        ({"raw_handler": "wc"}, BadTarget),
        ({"raw_handler_command": ""}, BadValue),
        ({"raw_handler_command": "wc '"}, BadValue),
        ({"queue": ("x" * 300,)}, QueueNameTooLong),
        ({"queue": ("amq.x",)}, BadValue),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_start(options: dict[str, Any], error: type[JobrunnerError]) -> None:
    with pytest.raises(error):
        _settings(**options)


def test_a_raw_handlers_module_is_imported_too() -> None:
    settings = _settings(raw_handler="other.handle", app=("tasks",))
    assert (settings.raw_handler, settings.apps) == ("other:handle", ("tasks", "other"))
    assert _settings(raw_handler_command="wc -c").raw_handler_command == ("wc", "-c")


def test_queues_keep_their_order_and_count_once() -> None:
    assert _settings(queue=("high", "low", "high")).queues == ("high", "low")


def test_dev_refuses_a_broker_on_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dev", "--url", "amqp://rabbit.prod"]) == 2
    assert capsys.readouterr().err == (
        "error: 'dev' runs anything it receives; rabbit.prod is another machine.\nhint:  jobrunner worker\n"
    )


def test_a_password_on_the_command_line_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["worker", "--url", REMOTE, "--allow-commands"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("! The password in --url can be read by others with ps.")
    assert ":x@" not in err
