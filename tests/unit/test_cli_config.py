"""`jobrunner config`, `completion`, and `queues declare --print`: what needs no broker."""

import json
from pathlib import Path

import pytest

from jobrunner.cli.app import run

pytestmark = pytest.mark.usefixtures("alone")


def test_show_names_each_value_and_its_origin_and_never_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("jobrunner.toml").write_text(
        'url = "amqp://app:canary@rabbit.prod/jobs"\n[worker]\nprocs = 8\nqueue = ["a", "b"]\n[broker]\nport = 5999\n'
    )
    monkeypatch.setenv("JOBRUNNER_WORKER_PROCS", "3")
    assert run(["config", "show", "--origin"]) == 0
    text = capsys.readouterr().out
    assert text == (
        "url\tamqp://app@rabbit.prod:5672/jobs\tjobrunner.toml:1\n"
        "connect_timeout\t10 s\tdefault\n"
        "worker.queue\ta, b\tjobrunner.toml:4\n"
        "worker.procs\t3\tJOBRUNNER_WORKER_PROCS\n"
        "broker.port\t5999\tjobrunner.toml:6\n"
    )
    assert run(["config", "show", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["connect_timeout"] == {"value": "10 s", "origin": "default"}
    assert "canary" not in str(document)


def test_path_lists_the_files_and_the_users_even_if_it_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Path("jobrunner.toml").touch()
    assert run(["config", "path"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "jobrunner.toml"),
        str(tmp_path / "home/.config/jobrunner/config.toml"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[worker]\nprcs = 3\n", "jobrunner.toml:2: unknown key 'prcs' in [worker]. Did you mean 'procs'?"),
        ("[worker]\ngrace = 'soon'\n", "jobrunner.toml:2: grace: 'soon' is not a duration."),
        ("[enqueue]\nretries = -1\n", "jobrunner.toml:2: retries: '-1' is not a whole number from 0 to 999999."),
        ("[broker]\nengine = 'x'\n", "jobrunner.toml:2: engine: 'x' is not one of 'auto', 'rabbitmq', 'docker'."),
        ("url = 'http://localhost:15672'\n", "'http://localhost:15672' is RabbitMQ's web page, not its AMQP port."),
    ],
)
def test_check_finds_what_is_wrong_in_any_table(text: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("jobrunner.toml").write_text(text)
    assert run(["config", "check"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: {problem}"


def test_check_is_content_with_a_right_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("jobrunner.toml").write_text(
        '[worker]\nprocs = 3\ngrace = "1m"\nqueue = ["a"]\nburst = true\n[dev]\nport = 1\n'
    )
    assert run(["config", "check"]) == 0
    assert capsys.readouterr().out == "ok\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_and_installs_a_script(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZDOTDIR", raising=False)
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_JOBRUNNER_COMPLETE={shell}_complete" in script
    assert run(["completion", shell, "--install", "--quiet"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_text() == script


def test_a_shell_is_answered_with_commands_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def complete(words: str) -> list[str]:
        monkeypatch.setenv("_JOBRUNNER_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        run([])
        return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]

    assert complete("jobrunner en") == ["enqueue"]
    assert complete("jobrunner queues pu") == ["purge"]
    assert "--max-memory" in complete("jobrunner worker --max")
    assert complete("jobrunner worker --log-format j") == ["json"]


def test_declare_prints_a_definitions_file_without_a_broker(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["queues", "declare", "--print", "emails", "--url", "amqp://nowhere.invalid/jobs"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "emails" in {queue["name"] for queue in document["queues"]}
    assert {queue["vhost"] for queue in document["queues"]} == {"jobs"}


def test_with_users_it_holds_their_rights_and_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["queues", "declare", "--print", "--users", "emails", "--url", "amqp://nowhere.invalid/jobs"]
    assert run(words) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert {user["password_hash"] for user in document["users"]} == {""}
    assert "change_password" in captured.err
    (worker,) = [row for row in document["permissions"] if row["user"] == "jr_worker"]
    assert worker["vhost"] == "jobs"
    assert "|emails|" in worker["read"]
    assert run(["queues", "declare", "--users"]) == 2
    assert "--users goes with --print." in capsys.readouterr().err


def test_a_password_in_the_url_of_an_option_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("jobrunner.toml").write_text('[doctor]\nmanagement = "http://app:first-secret@rabbit:15672"\n')
    assert run(["config", "show"]) == 0
    assert "doctor.management\thttp://app:…@rabbit:15672" in capsys.readouterr().out
    monkeypatch.setenv("JOBRUNNER_DOCTOR_MANAGEMENT", "http://app:second:s@cret@rabbit:15672")
    assert run(["--json", "config", "show"]) == 0
    assert "cret" not in capsys.readouterr().out
