"""The file of a view: who may read it, two processes at once, damage; and questions about many jobs."""

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from jobrunner import events
from jobrunner.broker.stream import Record
from jobrunner.brokerurl import parse_url
from jobrunner.errors import ViewDamaged, ViewUnusable
from jobrunner.keyring import KeyRing, parse
from jobrunner.outcome import Error
from jobrunner.view import causes, schema
from jobrunner.view.anchor import ViewMoved
from jobrunner.view.recorder import view_path
from jobrunner.view.rows import Counts
from jobrunner.view.store import Store
from tests.support import history
from tests.support.history import IDS, NOW, TIMEOUT, a_view, dead, queued, retrying, started, succeeded, words


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "view-0.sqlite"


def ids(store: Store) -> list[str]:
    return [row.id for row in store.jobs(words(), limit=None, reverse=True)]


def test_only_its_user_may_read_a_view(path: Path) -> None:
    with Store.open(path) as store:
        store.fold(history.records([queued()]))
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_rows_and_place_are_kept(path: Path) -> None:
    with Store.open(path) as store:
        store.fold(history.records([queued(), succeeded()], 7))
    with Store.open(path) as store:
        assert store.anchor == (8, f"{IDS[0]}.0.succeeded")
        assert ids(store) == [IDS[0]]


def test_two_processes_fold_the_same_records_once(path: Path) -> None:
    found = history.records([queued(IDS[0]), queued(IDS[1]), started(IDS[0])])
    with Store.open(path) as one, Store.open(path) as other:
        one.fold(found[:1])
        other.fold(found[:2])
        one.fold(found)
        other.fold(found)
        assert one.anchor == other.anchor == (2, f"{IDS[0]}.0.started")
        assert len(one.attempts(IDS[0])) == 1
        assert sorted(ids(other)) == sorted(IDS[:2])


def test_what_was_read_before_another_process_reset_the_view_is_not_folded(path: Path) -> None:
    with Store.open(path) as one, Store.open(path) as other:
        one.fold(history.records([queued()]))
        assert one.anchor == other.anchor
        other.reset()
        other.fold(history.records([queued(IDS[1])]))
        with pytest.raises(ViewMoved):
            one.fold(history.records([queued()], 5))
        one.reset()  # the other was faster: nothing is lost of what it has folded since
        assert ids(one) == [IDS[1]]
        assert one.anchor is not None
        one.fold(history.records([queued(IDS[2])], 5))
        assert len(ids(other)) == 2


def test_a_reset_forgets_everything(path: Path) -> None:
    with Store.open(path) as store:
        store.fold(history.records([events.Genesis(at=NOW, id="g"), queued(), started(), history.worker()]))
        store.mark_hole(5, 9)
        assert (store.genesis, [hole.last_offset for hole in store.holes]) == ("g", [9])
        store.reset()
        assert (store.anchor, store.genesis, store.holes, store.workers(10 * NOW), ids(store)) == (
            None,
            None,
            [],
            [],
            [],
        )


def test_of_two_beginnings_the_first_counts(path: Path) -> None:
    with Store.open(path) as store:
        store.fold(history.records([events.Genesis(at=NOW, id="a"), events.Genesis(at=NOW, id="b")]))
        store.fold(history.records([events.Genesis(at=NOW, id="c")], 2))
        assert store.genesis == "a"


