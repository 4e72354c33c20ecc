"""The commands that look, on a terminal, in a pipe and as JSON, at real jobs of a real worker."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.broker import TestBroker
from tests.support.home import Home
from tests.support.world import World, own_vhost

SHORT = "[0-9a-hjkmnp-tv-z]{8}"
AGE = r"\d+[smh]"
MOMENT = r"\w{3} \d\d:\d\d:\d\d\.\d{3}"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, broker: TestBroker) -> Iterator[World]:
    with (
        own_vhost(broker, f"look-{uuid4().hex[:6]}") as url,
        World(tmp_path_factory.mktemp("look"), url).opened() as made,
    ):
        yield made


def documents(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all(each["schema"] == 1 for each in found)
    return found


def as_json(world: World, *args: str, code: int = 0) -> dict[str, Any]:
    done = world.home.run(*args, "--json")
    assert done.returncode == code, done.stderr
    (document,) = documents(done.stdout)
    return document


def matches(pattern: str, text: str) -> bool:
    assert re.fullmatch(pattern, text), text
    return True


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_on_a_terminal(world: World, broker: TestBroker) -> None:
    code, text = world.home.on_terminal("status")
    assert code == 0
    heading, _, titles, first, video, _, workers, *problems = text.splitlines()
    assert heading.startswith("amqp://")
    assert heading.endswith(f"  RabbitMQ {broker.version}")
    assert titles.split() == ["QUEUE", "READY", "RUNNING", "LATER", "DEAD", "OLDEST", "IN/s", "OUT/s"]
    assert first.split()[:5] == ["task_queue", "0", "1", "2", "1"]
    assert video.split()[:5] == ["video", "1", "0", "0", "0"]
    assert workers == "workers 1 of 1 answering, 1 of 2 slots busy"
    assert problems[0] == "! No worker listens on 'video'; 1 job waits.  jobrunner worker -q video"
    assert matches(rf"✗ 1 dead in 1 group, newest {AGE} ago\.  jobrunner dead", problems[1])


def test_status_in_a_pipe_and_as_json(world: World) -> None:
    done = world.home.run("status")
    rows = {row.split("\t")[0]: row.split("\t") for row in done.stdout.splitlines()}
    assert rows["task_queue"][1:5] == ["0", "1", "2", "1"]
    assert rows["video"][1:5] == ["1", "0", "0", "0"]
    assert float(rows["video"][5]) > 0
    assert done.stderr.splitlines()[0].startswith("! No worker listens on 'video'")
    document = as_json(world, "status")
    assert set(document) == {"schema", "broker", "queues", "workers", "problems", "view"}
    assert document["workers"] == {"expected": 1, "answered": 1, "slots": 2, "busy": 1}
    assert [each["code"] for each in document["problems"]] == ["no_worker", "dead"]
    assert {each["name"]: each["ready"] for each in document["queues"]} == {"task_queue": 0, "video": 1}


def test_status_of_one_queue_and_a_check_of_it(world: World) -> None:
    assert world.home.run("status", "--check").returncode == 1
    assert world.home.run("status", "video", "--check", "--quiet").returncode == 1
    done = world.home.run("status", "empty", "--check")  # a name that was mistyped must not look well
    said = "error: There is no queue 'empty'.\nhint:  jobrunner queues list\n"
    assert (done.returncode, done.stdout, done.stderr) == (4, "", said)
    assert world.home.run("ps", "video").stdout.startswith("video\t1\t")


def test_without_sync_the_broker_is_not_asked(world: World) -> None:
    world.home.run("list")
    nobody = {"JOBRUNNER_URL": world.home.environ["JOBRUNNER_URL"]}
    document = json.loads(world.home.run("status", "--no-sync", "--json", environ=nobody).stdout)
    assert (document["broker"]["version"], document["workers"]["answered"]) == (None, None)
    assert world.home.run("list", "--no-sync", "state:dead").stdout.startswith(world.jobs["dead"])


# --- list -----------------------------------------------------------------------------------------------------------


def test_list_on_a_terminal(world: World) -> None:
    code, text = world.home.on_terminal("list")
    assert code == 0
    titles, *rows, last = text.splitlines()
    assert titles.split() == ["ID", "STATE", "TASK", "QUEUE", "AGE", "TOOK", "TRY"]
    by_id = {row[:8]: row for row in rows}
    assert len(by_id) == 7
    assert matches(rf"{SHORT}  ● running    hold\('.*… +task_queue +{AGE} +\S+  1/1", by_id[world.short("running")])
    assert matches(rf"{SHORT}  ○ queued     ffmpeg -i in\.mov.* +video +{AGE} +–  0/1", by_id[world.short("queued")])  # noqa: RUF001
    assert " ✗ dead " in by_id[world.short("dead")]
    assert "  2/2  TimeoutError: read time" in by_id[world.short("dead")]
    assert matches(r".* ↻ retrying .* in \d+m\d\ds", by_id[world.short("retrying")])
    assert matches(r".* ◷ scheduled .* in 59m\d\ds|.* in 1h00m", by_id[world.short("scheduled")])
    assert last == f"7 of 7.  Why is one not running?  jobrunner show {world.jobs['queued'][:4]}"


def test_list_where_the_locale_is_ascii(world: World) -> None:
    world.home.environ["LC_ALL"] = "POSIX"
    world.home.environ["PYTHONUTF8"] = "0"
    world.home.environ["PYTHONCOERCECLOCALE"] = "0"
    try:
        _, text = world.home.on_terminal("list", "state:dead")
    finally:
        world.home.environ["LC_ALL"] = "C.UTF-8"
        del world.home.environ["PYTHONUTF8"], world.home.environ["PYTHONCOERCECLOCALE"]
    assert text.isascii()
    assert " x dead " in text


def test_list_in_a_pipe(world: World) -> None:
    rows = [line.split("\t") for line in world.home.run("list").stdout.splitlines()]
    assert {row[0] for row in rows} == set(world.jobs.values())
    (dead,) = [row for row in rows if row[1] == "dead"]
    assert dead[:4] == [world.jobs["dead"], "dead", "tasks:fail", "task_queue"]
    assert INSTANT.fullmatch(dead[4])
    assert float(dead[5]) >= 0
    assert dead[6:] == ["2/2", "TimeoutError: read timed out"]
    (queued,) = [row for row in rows if row[1] == "queued"]
    assert queued[2] == "ffmpeg -i in.mov out.mp4"
    assert world.home.run("ls", "--quiet", "state:dead").stdout == f"{world.jobs['dead']}\n"


def test_list_as_json_and_page_by_page(world: World) -> None:
    whole = as_json(world, "list")
    assert (whole["total"], whole["next"]) == (7, None)
    (dead,) = [each for each in whole["jobs"] if each["state"] == "dead"]
    assert (dead["task"], dead["args"], dead["kwargs"], dead["label"]) == ("tasks:fail", ["canary"], {}, "mine")
    assert dead["error"]["class"] == "TimeoutError"
    assert INSTANT.fullmatch(dead["created_at"])
    seen: list[str] = []
    cursor: list[str] = []
    while True:
        page = as_json(world, "list", "--limit", "3", *cursor)
        seen += [each["id"] for each in page["jobs"]]
        if page["next"] is None:
            break
        cursor = ["--after", page["next"]]
    assert seen == [each["id"] for each in whole["jobs"]]


def test_list_by_filters(world: World) -> None:
    def found(*words: str) -> set[str]:
        done = world.home.run("list", "--quiet", *words)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())

    jobs = world.jobs
    assert found("state:dead,retrying") == found("state:failed") == {jobs["dead"], jobs["retrying"]}
    assert found("queue:vid*") == {jobs["queued"]}
    assert found("task:fail") == found("error:TimeoutError") == found("args.0:canary") == {jobs["dead"]}
    assert found("tag:sum") == found(jobs["succeeded"][:6]) == {jobs["succeeded"]}
    assert found("state:active", "not:queue:video") == {jobs["running"], jobs["retrying"], jobs["scheduled"]}
    assert found("before:1h") == set()


def test_where_nothing_matches_that_is_said(world: World) -> None:
    def told(*words: str) -> str:
        done = world.home.run("list", *words)
        assert (done.returncode, done.stdout) == (0, "")
        return done.stderr

    assert told("state:expired") == "Nothing has expired.\n"
    assert told("state:cancelled") == "Nothing was cancelled.\n"
    assert told("queue:hihg") == "No job matches queue:hihg. Queues with jobs: task_queue, video\n"
    assert told("state:dead", "tag:sum") == "No job matches state:dead tag:sum.\n"
    done = world.home.run("list", "colour:red")
    assert done.returncode == 2
    assert done.stderr.startswith("error: There is no filter 'colour:'.")


def test_columns_are_those_that_were_asked_for(world: World) -> None:
    done = world.home.run("list", "state:dead", "--columns", "id,worker,label")
    assert done.stdout == f"{world.jobs['dead']}\tw1\tmine\n"


# --- show -----------------------------------------------------------------------------------------------------------


def test_show_says_why_a_queued_job_does_not_run(world: World) -> None:
    code, text = world.home.on_terminal("show", world.jobs["queued"][:6])
    assert code == 0
    head, facts, accepted, why, fix = text.splitlines()
    assert head == f"{world.jobs['queued']}  ○ queued   ffmpeg -i in.mov out.mp4"
    assert matches(r"  queue video · priority 4 · try 0/1 · by \S+@\S+", facts)
    assert matches(rf"  {MOMENT}  accepted by the broker", accepted)
    assert why == ("Why it is not running: no live worker listens on 'video' (1 answered; they take task_queue).")
    assert fix == "  Start one:  jobrunner worker -q video --allow-commands"


def test_show_of_a_dead_job_has_every_attempt_with_its_traceback(world: World) -> None:
    _, text = world.home.on_terminal("show", world.jobs["dead"])
    lines = text.splitlines()
    assert lines[0] == f"{world.jobs['dead']}  ✗ dead   tasks.fail('canary')"
    assert sum("try " in line and "on w1, pid " in line for line in lines) == 2
    assert sum("raise TimeoutError" in line for line in lines) == 2
    assert any(re.search(r"✗ failed for good after \S+: TimeoutError: read timed out$", line) for line in lines)
    assert "Why it is not running" not in text


@pytest.mark.parametrize(
    ("name", "code"), [("queued", "no_worker"), ("scheduled", "due_later"), ("retrying", "retry_later")]
)
def test_why_as_json_has_a_code_a_sentence_and_a_command(world: World, name: str, code: str) -> None:
    document = as_json(world, "show", world.jobs[name], "--why")
    assert document["why"]["code"] == code
    assert document["why"]["fix"].startswith("jobrunner ")
    assert as_json(world, "show", world.jobs[name])["why"]["code"] == code


def test_why_in_a_pipe_is_a_sentence(world: World) -> None:
    done = world.home.run("show", "--why", world.jobs["queued"])
    assert done.stdout == "No live worker listens on 'video' (1 answered; they take task_queue).\n"
    assert done.stderr == "  Start one:  jobrunner worker -q video --allow-commands\n"
    assert world.home.run("show", "--why", world.jobs["running"]).stdout == "It runs.\n"
    assert world.home.run("show", "--why", world.jobs["succeeded"]).stdout == "It has succeeded.\n"


def test_show_as_json_has_the_attempts(world: World) -> None:
    document = as_json(world, "show", world.jobs["dead"])
    assert (document["state"], document["why"]) == ("dead", None)
    assert [each["number"] for each in document["attempts"]] == [1, 2]
    assert [each["outcome"] for each in document["attempts"]] == ["failed", "dead"]
    assert "raise TimeoutError" in document["attempts"][0]["traceback"]
    assert document["attempts"][0]["output_bytes"] == len("about to fail\n")


def test_the_stack_of_a_running_job_shows_where_it_is(world: World) -> None:
    done = world.home.run("show", "--stack", world.jobs["running"])
    assert done.returncode == 0, done.stderr
    assert " in hold" in done.stdout
    assert " in hold" in as_json(world, "show", "--stack", world.jobs["running"])["stack"]
    done = world.home.run("show", "--stack", world.jobs["queued"])
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {world.short('queued')} does not run: it is queued.\n")


def test_an_id_that_is_not_known_or_fits_several_exits_4(world: World) -> None:
    done = world.home.run("show", "zzzz")
    assert done.returncode == 4
    assert matches(
        rf"error: No job starts with 'zzzz'\. Newest: {SHORT} \({AGE} ago\)\. "
        r"The ledger goes back to \d{4}-\d\d-\d\d\.\nhint:  jobrunner list\n",
        done.stderr,
    )
    one, other = ("zzzz" + "0" * 12, "zzzz" + "1" * 12)
    for job_id in (one, other):
        world.home.enqueue("-q", "ambiguous", "--id", job_id, "tasks:text")
    done = world.home.run("show", "zzzz", "--json")
    assert done.returncode == 4
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "ambiguous_id"
    assert matches(rf"'zzzz' fits 2 jobs: zzzz1111 text \({AGE} ago\), zzzz0000 text \({AGE} ago\)\.", error["message"])
    world.home.run("queues", "purge", "ambiguous", "--yes")


# --- result, logs ---------------------------------------------------------------------------------------------------


def test_results_are_json_or_a_commands_output(world: World) -> None:
    home, jobs = world.home, world.jobs
    assert home.run("result", jobs["succeeded"]).stdout == "5\n"
    assert home.run("result", jobs["command"]).stdout == "out\n"
    assert home.on_terminal("result", jobs["succeeded"]) == (0, "5\n")
    assert as_json(world, "result", jobs["succeeded"]) == {
        "schema": 1,
        "id": jobs["succeeded"],
        "state": "succeeded",
        "value": 5,
    }
    done = home.run("result", jobs["dead"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {world.short('dead')} died after 2 tries: TimeoutError: read timed out\n")
    done = home.run("result", jobs["queued"])
    assert done.returncode == 124
    assert done.stderr.startswith(
        f"error: {world.short('queued')} has not ended: it is queued.\nhint:  jobrunner result"
    )
    done = home.run("result", jobs["queued"], "--wait", "0.2s")
    assert done.returncode == 124
    assert done.stderr.startswith(f"error: Still queued after 0 s: {world.short('queued')}. It goes on.\n")


def test_a_text_without_its_quotes(world: World) -> None:
    job_id = world.home.enqueue("tasks:text")
    assert world.home.run("result", job_id, "--wait", "20s").stdout == '"two words"\n'
    assert world.home.run("result", job_id, "--raw").stdout == "two words\n"


def test_logs_in_a_pipe_by_stream_attempt_and_line(world: World) -> None:
    home, jobs = world.home, world.jobs
    assert home.run("logs", jobs["command"], "--stream", "out").stdout == "out\n"
    assert home.run("logs", jobs["command"], "--stream", "err").stdout == "err\n"
    assert sorted(home.run("logs", jobs["command"]).stdout.splitlines()) == ["err", "out"]
    assert home.run("logs", jobs["dead"]).stdout == "about to fail\n" * 2
    assert home.run("logs", jobs["dead"], "-l", "1").stdout == "about to fail\n"
    assert home.run("logs", jobs["dead"], "--attempt", "2").stdout == "about to fail\n"
    assert home.run("logs", jobs["running"]).stdout == "holding\n"
    instant, text = home.run("logs", jobs["dead"], "-t", "-l", "1").stdout.split(" ", 1)
    assert INSTANT.fullmatch(instant)
    assert text == "about to fail\n"
    done = home.run("logs", jobs["queued"])
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"{world.short('queued')} has not started: it is queued.")
    assert home.run("logs", "zzzzzz").returncode == 4


def test_following_what_has_ended_shows_it_and_exits_as_it_did(world: World) -> None:
    code, text = world.home.on_terminal("logs", "-f", world.jobs["dead"])
    assert code == 1
    assert text.splitlines()[:4] == [
        "about to fail",
        "… try 2",
        "about to fail",
        f"error: {world.short('dead')} died after 2 tries: TimeoutError: read timed out",
    ]
    assert world.home.on_terminal("logs", "-f", world.jobs["succeeded"]) == (0, "")


def test_logs_of_several_jobs_name_each(world: World) -> None:
    both = (world.jobs["dead"], world.jobs["running"])
    lines = world.home.run("logs", *both).stdout.splitlines()
    assert lines == [f"{both[0]} about to fail"] * 2 + [f"{both[1]} holding"]
    _, text = world.home.on_terminal("logs", *both)
    assert text.splitlines()[-1] == f"{both[1][:8]} holding"


def test_logs_on_a_terminal_and_as_json(world: World) -> None:
    assert world.home.on_terminal("logs", world.jobs["command"], "--stream", "out") == (0, "out\n")
    code, text = world.home.on_terminal("logs", world.jobs["dead"])
    assert (code, text) == (0, "about to fail\n… try 2\nabout to fail\n")
    found = documents(world.home.run("logs", world.jobs["dead"], "--json").stdout)
    assert [(each["attempt"], each["stream"], each["text"]) for each in found] == [
        (1, "out", "about to fail"),
        (2, "out", "about to fail"),
    ]


# --- wait, events, workers, queues ----------------------------------------------------------------------------------


def test_waiting_for_what_has_ended_says_how(world: World) -> None:
    home, jobs = world.home, world.jobs
    assert matches(rf"{jobs['succeeded']}\tsucceeded\t\d+\.\d{{3}}\t\n", home.run("wait", jobs["succeeded"]).stdout)
    assert matches(rf"{world.short('succeeded')}  ✓ succeeded  \S+\n", home.on_terminal("wait", jobs["succeeded"])[1])
    done = home.run("wait", "-", stdin=f"{jobs['succeeded']}\tx\n{jobs['dead']}\n".encode())
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    code, text = home.on_terminal("wait", jobs["dead"])
    assert code == 1
    assert matches(rf"{world.short('dead')}  ✗ dead  \S+  TimeoutError: read timed out\n", text)
    assert home.run("wait", jobs["dead"], "--for", "dead").returncode == 0
    assert home.run("wait", jobs["running"], "--for", "running").returncode == 0
    assert home.run("wait", jobs["queued"], jobs["succeeded"], "--any").returncode == 0
    document = as_json(world, "wait", jobs["dead"], code=1)
    assert (document["id"], document["state"], document["error"]["class"]) == (jobs["dead"], "dead", "TimeoutError")
    assert home.run("wait", "zzzzzz").returncode == 4


def test_a_wait_that_lasts_too_long_exits_124(world: World) -> None:
    done = world.home.run("wait", world.jobs["queued"], "--timeout", "0.2s")
    assert done.returncode == 124
    assert matches(
        rf"error: Still queued after 0 s: {world.short('queued')}\. It goes on\.\nhint:  jobrunner show --why \w+\n",
        done.stderr,
    )


def test_events_in_a_pipe_on_a_terminal_and_as_json(world: World) -> None:
    job_id = world.jobs["dead"]
    rows = [line.split("\t") for line in world.home.run("events", job_id[:6]).stdout.splitlines()]
    # a quick worker tells of its first try before the command has told that it is queued
    assert sorted(row[1] for row in rows) == ["dead", "queued", "retrying"]
    assert rows[-1][1] == "dead"
    assert all(INSTANT.fullmatch(row[0]) and row[2] == job_id for row in rows)
    found = documents(world.home.run("events", job_id, "--kind", "dead,retrying", "--json").stdout)
    assert [each["kind"] for each in found] == ["retrying", "dead"]
    assert INSTANT.fullmatch(found[1]["ran"]["ended_at"])
    _, text = world.home.on_terminal("events", job_id)
    assert matches(
        rf"\d\d:\d\d:\d\d\.\d{{3}}  dead +{job_id[:8]}  try 2 on w1, \S+: TimeoutError: .*", text.splitlines()[-1]
    )


def test_workers_are_listed(world: World) -> None:
    (row,) = [line.split("\t") for line in world.home.run("workers", "list").stdout.splitlines()]
    assert (row[0], row[3], row[5], row[7]) == ("w1", "2", "task_queue", "idle")
    _, text = world.home.on_terminal("workers", "list")
    titles, shown = text.splitlines()
    assert titles.split() == ["NAME", "HOST", "VERSION", "BUSY", "QUEUES", "SEEN"]
    assert shown.split()[0] == "w1"
    (document,) = as_json(world, "workers", "list")["workers"]
    assert {"name", "host", "version", "slots", "busy", "queues", "seen_at", "state"} <= set(document)


def test_workers_answer(world: World) -> None:
    assert world.home.run("workers", "ping").stdout == "w1\t2\t1\tanswered\n"
    assert world.home.run("workers", "ping", "w1").returncode == 0
    assert world.home.run("workers", "ping", "--self").returncode == 0
    assert world.home.on_terminal("workers", "ping") == (0, "✓ w1  1 of 2 slots busy\n")
    assert as_json(world, "workers", "ping")["workers"][0]["name"] == "w1"
    done = world.home.run("workers", "ping", "w2", "--timeout", "0.3s")
    assert done.returncode == 4
    assert done.stderr == "error: There is no worker 'w2'.\nhint:  Workers: w1\n"


def test_queues_are_listed_with_what_the_ledger_tells(world: World) -> None:
    rows = {row.split("\t")[0]: row.split("\t") for row in world.home.run("queues", "list").stdout.splitlines()}
    assert rows["task_queue"][1:6] == ["0", "2", "1", "2", "1"]
    assert rows["video"][1:6] == ["1", "0", "0", "0", "0"]
    assert rows["jobrunner.v1.dead"][1] == "1"
    _, text = world.home.on_terminal("queues", "list", "video")
    assert text.splitlines()[0].split() == ["QUEUE", "READY", "RUNNING", "LATER", "DEAD", "OLDEST", "CONSUMERS", "TYPE"]
    found = {each["name"]: each for each in as_json(world, "queues", "list")["queues"]}
    assert found["task_queue"]["later"] == 2
    assert found["video"]["oldest_s"] > 0
    assert (found["video"]["type"], found["video"]["policy"]) == ("quorum", None)
    assert rows["video"][7] == "quorum"
    assert as_json(world, "status")["queues"][0]["type"] == "quorum"


# --- what it imports ------------------------------------------------------------------------------------------------

ASK = """
import sys
from jobrunner.cli.app import run
code = run(sys.argv[1:])
sys.stdout.flush()
print(code, "rich" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "args", [["list"], ["status"], ["show"], ["list", "--json"], ["workers", "list"], ["queues", "list"]], ids=" ".join
)
def test_piped_commands_do_not_import_rich(world: World, args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, *args],
        env=world.home.environ,
        cwd=world.home.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "0 False"


