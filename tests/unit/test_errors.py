"""The catalogue: each row renders from sample fields, word for word where the sentences were agreed on."""

import re

import pytest

from jobrunner import errors
from jobrunner.errors import JobrunnerError, catalogue

SAMPLES: dict[str, dict[str, object]] = {
    "broker_refused": {"address": "localhost:5672"},
    "broker_unknown_host": {"host": "rabit.prod", "origin": "JOBRUNNER_URL"},
    "broker_timeout": {"address": "10.0.4.7:5672", "timeout": "10 s"},
    "login_refused": {"host": "rabbit.prod", "user": "app"},
    "vhost_missing": {"vhost": "jobs", "host": "rabbit.prod"},
    "vhost_refused": {"user": "app", "vhost": "jobs"},
    "permission": {"user": "app", "verb": "create", "entity": "jobrunner.v1.dead", "vhost": "jobs"},
    "entity_differs": {
        "kind": "queue",
        "name": "jobrunner.v1.dead",
        "difference": "x-queue-type is classic, not quorum",
    },
    "tls": {"reason": "The broker's certificate is for 'rabbit.internal', not 'rabbit.prod'"},
    "broker_blocked": {"alarm": "disk alarm"},
    "unroutable": {"queue": "hihg", "user": "app"},
    "queue_refused": {"queue": "video"},
    "local_broker_missing": {"install": "sudo apt install rabbitmq-server"},
    "local_broker_failed": {"timeout": "60 s", "log_tail": "eaddrinuse"},
    "url_not_amqp": {"url": "http://localhost:15672", "suggestion": "amqp://localhost:5672/%2F"},
    "url_invalid": {"reason": "port 'notaport' is not a number"},
    "message_too_large": {"size": "41.2 MiB", "limit": "1 MiB", "largest": "args[0]: 41.2 MiB"},
    "no_such_command": {"name": "enqueu", "suggestion": " Did you mean 'enqueue'?"},
    "dash_argument": {"argument": "-5", "command": "enqueue"},
    "target_is_path": {"target": "tasks.py:resize", "suggestion": "tasks:resize"},
    "no_such_function": {
        "file": "tasks.py",
        "function": "rezise",
        "suggestion": " Did you mean 'resize'?",
        "functions": "hello, resize",
    },
    "bad_arguments": {
        "problem": "tasks.resize() has no argument 'widht'. Did you mean 'width'?",
        "signature": "resize(path: str, width: int = 1024)",
    },
    "bad_json_argument": {"name": "size", "value": "{w:1}", "position": 2, "fixed": '{"w":1}'},
    "bad_duration": {"value": "5 mins"},
    "time_in_the_past": {"when": "2026-11-20 07:00 +01:00", "ago": "29 h", "suggestion": "tomorrow 07:00"},
    "time_ambiguous": {"when": "2027-10-31 02:30", "zone": "Europe/Berlin", "first": "+02:00", "second": "+01:00"},
    "options_clash": {"problem": "--delay and --at both say when."},
    "run_differs": {"run": "crawl", "made_with": "curl -sf {}"},
    "run_exists": {"run": "crawl"},
    "confirm_needed": {"action": "cancel 340 jobs", "target": "prod (rabbit.prod/jobs)"},
    "config_invalid": {"problem": "jobrunner.toml:14: unknown key 'prcs' in [worker]. Did you mean 'procs'?"},
    "app_import": {"app": "tasks", "reason": "No module named 'PIL' (tasks.py:3)", "python": "/venv/bin/python"},
    "worker_open": {"host": "rabbit.prod"},
    "key_file_open": {"path": "/etc/jr.key", "mode": "0644"},
    "worker_name_taken": {"name": "web3", "pid": 812},
    "dev_remote": {"host": "rabbit.prod"},
    "wait_timeout": {"state": "running", "after": "10 min", "job_id": "p3h8w2ac", "prefix": "p3h8"},
    "job_failed": {
        "job_id": "k7f2m9xq",
        "prefix": "k7f2",
        "tries": "4 tries",
        "error": "TimeoutError: read timed out (tasks.py:31)",
    },
    "workers_silent": {"answered": 4, "expected": 6, "timeout": "2 s", "names": "web3-91c0 (seen 40s ago)"},
    "ambiguous_id": {"word": "k7f2", "count": 2, "jobs": "k7f2m9xq resize (2m ago), k7f2c01b fetch (3d ago)"},
    "not_ended": {"job_id": "k7f2m9xq", "prefix": "k7f2", "state": "running"},
    "cancel_unconfirmed": {"until": "within 10 s", "job_id": "k7f2m9xq"},
    "unconfirmed": {"until": "within 10 s", "job_id": "k7f2m9xq", "full_id": "k7f2m9xq4tzd8w1r"},
    "bug": {"what": "KeyError in map.py:212", "report": "/state/bug-1.txt"},
}

