"""Words, columns and tables of the commands that look."""

import asyncio
import io
import json
import shlex
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobrunner import events
from jobrunner.attempts import Stream
from jobrunner.broker import topology
from jobrunner.broker.control import Reply
from jobrunner.broker.message import message_id_of
from jobrunner.broker.stream import Record
from jobrunner.cli import (
    columns,
    completing,
    draw,
    fixing,
    phrases,
    queues_list,
    queues_pause,
    selecting,
    show_text,
    viewing,
    waiting,
    watching,
)
from jobrunner.cli import dead as dead_module
from jobrunner.cli import list as list_module
from jobrunner.cli import wait as wait_module
from jobrunner.cli.app import run
from jobrunner.cli.draw import Column
from jobrunner.cli.output_work import Output
from jobrunner.cli.shared import Shared
from jobrunner.cli.status_facts import Facts, QueueFacts, problems_of
from jobrunner.envelope import new_job, seal
from jobrunner.errors import BadFilter, BadValue, NotFound, UsageError, WaitTimeout
from jobrunner.events import Pause
from jobrunner.outcome import Error
from jobrunner.view.rows import CauseRow, Counts, JobRow, WorkerRow
from jobrunner.view.store import Store
from tests.support import history
from tests.support.history import IDS, a_view
from tests.support.terminal import Terminal

ID = "k7f2m9xq4tzd8w1r"
NOW = 1_800_000_000.0


def job(state: str = "queued", **fields: Any) -> JobRow:
    facts = {"task": "tasks:resize", "args": msgspec.Raw(b'["photo.jpg"]'), "kwargs": msgspec.Raw(b"{}")}
    facts |= {"queue": "task_queue", "created_at": NOW - 12, "max_attempts": 4}
    return JobRow(id=ID, state=state, state_at=NOW, **(facts | fields))


