"""The words that select jobs, each on a view with a few jobs of all sorts."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner import events
from jobrunner.broker.stream import Record
from jobrunner.errors import AmbiguousId, BadDuration, BadFilter, BadTime, JobrunnerError, NotFound
from jobrunner.outcome import Error
from jobrunner.view.filters import KEYS, parse
from jobrunner.view.store import Store
from tests.support.history import IDS, ME, NOW, a_view, dead, queued, retrying, run, started, succeeded, words

FETCH, SUCCESS, COMMAND, LATER = IDS
DEEP = "d33pd33pd33pd33p"
EXIT = Error(reason="exit", message="in.mov: Invalid data at 17", exit=137)
CRASH = Error(reason="crash", message="the process died: SIGSEGV", signal="SIGSEGV")

HISTORY: list[events.Event] = [
    queued(
        FETCH,
        NOW - 7200,
        args=["https://a.example", 7],
        kwargs={"user_id": 42, "deep": {"er": [1, 2]}},
        tags=["import", "eu"],
    ),
    dead(FETCH, ran=run(NOW - 90, NOW - 30)),
    queued(
        SUCCESS, NOW - 60, task="pkg.tasks:resize", run="nightly", kwargs={"user_id": "42", "on": True}, user="ben@web"
    ),
    succeeded(SUCCESS, ran=run(NOW - 50, NOW - 40, worker="w2", host="db1")),
    queued(COMMAND, NOW - 30, argv=["/usr/bin/ffmpeg", "-i", "a.mov"], queue="video", user="ben@web"),
    retrying(COMMAND, due_at=NOW + 20, error=EXIT, ran=run(NOW - 25, NOW - 20)),
    queued(LATER, NOW - 10, not_before=NOW + 3600, queue="low[1]"),
]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with a_view(HISTORY) as view:
        yield view


def selected(store: Store, *typed: str, now: float = NOW) -> set[str]:
    return {row.id for row in store.jobs(words(*typed, now=now), limit=None)}


ALL = set(IDS)
TABLE: list[tuple[str, set[str]]] = [
    ("all", ALL),
    (FETCH, {FETCH}),
    ("k7f2m", {FETCH}),
    ("K7F2M", {FETCH}),
    (f"k7f2m,{COMMAND}", {FETCH, COMMAND}),
    (f"{FETCH},{COMMAND}", {FETCH, COMMAND}),
    ("last", {LATER}),
    ("last:2", {LATER, FETCH}),
    ("state:dead", {FETCH}),
    ("state:dead,succeeded", {FETCH, SUCCESS}),
    ("state:failed", {FETCH, COMMAND}),
    ("state:active", {COMMAND, LATER}),
    ("state:scheduled", {LATER}),
    ("state:queued", set()),
    ("queue:video", {COMMAND}),
    ("queue:video,task_queue", {FETCH, SUCCESS, COMMAND}),
    ("queue:vid*", {COMMAND}),
    ("queue:low[1]", {LATER}),
    ("queue:low[*", {LATER}),
    ("queue:low?1*", set()),
    ("task:resize", {SUCCESS}),
    ("task:pkg.tasks:resize", {SUCCESS}),
    ("task:pkg.tasks.resize", {SUCCESS}),
    ("task:tasks.resize", {SUCCESS}),
    ("task:re*", {SUCCESS}),
    ("task:ffmpeg", {COMMAND}),
    ("task:/usr/bin/ffmpeg", {COMMAND}),
    ("task:size", set()),
    ("tag:import", {FETCH}),
    ("tag:e*", {FETCH}),
    ("run:nightly", {SUCCESS}),
    ("run:n*", {SUCCESS}),
    ("worker:w2", {SUCCESS}),
    ("host:db*", {SUCCESS}),
    ("user:ben@web", {SUCCESS, COMMAND}),
    ("user:ben", {SUCCESS, COMMAND}),
    ("user:*@mbp", {FETCH, LATER}),
    ("args.user_id:42", {FETCH, SUCCESS}),
    ("args.user_id:42.0", {FETCH}),
    ("args.user_id:4*", {SUCCESS}),
    ("args.on:true", {SUCCESS}),
    ("args.0:https*", {FETCH}),
    ("args.1:7", {FETCH}),
    ("args.deep.er.1:2", {FETCH}),
    ("args.2:x", set()),
    ("error:TimeoutError", {FETCH}),
    ("error:Timeout*", {FETCH}),
    ("exit:137", {COMMAND}),
    ("reason:exit", {COMMAND}),
    ("reason:error,exit", {FETCH, COMMAND}),
    ("since:2m", {SUCCESS, COMMAND, LATER}),
    ("before:1h", {FETCH}),
    ("slower:30s", {FETCH}),
    ("slower:5s", {FETCH, SUCCESS, COMMAND}),
    ("not:queue:video", ALL - {COMMAND}),
    ("not:error:TimeoutError", ALL - {FETCH}),
    ("not:tag:import", ALL - {FETCH}),
    ("not:k7f2m", ALL - {FETCH}),
    ("not:not:queue:video", {COMMAND}),
]


@pytest.mark.parametrize(("word", "ids"), TABLE)
def test_a_word_selects_these_jobs(store: Store, word: str, ids: set[str]) -> None:
    assert selected(store, word) == ids
    assert store.count(words(word)) == len(ids)


def test_thousands_of_alternatives_are_not_too_deep_for_sqlite(store: Store) -> None:
    others = [f"q{number}" for number in range(2000)]
    assert selected(store, f"queue:{','.join([*others, 'video'])}") == {COMMAND}
    assert selected(store, f"tag:{','.join([*others, 'import'])}") == {FETCH}
    assert selected(store, ",".join([FETCH[:8]] * 2000)) == {FETCH}


def test_numbers_beyond_measure_and_many_not_select_like_others(store: Store) -> None:
    assert selected(store, f"args.n:1{'0' * 400}") == selected(store, f"args.{'9' * 5000}:1") == set()
    assert selected(store, f"{'not:' * 4000}queue:video") == {COMMAND}
    assert selected(store, f"{'not:' * 4001}queue:video") == ALL - {COMMAND}


def test_words_are_put_together_with_and_and_none_is_the_default(store: Store) -> None:
    assert selected(store, "state:failed", "queue:video") == {COMMAND}
    assert selected(store, "task:fetch", "queue:video") == set()
    assert selected(store) == ALL
    assert {row.id for row in store.jobs(parse([], now=NOW, user=ME, default="last"), limit=None)} == {LATER}


def test_states_are_those_of_the_moment(store: Store) -> None:
    assert selected(store, "state:queued", now=NOW + 20) == {COMMAND}
    assert selected(store, "state:queued", now=NOW + 3600) == {COMMAND, LATER}
    assert selected(store, "state:failed", now=NOW + 20) == {FETCH}


def test_a_cause_selects_its_group(store: Store) -> None:
    (cause,) = store.causes(words())
    assert selected(store, f"cause:{cause.cause}") == {FETCH}


def test_a_signal_is_a_reason_with_its_detail() -> None:
    with a_view([dead(FETCH, error=CRASH)]) as view:
        for word in ("reason:crash", "reason:crash:SIGSEGV", "reason:crash:SIG*"):
            assert selected(view, word) == {FETCH}
        assert selected(view, "reason:crash:SIGKILL") == set()


def test_a_job_that_runs_is_slow_by_now() -> None:
    with a_view([queued(), started(at=NOW - 50)]) as view:
        assert selected(view, "slower:40s") == {FETCH}
        assert selected(view, "slower:60s") == set()


def test_dates_are_those_of_this_machine(store: Store) -> None:
    midnight = time.strftime("%Y-%m-%d", time.localtime(NOW - 7000))
    assert FETCH in selected(store, "since:2020-01-01")
    assert FETCH not in selected(store, f"before:{midnight}")
    minute = time.strftime("%Y-%m-%d %H:%M", time.localtime(NOW - 600))
    assert selected(store, f"before:{minute}") == {FETCH}


def test_arguments_that_sqlite_cannot_read_match_nothing_and_break_nothing() -> None:
    body = b'{"v":1,"id":"%s","queue":"q","iat":1,"task":"t:f","args":[%s]}' % (
        DEEP.encode(),
        b"[" * 3000 + b"]" * 3000,
    )
    deep = b'{"kind":"queued","at":1.0,"jobs":[{"job":%s}]}' % body
    with a_view(HISTORY) as view:
        view.fold([Record(99, "jobrunner.v1.events", "k", None, deep)])
        assert selected(view, "args.user_id:42") == {FETCH, SUCCESS}


def test_of_a_beginning_that_fits_two_jobs_both_are_told(store: Store) -> None:
    with pytest.raises(
        AmbiguousId, match=r"'k7f2' fits 2 jobs: k7f2c01b resize \(.* ago\), k7f2m9xq fetch \(.* ago\)\."
    ):
        selected(store, "k7f2", now=NOW)


def test_of_a_beginning_that_fits_none_the_newest_job_and_the_start_are_told(store: Store) -> None:
    with pytest.raises(
        NotFound, match=r"No job starts with 'zzzz'\. Newest: h4m2x0v8 \(10s ago\)\. The ledger goes back to \d{4}-"
    ):
        selected(store, "zzzz")
    with a_view() as empty, pytest.raises(NotFound, match="knows no job at all"):
        empty.resolve("zzzz")


WRONG: list[tuple[str, type[JobrunnerError], str]] = [
    ("quue:x", BadFilter, "There is no filter 'quue:'. Did you mean 'queue'?"),
    ("state:deed", BadFilter, "There is no state 'deed'. Did you mean 'dead'?"),
    ("k7f", BadFilter, "'k7f' is too short for a job id: at least 4 characters of 16."),
    ("last:many", BadFilter, "'many' is not a number of jobs."),
    ("tasks.resize", BadFilter, "'tasks.resize' is no job id and no filter."),
    (" ", BadFilter, "An empty word selects nothing."),
    ("queue:", BadFilter, "'queue:' needs a value."),
    ("queue:,", BadFilter, "'queue:' needs a value."),
    (",", BadFilter, "An empty word selects nothing."),
    ("exit:one", BadFilter, "'one' is no exit code."),
    ("cause:xyz", BadFilter, "'xyz' is no cause: four of 0-9 a-f."),
    ('args.a"b:1', BadFilter, "'args.a\"b:' names no argument."),
    ("run:\udcff", BadFilter, "'run:?' is not UTF-8."),
    (f"task:{'a,' * 12_000}", BadFilter, "These are more alternatives than a filter takes."),
    ("slower:long", BadDuration, "'long' is not a duration."),
    ("since:soon", BadTime, "'soon' is not a time."),
]


@pytest.mark.parametrize(("word", "error", "message"), WRONG)
def test_a_wrong_word_is_refused_with_a_hint(word: str, error: type[JobrunnerError], message: str) -> None:
    with pytest.raises(error) as caught:
        words(word)
    assert caught.value.message == message
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_hint_with_blanks_is_quoted_for_a_shell(store: Store) -> None:
    with pytest.raises(BadFilter) as caught:
        store.jobs(words("my task"), limit=None)
    assert caught.value.hint == "'task:my task' · 'queue:my task'"


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_WORDS = st.one_of(
    _TEXT,
    st.builds("{}:{}".format, st.sampled_from([*KEYS, "args.0", "args.a.b", "not:queue", "args.'"]), _TEXT),
)


@settings(max_examples=150, deadline=None)
@given(typed=st.lists(_WORDS, max_size=3))
def test_no_word_becomes_sql(store: Store, typed: list[str]) -> None:
    """Whatever is typed is refused in our words or selects jobs."""
    try:
        rows = store.jobs(words(*typed), limit=None)
    except JobrunnerError:
        return
    assert {row.id for row in rows} <= ALL


# --- pages and order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sort", "newest_first"),
    [
        ("created", [LATER, COMMAND, SUCCESS, FETCH]),
        ("ended", [FETCH, SUCCESS, LATER, COMMAND]),
        ("took", [FETCH, SUCCESS, COMMAND, LATER]),
    ],
)
def test_pages_go_on_where_the_one_before_ended(store: Store, sort: str, newest_first: list[str]) -> None:
    seen: list[str] = []
    while page := store.jobs(words(), limit=1, after=seen[-1] if seen else None, sort=sort):
        seen += [row.id for row in page]
    assert seen == newest_first
    backwards = store.jobs(words(), limit=None, sort=sort, reverse=True)
    ended = [each for each in reversed(newest_first) if each in (FETCH, SUCCESS) or sort != "ended"]
    assert [row.id for row in backwards][: len(ended) - (sort == "took")] == ended[(sort == "took") :]


def test_more_than_the_cap_is_not_counted(store: Store) -> None:
    assert store.count(words(), cap=4) == 4
    assert store.count(words(), cap=3) is None