def test_completion_knows_the_ids_that_were_seen(world: World) -> None:
    world.home.run("list")
    environ = {"_JOBRUNNER_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    environ["COMP_WORDS"] = f"jobrunner show {world.jobs['dead'][:4]}"
    assert f"plain,{world.short('dead')}" in world.home.run(environ=environ).stdout.splitlines()


def test_where_nothing_ever_happened_there_is_nothing_and_no_error(
    make_vhost: Callable[..., str], tmp_path: Path
) -> None:
    home = Home(tmp_path, url=make_vhost())
    for args, told in (
        (("list",), "There are no jobs.\n"),
        (("status", "--check"), ""),
        (("events",), "No such event in the last 1h.  Further back:  --since 30d\n"),
        (("workers", "list"), ""),
        (("workers", "ping"), "No worker is there to answer.  Start one:  jobrunner worker\n"),
        (("queues", "list"), ""),
    ):
        done = home.run(*args)
        assert (done.returncode, done.stderr) == (0, told), args
    done = home.run("show")
    assert (done.returncode, done.stderr) == (4, "error: No job of yours is known.\nhint:  jobrunner list\n")
    assert home.run("status").stdout.startswith("task_queue\t")
    code, text = home.on_terminal("status")
    assert (code, text.splitlines()[-1]) == (0, "no workers.  Start one:  jobrunner worker")