@pytest.mark.parametrize("content", [b"not a database at all" * 300, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_with_one_line(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    notices: list[str] = []
    with Store.open(path, on_notice=notices.append) as store:
        assert ids(store) == []
    (aside,) = path.parent.glob("*.corrupt-*")
    assert aside.read_bytes() == content
    (line,) = notices
    assert str(aside) in line
    assert "\n" not in line


def test_a_view_of_another_program_or_version_is_set_aside(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x)")
    db.close()
    notices: list[str] = []
    Store.open(path, on_notice=notices.append).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    Store.open(path, on_notice=notices.append).close()
    assert len(notices) == 2


def test_damage_in_the_middle_is_found_when_it_is_read(path: Path) -> None:
    with Store.open(path) as store:
        for start in range(0, 400, 100):
            jobs = [queued(f"{number:016d}") for number in range(start, start + 100)]
            store.fold(history.records(jobs, start))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (size - 12288))
    store = Store.open(path)
    with pytest.raises(ViewDamaged) as caught:
        store.jobs(words("task:nothing"), limit=None)
    assert "corrupt-" in caught.value.message
    store.reopen()
    with store:
        assert ids(store) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ViewUnusable) as caught:
        Store.open(tmp_path / "file" / "view.sqlite")
    assert "Cannot keep the view in" in caught.value.message
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(ViewUnusable):
        Store.open(tmp_path / "folder.sqlite")


def test_a_failed_fold_leaves_rows_and_place_as_they_were(path: Path) -> None:
    with Store.open(path) as store:
        store.fold(history.records([queued()]))
        broken = Record(1, "jobrunner.v1.events", "k", "x", None)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            store.fold([history.record(queued(IDS[1]), 1), broken])
        assert store.anchor == (0, f"{IDS[0]}.0.queued")
        assert ids(store) == [IDS[0]]


def test_each_virtual_host_has_a_file_of_its_own(tmp_path: Path) -> None:
    urls = ["amqp://a@h:1/x", "amqp://b@h:1/x", "amqp://a@h:2/x", "amqp://a@h:1/y", "amqp://a@g:1/x"]
    paths = [view_path(parse_url(url), tmp_path) for url in urls]
    assert paths[0] == paths[1]
    assert len(set(paths)) == 4


def test_a_look_with_keys_does_not_see_what_one_without_has_left(tmp_path: Path) -> None:
    url = parse_url("amqp://a@h:1/x")

    def path_with(secret: str) -> Path:
        return view_path(
            msgspec.structs.replace(url, ring=KeyRing(parse(f"k hs256 {secret}", "test"), "test")), tmp_path
        )

    assert path_with("A" * 43 + "=") == path_with("B" * 42 + "A=") != view_path(url, tmp_path)


# --- questions about many jobs --------------------------------------------------------------------------------------


def test_counts_of_queues() -> None:
    told: list[events.Event] = [
        queued(IDS[0], NOW - 100),
        queued(IDS[1], NOW - 30, not_before=NOW + 5),
        queued(IDS[2], NOW - 30),
        started(IDS[2]),
        dead(IDS[3]),
        queued("0" * 16, NOW - 200, queue="low"),
        retrying("0" * 16, due_at=NOW + 5),
        queued("1" * 16, NOW - 30, queue="low"),
        succeeded("1" * 16, NOW - 10),
    ]
    with a_view(told) as store:
        now = store.counts(NOW)
        later = store.counts(NOW + 5)
    low = Counts(queue="low", later=1, in_per_s=1 / 60, out_per_s=1 / 60)
    assert now[0] == low
    task_queue = Counts(queue="task_queue", queued=1, running=1, later=1, dead=1, oldest_at=NOW - 100)
    assert now[1] == Counts(**{**_fields(task_queue), "in_per_s": 3 / 60, "out_per_s": 1 / 60})
    assert (later[0].queued, later[0].later, later[0].oldest_at) == (1, 0, NOW + 5)
    assert (later[1].queued, later[1].later) == (2, 0)


def _fields(counts: Counts) -> dict[str, object]:
    return {name: getattr(counts, name) for name in counts.__struct_fields__}


def test_the_place_in_line_counts_what_was_due_before() -> None:
    first, second = queued(IDS[0], NOW - 100), queued(IDS[1], NOW - 50)
    delayed = queued(IDS[2], NOW - 200, not_before=NOW - 70)
    elsewhere = queued(IDS[3], NOW - 100, queue="other")
    with a_view([first, second, delayed, elsewhere]) as store:
        rows = {each: store.job(each) for each in IDS}
        places = [store.place_in_line(row, now=NOW) for row in rows.values() if row is not None]
    assert places == [0, 2, 1, 0]


def test_open_jobs_are_those_that_have_not_ended() -> None:
    with a_view([queued(IDS[0]), queued(IDS[1]), succeeded(IDS[1]), started(IDS[2]), retrying(IDS[3])]) as store:
        assert [row.id for row in store.open_jobs()] == [IDS[0], IDS[2], IDS[3]]


def test_dead_jobs_are_grouped_by_cause_the_newest_group_first() -> None:
    other = Error(reason="error", class_name="ValueError", message="1", traceback=TIMEOUT.traceback)
    told = [
        *(queued(each) for each in IDS),
        dead(IDS[0], NOW - 30),
        dead(IDS[1], NOW - 10, Error(**{**_parts(TIMEOUT), "message": "other words"})),
        dead(IDS[2], NOW - 20, other),
        retrying(IDS[3]),
    ]
    with a_view(told) as store:
        first, second = store.causes(words())
        assert (first.count, first.newest, first.oldest, first.error) == (
            2,
            NOW - 10,
            NOW - 30,
            "TimeoutError: other words",
        )
        assert (first.task, first.place, second.count) == ("tasks.fetch", "fetch.py:31", 1)
        assert store.causes(words(f"cause:{second.cause}")) == [second]


def _parts(error: Error) -> dict[str, str | None]:
    return {
        "reason": error.reason,
        "class_name": error.class_name,
        "message": error.message,
        "traceback": error.traceback,
    }


# --- causes ---------------------------------------------------------------------------------------------------------

LIBRARY = """Traceback (most recent call last):
  File "/app/early.py", line 1, in early
    a()
KeyError: 1

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/tasks.py", line 8, in fetch
    get()
  File "/usr/lib/python3.11/site-packages/requests/api.py", line 73, in get
    raise Timeout
requests.Timeout: slow
"""


def test_the_place_is_the_innermost_frame_of_the_users_code() -> None:
    assert causes.innermost(LIBRARY) == ("/app/tasks.py", "8", "fetch")
    assert causes.innermost(LIBRARY.replace("/app/", "/usr/lib/python3.11/")) is not None
    assert causes.innermost("no traceback") is None


def test_failures_are_alike_by_what_failed_how_and_where() -> None:
    def function(message: str = "x", frame: str = "f.py:g", name: str = "tasks.f", class_name: str = "E") -> str:
        return causes.group(name, Error(reason="error", class_name=class_name, message=message), frame)

    assert function() == function(message="y")
    assert len({function(), function(frame="f.py:h"), function(name="tasks.g"), function(class_name="F")}) == 4

    def command(message: str, code: int = 1, name: str = "/ffmpeg") -> str:
        return causes.group(name, Error(reason="exit", message=message, exit=code), None)

    assert command("line 17 of 30") == command("line 4 of 5")
    assert len({command("a"), command("b"), command("a", 2), command("a", name="/convert")}) == 4

    def crash(signal: str) -> str:
        return causes.group("tasks.f", Error(reason="crash", message="died", signal=signal), None)

    assert crash("SIGSEGV") != crash("SIGKILL")


def test_many_that_make_the_file_at_once_all_have_it(tmp_path: Path) -> None:
    notices: list[str] = []

    def opened(path: Path, barrier: threading.Barrier) -> str | None:
        barrier.wait()
        with Store.open(path, on_notice=notices.append) as store:
            return store.genesis

    for number in range(100):
        barrier = threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(opened, tmp_path / f"{number}.sqlite", barrier) for _ in range(4)]
        assert [one.result() for one in found] == [None] * 4
    assert notices == []


def test_a_damaged_file_that_another_process_has_set_aside_is_no_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    monkeypatch.setattr(Path, "exists", lambda _: True)  # as it was a moment ago
    schema.set_aside(path, "damaged", lambda _: None)
    with Store.open(path) as store:
        assert store.anchor is None