SENTENCES = {
    "broker_refused": "Cannot reach the broker at localhost:5672: connection refused.",
    "broker_unknown_host": "Cannot find the host 'rabit.prod' (from JOBRUNNER_URL).",
    "broker_timeout": "No answer from 10.0.4.7:5672 within 10 s.",
    "login_refused": "RabbitMQ at rabbit.prod refused user 'app': wrong password or unknown user.",
    "guest_remote": "The user 'guest' may only connect from the broker's own machine.",
    "vhost_missing": "There is no virtual host 'jobs' on rabbit.prod.",
    "vhost_refused": "User 'app' has no rights in virtual host 'jobs'.",
    "permission": "User 'app' may not create 'jobrunner.v1.dead' in 'jobs'.",
    "entity_differs": "The queue 'jobrunner.v1.dead' has other settings: x-queue-type is classic, not quorum.",
    "tls": "The broker's certificate is for 'rabbit.internal', not 'rabbit.prod'.",
    "broker_blocked": "RabbitMQ takes no new jobs (disk alarm). Nothing was queued; queued jobs are safe.",
    "unroutable": "There is no queue 'hihg', and user 'app' may not create it. Nothing was queued.",
    "queue_refused": "The broker refused the job: queue 'video' is full or down. Nothing was queued.",
    "local_broker_missing": "No broker can be started here: neither rabbitmq-server nor Docker was found.",
    "local_broker_failed": "RabbitMQ did not start within 60 s. Its log ends: eaddrinuse",
    "url_not_amqp": "'http://localhost:15672' is RabbitMQ's web page, not its AMQP port.",
    "url_invalid": "The broker URL is not valid: port 'notaport' is not a number.",
    "message_too_large": "This job has 41.2 MiB; the limit is 1 MiB. args[0]: 41.2 MiB",
    "no_such_command": "No such command 'enqueu'. Did you mean 'enqueue'?",
    "dash_argument": "'-5' looks like an option, but 'enqueue' has none of that name.",
    "target_is_path": "'tasks.py:resize' is a file. Functions are named by module: tasks:resize",
    "no_such_function": "tasks.py has no function 'rezise'. Did you mean 'resize'?",
    "bad_arguments": "tasks.resize() has no argument 'widht'. Did you mean 'width'? Nothing was queued.",
    "bad_json_argument": "size:= needs JSON: '{w:1}' fails at character 2.",
    "bad_duration": "'5 mins' is not a duration.",
    "time_in_the_past": "2026-11-20 07:00 +01:00 was 29 h ago.",
    "time_ambiguous": "2027-10-31 02:30 happens twice in Europe/Berlin.",
    "options_clash": "--delay and --at both say when.",
    "no_inputs": "'map' has no inputs: nothing is piped in and there is no ':::'.",
    "run_differs": "The run 'crawl' was made with: curl -sf {}",
    "ambiguous_id": "'k7f2' fits 2 jobs: k7f2m9xq resize (2m ago), k7f2c01b fetch (3d ago).",
    "confirm_needed": "This would cancel 340 jobs on prod (rabbit.prod/jobs), and nobody is here to confirm.",
    "config_invalid": "jobrunner.toml:14: unknown key 'prcs' in [worker]. Did you mean 'procs'?",
    "app_import": "Cannot import 'tasks': No module named 'PIL' (tasks.py:3), with /venv/bin/python",
    "worker_open": "Anyone who can publish to rabbit.prod could run any command here.",
    "key_file_open": "The key file /etc/jr.key can be read by others (mode 0644).",
    "worker_name_taken": "A worker named 'web3' already runs (pid 812).",
    "dev_remote": "'dev' runs anything it receives; rabbit.prod is another machine.",
    "wait_timeout": "Still running after 10 min: p3h8w2ac. It goes on.",
    "job_failed": "k7f2m9xq died after 4 tries: TimeoutError: read timed out (tasks.py:31)",
    "workers_silent": "4 of 6 workers answered in 2 s. Silent: web3-91c0 (seen 40s ago)",
    "not_ended": "k7f2m9xq has not ended: it is running.",
    "cancel_unconfirmed": "No confirm within 10 s: k7f2m9xq may be cancelled or not.",
    "unconfirmed": "No confirm within 10 s: k7f2m9xq may be queued or not.",
    "bug": "jobrunner hit a bug (KeyError in map.py:212). Jobs in the broker are safe. Report: /state/bug-1.txt",
}

