"""`doctor`, `init` and what they never show, as a person runs them."""

from collections.abc import Callable
from pathlib import Path

from tests.support.broker import TestBroker
from tests.support.command import Commands


def test_a_project_made_by_init_is_well(cli: Commands) -> None:
    cli.run("init")
    cli.run("doctor", "--fix")
    rows = [line.split("\t") for line in cli.run("doctor").stdout.splitlines()]
    assert [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    found = {row[1]: row for row in rows}
    assert found["tasks"][2:4] == ["ok", "2 functions in tasks: tasks:add, tasks:hello"]
    assert {row[2] for row in rows} <= {"ok", "warning", "unknown"}
    document = cli.json("doctor")
    assert (document["schema"], document["problems"]) == (1, 0)
    assert set(document["checks"][0]) == {"number", "name", "level", "text", "fix"}


def test_a_module_that_cannot_be_imported_is_named(cli: Commands) -> None:
    (cli.folder / "broken.py").write_text("import no_such_module\n")
    done = cli.run("doctor", "--app", "broken", code=1)
    (row,) = [line.split("\t") for line in done.stdout.splitlines() if line.split("\t")[1] == "tasks"]
    assert row[2] == "error"
    assert "Cannot import 'broken': No module named 'no_such_module' (broken.py:1)" in row[3]
    assert "problem" in done.stderr


def test_without_a_broker_it_says_where_it_looked(make_commands: Callable[..., Commands]) -> None:
    commands = make_commands(JOBRUNNER_URL="amqp://127.0.0.1:1/x")
    found = {check["name"]: check for check in commands.json("doctor", code=1)["checks"]}
    assert found["port"]["text"] == "Cannot reach the broker at 127.0.0.1:1: connection refused."
    assert found["port"]["code"] == "broker_refused"
    commands = make_commands(JOBRUNNER_URL="http://127.0.0.1:15672")
    found = {check["name"]: check for check in commands.json("doctor", code=1)["checks"]}
    assert found["config"]["level"] == "error"
    assert found["package"]["level"] == "ok"


def test_no_password_is_in_a_report_or_in_what_is_configured(
    make_commands: Callable[..., Commands], broker: TestBroker, tmp_path: Path
) -> None:
    secrets = ("canary-url", "canary-management", "canary-key", broker.parsed.password)
    for url in (broker.url, f"amqp://app:canary-url@127.0.0.1:{broker.port}/x", "amqp://app:canary-url@127.0.0.1:1/x"):
        commands = make_commands(
            JOBRUNNER_URL=url,
            JOBRUNNER_DOCTOR_MANAGEMENT="http://app:canary-management@127.0.0.1:1",
            JOBRUNNER_AUTHKEY="canary-key",
        )
        written = ""
        for words in (["doctor", "--report"], ["--json", "doctor", "--report"], ["config", "show", "--origin"]):
            done = commands.run(*words, code=None)
            written += done.stdout + done.stderr
        assert "JOBRUNNER_URL" in written  # the name of a variable may be told
        assert not [secret for secret in secrets if secret in written]
    assert tmp_path.exists()


def test_a_password_that_is_typed_is_warned_of(make_commands: Callable[..., Commands]) -> None:
    commands = make_commands()
    typed = commands.run("--url", "amqp://app:secret@127.0.0.1:1/x", "doctor", code=1).stderr
    assert "The password in --url can be read by others with ps." in typed
    typed = commands.run("doctor", "--management", "http://a:b@127.0.0.1:1", code=None).stderr
    assert "The password in --management can be read by others with ps." in typed