def use_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 100) -> None:
    """From now on stdout is a terminal. Not a fixture: pytest sets its own stdout after those."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_wait_whose_time_is_over_while_it_leaves_gives_the_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = job("dead", error=Error(reason="exit", message="no"))

    async def nothing(*_args: object) -> None:
        return

    async def leaving(*_args: object) -> AsyncIterator[JobRow]:
        yield row
        await asyncio.Event().wait()

    monkeypatch.setattr(viewing, "catch_up", nothing)
    monkeypatch.setattr(selecting, "some_jobs", lambda *_args, **_more: [row])
    monkeypatch.setattr(waiting, "until", leaving)
    waits = wait_module._Waiting(Shared(), {"timeout": 0.01, "for": "ended", "any": False})
    assert asyncio.run(waits.run(None, [])) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().out.startswith(f"{ID}\tdead\t")


def test_wait_for_several_says_what_they_are_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_args: object) -> None:
        return

    async def silent(*_args: object) -> AsyncIterator[JobRow]:
        await asyncio.Event().wait()
        yield job()

    monkeypatch.setattr(viewing, "catch_up", nothing)
    monkeypatch.setattr(waiting, "until", silent)
    waits = wait_module._Waiting(Shared(), {"timeout": 0.01, "for": "ended", "any": False})
    told = [*(history.queued(each) for each in IDS[:3]), history.started(IDS[0])]
    with a_view(told) as store, pytest.raises(WaitTimeout, match="Still queued or running after 0 s: 3 of 3 jobs"):
        asyncio.run(waits.run(store, IDS[:3]))


@pytest.mark.parametrize(
    ("message", "told"), [("by ana@mbp", " by ana@mbp"), ("a typo by ana@mbp", ": a typo by ana@mbp")]
)
def test_show_says_who_cancelled_a_job_and_why(message: str, told: str) -> None:
    row = job("cancelled", error=Error(reason="cancelled", message=message))
    assert any(line.endswith(f" cancelled{told}") for line in show_text.lines(Shared(), row, (), None))


@pytest.mark.parametrize(("columns_", "has_place"), [(100, True), (60, False)])
def test_a_long_error_leaves_room_for_its_place_if_there_is_some(
    columns_: int, has_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch, columns_)
    row = CauseRow(cause="3f2a", count=1, newest=0.0, oldest=0.0, task="tasks.f", error="E" * 200, place="tasks.py:8")
    dead_module._draw(Shared(quiet=True), [row])
    shown = sys.stdout.getvalue().splitlines()[1]  # type: ignore[attr-defined]
    assert ("tasks.py:8" in shown, "EEEEEEEE…" in shown) == (has_place, True)


def test_a_batch_of_map_says_how_many_calls_it_is() -> None:
    batch = job(args=msgspec.Raw(b"[]"), calls=500)
    assert (columns.call(batch), batch.name) == ("resize (500 calls)", "tasks.resize (500 calls)")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0s"), (12.9, "12s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86_400 * 3.9, "3d")],
)
def test_ages_are_in_their_largest_unit(seconds: float, shown: str) -> None:
    assert phrases.age(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0124, "12ms"),
        (0.9996, "1s"),
        (1.94, "1.9s"),
        (9, "9s"),
        (9.99, "10s"),
        (59.6, "1m00s"),
        (130, "2m10s"),
        (11_100, "3h05m"),
        (187_200, "2d4h"),
    ],
)
def test_durations_are_as_long_as_they_matter(seconds: float, shown: str) -> None:
    assert phrases.took(seconds) == shown


def test_a_call_is_shown_without_its_module_and_with_its_long_values_cut() -> None:
    assert columns.call(job()) == "resize('photo.jpg')"
    assert columns.call(job(args=msgspec.Raw(b'["%s"]' % (b"a" * 40)))) == f"resize('{'a' * 21}…')"
    many = msgspec.Raw(json.dumps(["a" * 18, "b" * 18, 3, 4]).encode())
    assert columns.call(job(args=many)) == f"resize('{'a' * 18}', …)"
    assert columns.call(job(kwargs=msgspec.Raw(b'{"width": 800}'))) == "resize('photo.jpg', width=800)"
    assert columns.call(job(task=None, argv=["ffmpeg", "-i", "in 1.mov"])) == "ffmpeg -i 'in 1.mov'"
    assert columns.call(job(args=msgspec.Raw(b"[" * 100_000))) == "resize(…)"
    assert columns.call(job(args=msgspec.Raw(b'["\\u001b[31m"]'))) == "resize('\\x1b[31m')"


def test_the_note_says_what_the_state_leaves_open() -> None:
    error = Error(reason="error", class_name="TimeoutError", message="read timed out")
    assert columns.note(job("retrying", not_before=NOW + 20, error=error), NOW) == "in 20s"
    assert columns.note(job("scheduled", not_before=NOW - 1), NOW) == "due now"
    assert columns.note(job("dead", error=error), NOW) == "TimeoutError: read timed out"
    assert columns.note(job("running", progress=0.42, progress_text="frames"), NOW) == "42% frames"
    assert columns.note(job(parked=True), NOW) == "waits for a worker that knows it"
    assert columns.note(job(label="mine"), NOW) == "mine"


def test_a_table_is_aligned_and_without_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch)
    rows = [
        job("running", started_at=NOW - 9, attempt=1),
        job("queued", task=None, argv=["ffmpeg", "-i", "in.mov"], queue="video", created_at=NOW - 240, max_attempts=1),
    ]
    text = columns.drawn(rows, columns.ON_TERMINAL, NOW, "never")
    assert text.splitlines() == [
        "ID        STATE      TASK                 QUEUE       AGE  TOOK  TRY",
        "k7f2m9xq  ● running  resize('photo.jpg')  task_queue  12s    9s  1/4",
        "k7f2m9xq  ○ queued   ffmpeg -i in.mov     video        4m     –  0/1",  # noqa: RUF001 - as it is drawn
    ]


def test_a_table_has_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch)
    assert "\x1b[31m✗ dead" in columns.drawn([job("dead")], columns.ON_TERMINAL, NOW, "auto")


def test_a_narrow_terminal_cuts_what_can_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch, columns=50)
    lines = draw.table([Column("ID"), Column("TASK", flexible=True)], [["k7f2m9xq", "x" * 80]], "never").splitlines()
    assert lines[1] == f"k7f2m9xq  {'x' * 39}…"


def test_in_a_pipe_columns_are_whole_and_separated_by_tabs() -> None:
    error = Error(reason="error", message="a\tb")
    row = job("dead", started_at=NOW - 2, ended_at=NOW, attempt=4, error=error)
    assert columns.piped(row, columns.PIPED).split("\t") == [
        *(ID, "dead", "tasks:resize", "task_queue", "2027-01-15T07:59:48.000Z", "2.000", "4/4", "a\\tb"),
    ]


def test_columns_are_those_that_were_typed() -> None:
    assert columns.chosen("id, worker") == ["id", "worker"]
    with pytest.raises(BadValue, match="There is no column 'stat'"):
        columns.chosen("stat")


@pytest.mark.parametrize(
    ("typed", "filled"),
    [
        (["-w"], ["--watch=2s"]),
        (["-w", "5s", "high"], ["-w", "5s", "high"]),
        (["--watch", "state:dead"], ["--watch=2s", "state:dead"]),
        (["high", "-w", "--check"], ["high", "--watch=2s", "--check"]),
        (["--watch=1s"], ["--watch=1s"]),
    ],
)
def test_the_period_of_watch_may_be_left_out(typed: list[str], filled: list[str]) -> None:
    assert watching.fill_in(typed) == filled


@pytest.mark.parametrize(
    ("width", "first"),
    [
        (90, "QUEUE                  READY  RUNNING  LATER  DEAD  OLDEST  CONSUMERS  TYPE"),
        (60, "QUEUE                READY  RUNNING  DEAD  OLDEST  CONSUMERS"),
    ],
)
def test_queues_keep_their_names_where_it_is_narrow_and_a_pause_has_a_line_of_its_own(
    width: int, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch, width)
    pause = Pause(at=NOW - 60, queue="video", by="ana@mbp", reason="new disks")
    rows = [QueueFacts(name, Counts(queue=name), ready=3, consumers=0) for name in ("video", topology.UNROUTED)]
    rows[0].paused = pause
    for row in rows:
        row.type = "quorum"
    queues_list._draw(rows, NOW, Shared(color="never"))
    heading, video, unrouted, told = sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert heading.rstrip() == first
    assert [line.split()[0][:18] for line in (video, unrouted)] == ["video", "jobrunner.v1.unrou"]
    assert told == "! video is paused by ana@mbp until it is resumed: new disks.  jobrunner queues resume video"


def test_a_list_for_people_leaves_the_queue_out_before_the_task_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch, 60)
    row = job("dead", error=Error(reason="exit", message="exit code 7"))
    names = list(columns.ON_TERMINAL)
    for asked, heading in ((columns.ON_TERMINAL, []), (names, ["QUEUE"])):
        first = columns.drawn([row], asked, NOW, "never").splitlines()[0].split()
        assert first == ["ID", "STATE", "TASK", *heading, "AGE", "TOOK", "TRY"]


def test_the_next_page_is_asked_for_with_all_that_made_this_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(monkeypatch, 200)
    options = {"limit": 2, "after": None, "sort": "ended", "reverse": True, "columns": "id,state", "watch": None}
    shared = Shared(profile="prod", url="amqp://u:secret@h/")
    with a_view([history.queued(each, tags=["two words"]) for each in IDS]) as store:
        words = ["tag:two words"]
        list_module._Page(shared, store, words, ["id", "state"], options | {"no_sync": False}).show()
        more = capsys.readouterr().err.strip().partition("  More:  ")[2]
        assert shlex.split(more)[:-1] == [
            *("jobrunner", "list", "tag:two words", "--profile", "prod", "--limit", "2", "--sort", "ended"),
            *("--reverse", "--columns", "id,state", "--after"),
        ]
        options = {"limit": 2, "after": IDS[3], "sort": "created", "reverse": False, "columns": None, "watch": 2.0}
        list_module._Page(Shared(), store, [], ["id"], options | {"no_sync": True}).show()
    assert "  More:  jobrunner list --limit 2 --no-sync --after " in capsys.readouterr().err


def test_an_empty_word_is_not_the_newest_job() -> None:
    with a_view([history.queued()]) as store, pytest.raises(BadFilter, match="An empty word"):
        selecting.one_job(store, "")


def test_an_empty_stdin_names_no_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert run(["wait", "-"]) == 0
    assert capsys.readouterr() == ("", "Nothing to wait for.\n")
    assert fixing.typed(["-"]) == []
    with a_view([history.queued()]) as store:
        assert fixing.chosen(store, [], ["queued"]) == []
    with pytest.raises(UsageError, match="Which jobs"):
        fixing.typed([])


@pytest.mark.parametrize(
    ("text", "sentence"), [("", "wrote nothing"), ("a line\n", "wrote nothing that these options select")]
)
def test_logs_does_not_say_that_a_job_wrote_nothing_of_which_nothing_was_asked_for(
    text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"lines": None, "attempt": 9, "stream": None, "since": None, "timestamps": False, "no_sync": True}
    ran = history.run(NOW - 50, NOW - 40, stdout=Stream(head=text, total_bytes=len(text)))
    with a_view([history.queued(), history.succeeded(ran=ran)]) as store:
        asyncio.run(Output(Shared(), store, options).past([IDS[0]]))
    assert capsys.readouterr() == ("", f"{IDS[0][:8]} {sentence}.\n")


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ([], "was not paused"),
        ([Pause(at=NOW - 9, queue="video", paused=False)], "was not paused"),
        ([Pause(at=1.0, queue="video", until=2.0)], "was not paused"),
        ([Pause(at=NOW - 9, queue="high")], "was not paused"),
        ([Pause(at=NOW - 9, queue="video")], "is consumed again"),
    ],
)
def test_resume_says_whether_the_queue_was_paused(
    before: list[Pause], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_args: object) -> None:
        return

    async def published(_shared: Shared, word: Pause) -> tuple[Pause, int | None]:
        return word, 0

    use_terminal(monkeypatch)
    monkeypatch.setattr(queues_pause, "opened", lambda _shared: a_view(before))
    monkeypatch.setattr(queues_pause, "catch_up", nothing)
    monkeypatch.setattr(queues_pause, "_publish", published)
    assert queues_pause.change(Shared(color="never"), "video", paused=False) == 0
    assert sys.stdout.getvalue() == f"✓ video {sentence}\n"  # type: ignore[attr-defined]


def worker(name: str, **fields: Any) -> WorkerRow:
    facts = {"host": "h", "pid": 1, "version": "1", "python": "3", "slots": 2, "busy": 2, "queues": ["task_queue"]}
    facts |= {"functions": [], "allow_commands": False, "allow_import": [], "started_at": NOW - 99, "seen_at": NOW - 5}
    return WorkerRow(name=name, **(facts | {"phase": "online"} | fields))


def reply(name: str, busy: int = 2) -> Reply:
    facts = {"host": "h", "pid": 1, "version": "1", "slots": 2, "queues": ["task_queue"], "started_at": 1.0}
    return Reply(worker=name, busy=busy, **facts)


def facts_of(queue: QueueFacts, **fields: Any) -> Facts:
    return Facts(now=NOW, queues=[queue], **({"known": [worker("w1")], "replies": [reply("w1")]} | fields))


def told(facts: Facts) -> list[tuple[str, str, str]]:
    return [(each.level, each.text, each.fix) for each in problems_of(facts)]


def test_nothing_is_wrong_with_a_queue_that_is_worked_on() -> None:
    assert told(facts_of(QueueFacts("task_queue", Counts(queue="task_queue"), ready=3, consumers=2))) == []


def test_a_queue_without_a_worker_is_a_problem_once_something_waits() -> None:
    queue = QueueFacts("video", Counts(queue="video"), ready=3, consumers=0)
    assert told(facts_of(queue)) == [
        ("warning", "No worker listens on 'video'; 3 jobs wait.", "jobrunner worker -q video"),
    ]
    queue.ready = 0
    assert told(facts_of(queue)) == []


def test_a_queue_that_is_full_is_a_problem_also_where_workers_may_not_be_asked() -> None:
    queue = QueueFacts("video", Counts(queue="video"), ready=1200, consumers=1, full=1500)
    sentence = "'video' is full (1,200 of at most 1,500 messages): new jobs are refused."
    assert told(facts_of(queue, replies=None)) == [("error", sentence, "jobrunner worker -q video")]


def test_a_paused_queue_is_a_problem_and_its_lack_of_consumers_is_not() -> None:
    pause = Pause(at=NOW - 60, queue="video", by="ana@mbp", reason="new disks")
    queue = QueueFacts("video", Counts(queue="video"), ready=3, consumers=0, paused=pause)
    text = "video is paused by ana@mbp until it is resumed: new disks; 3 jobs wait."
    assert told(facts_of(queue)) == [("warning", text, "jobrunner queues resume video")]


def test_a_queue_that_grows_while_every_slot_is_busy_is_a_problem() -> None:
    counts = Counts(queue="task_queue", in_per_s=22.0, out_per_s=18.4)
    queue = QueueFacts("task_queue", counts, ready=1204, consumers=2)
    assert told(facts_of(queue)) == [("warning", "task_queue grows by 3.6/s; every slot on it is busy.", "")]
    assert told(facts_of(queue, replies=[reply("w1", busy=1)])) == []


def test_dead_jobs_and_silent_workers_are_problems() -> None:
    queue = QueueFacts("task_queue", Counts(queue="task_queue", dead=7), ready=0, consumers=1)
    facts = facts_of(queue, causes=2, newest_dead=NOW - 240, known=[worker("w1"), worker("w2", seen_at=NOW - 40)])
    assert told(facts) == [
        ("warning", "1 worker does not answer: w2 (seen 40s ago).", "jobrunner workers list"),
        ("error", "7 dead in 2 groups, newest 4m ago.", "jobrunner dead"),
    ]
    assert facts.expected == 2


def test_a_worker_that_stopped_in_order_is_not_missed() -> None:
    queue = QueueFacts("task_queue", Counts(queue="task_queue"), ready=0, consumers=1)
    assert told(facts_of(queue, known=[worker("w1"), worker("w2", phase="offline")])) == []


def test_completion_reads_what_was_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRUNNER_STATE_DIR", str(tmp_path))
    ctx, param = None, None

    def ids(word: str) -> list[str]:
        return [item.value for item in completing.complete_ids(ctx, param, word)]  # type: ignore[arg-type]

    assert ids("k") == []
    (tmp_path / completing.FILE).write_text("id\tk7f2m9xq\trunning resize\nid\tp3h8w2ac\tdead x\nqueue\tvideo\t\nbad\n")
    assert ids("k") == ["k7f2m9xq"]
    assert ids("queue:v") == ["queue:video"]
    assert [item.value for item in completing.complete_queues(ctx, param, "")] == ["video"]  # type: ignore[arg-type]


def test_completion_of_ids_imports_neither_the_view_nor_the_broker(tmp_path: Path) -> None:
    (tmp_path / completing.FILE).write_text("id\tk7f2m9xq\trunning resize\n")
    program = (
        "import sys; from jobrunner.cli.app import run; code = run([]);"
        "print(code, sorted({'pika', 'msgspec', 'sqlite3', 'rich', 'asyncio'} & set(sys.modules)), file=sys.stderr)"
    )
    environ = {"JOBRUNNER_STATE_DIR": str(tmp_path), "_JOBRUNNER_COMPLETE": "bash_complete"}
    environ |= {"COMP_WORDS": "jobrunner show k7", "COMP_CWORD": "2", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "plain,k7f2m9xq\n"
    assert done.stderr == "0 []\n"


def test_moments_are_local_and_have_their_date_once_they_are_days_away() -> None:
    now = time.time()
    assert (
        phrases.moment(now, now) == time.strftime("%a %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
    )
    assert phrases.moment(now - 10 * 86_400, now).startswith("20")


def test_reading_a_long_ledger_says_how_far_it_is_after_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = viewing.Progress(Shared())
    for now, part in ((100.4, 0.1), (100.6, 0.5), (100.65, 0.55), (100.9, None)):
        moment[0] = now
        progress(1000, part)
    progress.end()
    shown = [text for text in terminal.getvalue().replace("\x1b[K", "").split("\r") if text]
    assert shown == ["reading the ledger … 50 %", "reading the ledger … 1,000 records"]
    quiet = viewing.Progress(Shared(json=True))
    moment[0] += 9
    quiet(1000, 0.5)
    quiet.end()
    assert terminal.getvalue().count("ledger") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "There are no jobs."),
        (["state:dead"], "Nothing is dead."),
        (["state:succeeded"], "Nothing has succeeded."),
        (["state:dead,retrying"], "No job matches state:dead,retrying."),
        (["queue:hihg"], "No job matches queue:hihg. Queues with jobs: high, task_queue"),
    ],
)
def test_nothing_found_is_said_in_words(words: list[str], sentence: str, tmp_path: Path) -> None:
    with Store.open(tmp_path / "view.sqlite") as store:
        store.fold([queued(number, queue) for number, queue in enumerate(("task_queue", "high"))])
        assert selecting.nothing(store, words) == sentence


def queued(offset: int, queue: str) -> Record:
    """A record of the ledger: a job was accepted."""
    made = new_job(queue=queue, task="tasks:resize", user="ana@mbp")
    event = events.Queued(at=time.time(), jobs=[events.QueuedJob(job=msgspec.Raw(seal(made).body))], by="ana@mbp")
    key = topology.event_key("queued", None, made.id)
    return Record(offset, topology.EVENTS, key, message_id_of(event), events.encode(event))


def test_ids_filters_and_the_newest_of_this_user_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path / "view.sqlite") as store:
        monkeypatch.setattr("jobrunner.client.whoami", lambda: "ana@mbp")
        with pytest.raises(NotFound, match="No job of yours is known"):
            selecting.one_job(store, None)
        records = [queued(0, "task_queue"), queued(1, "high")]
        store.fold(records)
        first, last = (record.key.rpartition(".")[2] for record in records)
        assert selecting.one_job(store, None).id == last
        assert selecting.one_job(store, first[:8].upper()).id == first
        assert selecting.one_job(store, "queue:task*").id == first
        assert [row.id for row in selecting.some_jobs(store, [last, first, last], default="last")] == [last, first]
        assert [row.id for row in selecting.some_jobs(store, ["all"], default="last")] == [first, last]
        with pytest.raises(NotFound, match="No job matches"):
            selecting.some_jobs(store, [first, "queue:high"], default="all")