HINTS = {
    "broker_refused": "jobrunner dev · set JOBRUNNER_URL · in a job: worker --share-broker",
    "broker_timeout": "--connect-timeout 30s",
    "vhost_missing": "rabbitmqctl add_vhost jobs --default-queue-type quorum · '/' is %2F",
    "dash_argument": "--arg=-5 · x:=-5",
    "no_such_function": "It has: hello, resize",
    "bad_arguments": "resize(path: str, width: int = 1024)",
    "bad_json_argument": "size:='{\"w\":1}' · size='{w:1}'",
    "bad_duration": "90s, 5m, 1h30m",
    "time_in_the_past": "--at 'tomorrow 07:00'",
    "time_ambiguous": "add +02:00 (first) or +01:00",
    "guest_remote": "rabbitmqctl add_user app",
    "permission": "an administrator, once: jobrunner queues declare",
    "entity_differs": "jobrunner queues declare --replace jobrunner.v1.dead",
    "queue_refused": "jobrunner status video",
    "local_broker_missing": "sudo apt install rabbitmq-server · set JOBRUNNER_URL",
    "local_broker_failed": "jobrunner broker run",
    "url_not_amqp": "amqp://localhost:5672/%2F",
    "message_too_large": "pass a path or URL",
    "run_differs": "another --run",
    "confirm_needed": "-n · --yes",
    "app_import": "uv run jobrunner worker",
    "worker_open": "--authkey-file · --insecure",
    "key_file_open": "chmod 600 /etc/jr.key",
    "worker_name_taken": "--name",
    "dev_remote": "jobrunner worker",
    "wait_timeout": "jobrunner logs -f p3h8",
    "job_failed": "jobrunner show k7f2",
    "cancel_unconfirmed": "the same command again",
    "unconfirmed": "again with --id k7f2m9xq4tzd8w1r",
}

ROWS = [row for row in catalogue() if row.__module__ == errors.__name__]


def _fields(row: type[JobrunnerError]) -> dict[str, object]:
    names = set(re.findall(r"{(\w+)}", row.text + row.hint_text))
    return {name: f"<{name}>" for name in names} | SAMPLES.get(row.code, {})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_each_row_renders_to_a_sentence_and_a_hint_without_a_brace(row: type[JobrunnerError]) -> None:
    error = row(**_fields(row))
    assert error.message
    assert "{" not in error.message.replace("{w:1}", "").replace("curl -sf {}", "")
    assert str(error) == error.message
    assert "{" not in error.hint.replace('{"w":1}', "").replace("{w:1}", "")


def test_codes_are_unique_and_exit_codes_are_those_of_the_table() -> None:
    codes = [row.code for row in ROWS]
    assert len(codes) == len(set(codes))
    assert {row.exit_code for row in ROWS} <= {1, 2, 3, 4, 5, 70, 124}


@pytest.mark.parametrize(("code", "sentence"), SENTENCES.items())
def test_the_sentences_of_the_catalogue_are_word_for_word(code: str, sentence: str) -> None:
    row = next(row for row in ROWS if row.code == code)
    assert row(**_fields(row)).message == sentence


def test_every_refusal_of_the_broker_has_its_sentence_here() -> None:
    refusals = {row.code for row in ROWS if row.exit_code == errors.BrokerError.exit_code}
    own = {"broker_lost", "queue_not_empty", "local_broker_ended", "local_port_taken"}  # made of the broker's own words
    assert refusals - own <= set(SENTENCES)


@pytest.mark.parametrize(("code", "hint"), HINTS.items())
def test_hints_are_something_to_paste(code: str, hint: str) -> None:
    row = next(row for row in ROWS if row.code == code)
    assert row(**_fields(row)).hint == hint


def test_a_hint_given_by_the_caller_goes_before_that_of_the_row() -> None:
    assert errors.BadDuration(value="x", hint="").hint == ""
    assert errors.BadDuration(value="x", hint="5m").hint == "5m"


def test_a_module_with_an_error_in_it_is_not_said_to_need_another_python() -> None:
    error = errors.AppImport(app="tasks", reason="SyntaxError: invalid syntax (tasks.py:1)", python="/venv/bin/python")
    assert error.hint == "/venv/bin/python -c 'import tasks'"


def test_a_wait_for_a_job_that_does_not_run_says_how_to_learn_why() -> None:
    error = errors.WaitTimeout(state="queued", after="10 min", job_id="p3h8w2ac", prefix="p3h8")
    assert (error.message, error.hint) == (
        "Still queued after 10 min: p3h8w2ac. It goes on.",
        "jobrunner show --why p3h8",
    )
    error = errors.WaitTimeout(after="10 min", job_id="p3h8w2ac", prefix="p3h8")  # nobody knows whether it runs
    assert (error.message, error.hint) == (
        "Still not ended after 10 min: p3h8w2ac. It goes on.",
        "jobrunner show --why p3h8",
    )
