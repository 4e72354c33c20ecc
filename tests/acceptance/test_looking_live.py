"""Commands that look at what goes on: live output, waiting, watching, following, also while the broker restarts."""

import json
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.broker import TestBroker
from tests.support.command import COMMAND
from tests.support.eventually import eventually
from tests.support.home import Home
from tests.support.world import TASKS

LIMIT_S = 90.0


@pytest.fixture
def home(tmp_path: Path, broker: TestBroker) -> Home:
    return Home(tmp_path, url=broker.url, tasks=TASKS)


@contextmanager
def running(home: Home, *args: str) -> Iterator["subprocess.Popen[str]"]:
    """A command whose output is read while it goes on."""
    process = subprocess.Popen(
        [*COMMAND, *args],
        cwd=home.folder,
        env=home.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_of(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Its lines as they come."""
    assert process.stdout is not None
    yield from iter(process.stdout.readline, "")  # not the file itself: a generator that ends would close it


def test_a_line_is_shown_within_a_fifth_of_a_second_each_once_and_the_end_is_the_jobs(
    home: Home, queue_name: str
) -> None:
    with home.worker("-q", queue_name):
        medians: list[float] = []
        while len(medians) < 3:  # a machine that is busy with something else may be late, not each time
            delays = _seconds_until_shown(home, home.enqueue("-q", queue_name, "tasks:chat", "30", "0.15"))
            medians.append(statistics.median(delays[-15:]))  # the first ones were written before it looked
            if medians[-1] < 0.2:
                break
        assert medians[-1] < 0.2, medians


def _seconds_until_shown(home: Home, job_id: str) -> list[float]:
    """Of each line, after it was written."""
    delays, numbers = [], []
    with running(home, "logs", "-f", job_id) as following:
        for line in lines_of(following):
            number, written_at = line.split()
            numbers.append(int(number))
            delays.append(time.time() - float(written_at))
        assert following.wait(LIMIT_S) == 0
    assert numbers == list(range(30))
    return delays


def test_following_may_begin_before_the_job_does(home: Home, queue_name: str) -> None:
    job_id = home.enqueue("-q", queue_name, "tasks:fail", "x")
    with running(home, "logs", "-f", job_id[:8]) as following, home.worker("-q", queue_name):
        out, err = following.communicate(timeout=LIMIT_S)
    assert (following.returncode, out) == (1, "about to fail\n" * 2)
    assert err.startswith(f"error: {job_id[:8]} died after 2 tries: TimeoutError: read timed out\n")


def test_following_several_ends_with_the_last(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name):
        ids = [home.enqueue("-q", queue_name, "--tag", queue_name, "tasks:chat", "3", "0.2") for _ in range(2)]
        done = home.run("logs", "-f", f"tag:{queue_name}", "--json")
    assert done.returncode == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for job_id in ids:
        assert [each["text"].split()[0] for each in found if each["id"] == job_id] == ["0", "1", "2"]


def test_what_is_beyond_the_kept_part_is_seen_by_those_who_follow(home: Home, queue_name: str) -> None:
    wait = f"until [ -e {home.folder}/gate-$i ]; do sleep 0.02; done"
    script = f"head -c 80000 /dev/zero | tr '\\0' x; echo; for i in 1 2 3; do {wait}; echo late $i; done"
    with home.worker("-q", queue_name, "--allow-commands"):
        job_id = home.enqueue("-q", queue_name, "--", "sh", "-c", script)
        with running(home, "logs", "-f", job_id) as following:
            lines = lines_of(following)
            assert next(lines) == "x" * 80_000 + "\n"
            for number in (1, 2, 3):  # as they are written, not at the end
                (home.folder / f"gate-{number}").touch()
                assert next(lines) == f"late {number}\n"
            assert following.wait(LIMIT_S) == 0


def _is(home: Home, job_id: str, state: str) -> None:
    assert home.state_of(job_id) == state


def test_a_job_that_is_killed_while_it_prints_shows_its_last_lines(home: Home, queue_name: str) -> None:
    script = "seq 1 200000; echo the last line; kill -9 $$"
    with home.worker("-q", queue_name, "--allow-commands"):
        job_id = home.enqueue("-q", queue_name, "--retries", "0", "--timeout", "60s", "--", "sh", "-c", script)
        home.run("wait", job_id, "--timeout", "60s")
        text = home.run("logs", job_id, "--attempt", "1").stdout
    assert text.startswith("1\n2\n3\n")
    assert text.endswith("\n200000\nthe last line\n")
    assert re.search(r"\n… \d+\.\d (kB|MB) not kept …\n", text)


@pytest.fixture
def viewer(home: Home, broker: TestBroker) -> Iterator[Home]:
    """The same folder as a user who may read the ledger and nothing else."""
    name = f"viewer-{uuid4().hex[:6]}"
    broker.ctl("add_user", name, "secret")
    broker.ctl("set_permissions", "-p", broker.parsed.vhost, name, "^$", "^$", r"^jobrunner\.v1\.(ledger|cancels)$")
    folder = home.folder / "viewer"
    folder.mkdir()
    yield Home(folder, url=f"amqp://{name}:secret@{broker.parsed.address}/{broker.parsed.vhost}")
    broker.ctl("delete_user", name)


def test_who_may_only_read_the_ledger_can_look_and_follow(home: Home, viewer: Home, queue_name: str) -> None:
    gate = home.folder / "gate"
    with home.worker("-q", queue_name):
        job_id = home.enqueue("-q", queue_name, "tasks:hold", str(gate))
        eventually(lambda: _is(home, job_id, "running"), interval_s=0.1)
        assert viewer.run("list", "--quiet", f"queue:{queue_name}").stdout == f"{job_id}\n"
        assert viewer.run("show", job_id).returncode == 0
        assert viewer.run("status", queue_name).returncode == 0
        with running(viewer, "logs", "-f", job_id) as following:
            assert next(lines_of(following)) == "holding\n"
            gate.touch()
            assert list(lines_of(following)) == ["let go\n"]
            assert following.wait(LIMIT_S) == 0


def test_stopping_to_follow_leaves_the_job_alone(home: Home, queue_name: str) -> None:
    gate = home.folder / "gate"
    with home.worker("-q", queue_name):
        job_id = home.enqueue("-q", queue_name, "tasks:hold", str(gate))
        with running(home, "logs", "-f", job_id) as following:
            assert next(lines_of(following)) == "holding\n"
            following.send_signal(signal.SIGINT)
            assert following.wait(LIMIT_S) == 130
            assert following.stderr is not None
            assert following.stderr.read() == f"{job_id[:8]} goes on.\n"
        gate.touch()
        assert home.run("wait", job_id).returncode == 0


def test_enqueue_and_follow(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name, "--allow-commands"):
        enqueue = ("enqueue", "-q", queue_name, "--retries", "0", "--follow")
        done = home.run(*enqueue, "--exit-code", "--", "sh", "-c", "echo out; echo err >&2; sleep 0.4; exit 7")
        assert (done.returncode, done.stdout) == (7, "out\n")
        assert re.fullmatch(r"err\nerror: \w{8} died after 1 try: err\nhint:  jobrunner show \w{4}\n", done.stderr)
        done = home.run(*enqueue, "--wait", "tasks:hold", str(home.folder))
        assert (done.returncode, done.stdout) == (0, 'holding\nlet go\n"held"\n')
        done = home.run(*enqueue, "--json", "tasks:hold", str(home.folder))
        first, *_, last = [json.loads(line) for line in done.stdout.splitlines()]
        assert (first["text"], first["stream"]) == ("holding", "out")
        assert (last["state"], last["result"]) == ("succeeded", "held")


def _has_consumers(home: Home, queue: str) -> None:
    assert json.loads(home.run("queues", "list", queue, "--json").stdout)["queues"][0]["consumers"] > 0


def test_on_a_terminal_enqueue_says_how_to_follow(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name):
        eventually(lambda: _has_consumers(home, queue_name), interval_s=0.1)
        _, text = home.on_terminal("enqueue", "-q", queue_name, "tasks:add", "1", "2")
    first, follow = text.splitlines()
    assert follow == f"  Follow it:  jobrunner logs -f {first.split()[1][:4]}"


def test_waiting_is_over_when_the_last_has_ended(home: Home, queue_name: str) -> None:
    gate = home.folder / "gate"
    ids = [home.enqueue("-q", queue_name, "--tag", queue_name, "tasks:hold", str(gate)) for _ in range(3)]
    with running(home, "wait", f"tag:{queue_name}") as waiting, home.worker("-q", queue_name):
        eventually(lambda: _is(home, ids[0], "running"), interval_s=0.1)
        assert waiting.poll() is None
        assert home.run("wait", f"tag:{queue_name}", "--for", "running", "--any", "--timeout", "60s").returncode == 0
        gate.touch()
        out, _ = waiting.communicate(timeout=LIMIT_S)
    assert waiting.returncode == 0
    assert {line.split("\t")[0] for line in out.splitlines()} == set(ids)


def test_watching_and_following_survive_a_restart_of_the_broker(tmp_path: Path, own_broker: TestBroker) -> None:
    home = Home(tmp_path, url=own_broker.url, tasks=TASKS)
    gate = home.folder / "gate"
    with home.worker():
        job_id = home.enqueue("tasks:hold", str(gate))
        eventually(lambda: _is(home, job_id, "running"), interval_s=0.1)
        (home.folder / "elsewhere").mkdir()
        elsewhere = Home(home.folder / "elsewhere", url=own_broker.url)
        with (
            running(elsewhere, "wait", job_id) as waiting,
            running(home, "enqueue", "tasks:hold", str(gate), "--tag", "other", "--wait") as enqueueing,
            running(home, "logs", "-f", job_id) as following,
            running(home, "events", "--follow", "--since", "1h", "--kind", "started,succeeded") as events,
        ):
            assert next(lines_of(following)) == "holding\n"
            assert _next_of(job_id, events) == "started"
            eventually(lambda: _has_looked(elsewhere), LIMIT_S)
            eventually(lambda: _runs(home, "tag:other"), LIMIT_S, interval_s=0.1)
            own_broker.restart()
            gate.touch()
            out, err = waiting.communicate(timeout=LIMIT_S)
            assert (waiting.returncode, out.split("\t")[:2]) == (0, [job_id, "succeeded"]), err
            assert following.wait(LIMIT_S) == 0
            assert list(lines_of(following)) == ["let go\n"]
            out, err = enqueueing.communicate(timeout=LIMIT_S)
            assert (enqueueing.returncode, out) == (0, '"held"\n'), err
            assert _next_of(job_id, events) == "succeeded"


def _runs(home: Home, word: str) -> None:
    assert "\trunning\t" in home.run("list", word).stdout


def _next_of(job_id: str, events: "subprocess.Popen[str]") -> str:
    """The kind of the next event of this job."""
    return next(line.split("\t")[1] for line in lines_of(events) if line.split("\t")[2] == job_id)


def _has_looked(home: Home) -> None:
    """Its first command has read the ledger, and goes on."""
    assert (home.folder / "state" / "completion.tsv").exists()


def test_status_and_list_are_drawn_again_and_again(home: Home, queue_name: str) -> None:
    with running(home, "list", f"queue:{queue_name}", "--json", "-w", "0.2s") as watching:
        frames = lines_of(watching)
        assert json.loads(next(frames))["jobs"] == []
        job_id = home.enqueue("-q", queue_name, "tasks:text")
        assert any(job["id"] == job_id for frame in frames for job in json.loads(frame)["jobs"])
    with running(home, "status", queue_name, "--watch", "0.2s", "--json") as watching:
        shown = [json.loads(frame) for frame, _ in zip(lines_of(watching), range(2), strict=False)]
        assert [frame["queues"][0]["ready"] for frame in shown] == [1, 1]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(LIMIT_S) == 130


def test_on_a_terminal_what_is_watched_is_drawn_on_an_empty_screen_until_ctrl_c(home: Home, queue_name: str) -> None:
    home.enqueue("-q", queue_name, "tasks:text")
    for command, title in (("status", "QUEUE "), ("list", "ID ")):
        filters = (queue_name,) if command == "status" else (f"queue:{queue_name}",)
        code, text = home.on_terminal(
            command, *filters, "--watch", "0.2s", until=lambda text, title=title: text.count(title) >= 3
        )
        assert code == 130
        frames = text.split("\x1b[H\x1b[2J\x1b[3J")[1:]
        assert len(frames) >= 3
        # Ctrl-C may come while the last one is drawn
        assert all(title in frame and queue_name[:20] in frame for frame in frames[:2]), text


def test_on_a_terminal_enqueue_and_follow_shows_output_and_end(home: Home, queue_name: str) -> None:
    gate = home.folder / "gate"
    with home.worker("-q", queue_name):
        eventually(lambda: _has_consumers(home, queue_name), interval_s=0.1)
        follow = ("enqueue", "-q", queue_name, "tasks:hold", str(gate), "-f")

        def opens(text: str) -> bool:
            if "holding\n" in text:
                gate.touch()
            return False

        code, text = home.on_terminal(*follow, until=opens)
        assert code == 0
        assert re.fullmatch(r"holding\nlet go\n✓ \w{8} succeeded  \S+\n", text), text
        gate.unlink()
        code, text = home.on_terminal(*follow, until=lambda text: "holding\n" in text)
        gate.touch()
        assert code == 130
        assert re.search(r"\n(\^C)?(\w{8}) goes on\. jobrunner wait \w{4}\n$", text), text


def test_events_are_followed_as_they_come(home: Home, queue_name: str) -> None:
    with running(home, "events", "--follow", "--json", "--kind", "queued", "--since", "1s") as following:
        job_id = home.enqueue("-q", queue_name, "tasks:text")
        for line in lines_of(following):
            if job_id in line:
                event = json.loads(line)
                break
    assert (event["kind"], event["jobs"][0]["job"]["task"]) == ("queued", "tasks:text")


def test_a_worker_that_does_not_answer_is_named(home: Home, queue_name: str) -> None:
    with home.worker("-q", queue_name, "--name", queue_name[-20:]) as worker:
        worker.send_signal(signal.SIGSTOP)
        try:
            done = home.run("workers", "ping", queue_name[-20:], "--timeout", "0.5s")
        finally:
            worker.send_signal(signal.SIGCONT)
    assert done.returncode == 5
    assert re.match(
        rf"error: 0 of 1 workers answered in 0\.5 s\. Silent: {queue_name[-20:]} \(seen \d+s ago\)", done.stderr
    )
