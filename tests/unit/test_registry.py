"""`@job`: what is registered, and what a running job can ask."""

import pytest

from jobrunner import Permanent, Retry, context, job, registry
from jobrunner.errors import BadDuration


@pytest.fixture(autouse=True)
def empty_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_functions", {})


def top_level(a: int, b: int) -> int:
    return a + b


def test_a_decorated_function_is_itself_and_is_found_by_name() -> None:
    assert job(top_level) is top_level
    assert registry.lookup(f"{top_level.__module__}:top_level") is top_level


def test_options_become_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_level, "__module__", "tasks")
    job(retries=5, backoff="2s..1m", timeout="5m", queue="video")(top_level)
    spec = registry.specs()[0]
    assert (spec.name, spec.retries, spec.queue) == ("tasks:top_level", 5, "video")
    assert (spec.backoff_s, spec.backoff_max_s, spec.timeout_s) == (2.0, 60.0, 300.0)


def test_what_no_worker_could_find_by_name_is_refused() -> None:
    def inner() -> None: ...

    for function in (inner, lambda: None):
        with pytest.raises(ValueError, match="top of a module"):
            job(function)


def test_bad_options_are_refused_where_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_level, "__module__", "tasks")
    with pytest.raises(BadDuration):
        job(timeout="5 mins")(top_level)
    with pytest.raises(ValueError, match="retries"):
        job(retries=-1)(top_level)


def test_the_context_answers_only_inside_a_job() -> None:
    with pytest.raises(RuntimeError, match="inside a running job"):
        _ = context.id
    registry.enter_context(
        {"id": "k7f2", "attempt": 2, "max_attempts": 4, "queue": "q", "worker": "w", "deadline": None}
    )
    assert (context.id, context.idempotency_key, context.attempt, context.deadline) == ("k7f2", "k7f2", 2, None)
    registry.leave_context()
    with pytest.raises(RuntimeError):
        _ = context.attempt


def test_what_jobs_raise_says_when_to_run_again() -> None:
    assert Retry(after=30).after_s == 30
    assert Retry("busy").after_s is None
    assert str(Permanent("no such user")) == "no such user"


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("tasks:add", True),
        ("a.b.c:d_1", True),
        ("tasks.add", False),
        ("tasks:a.b", False),
        ("t\u0430sks:add", False),
        ("t:" + "x" * 200, False),
    ],
)
def test_task_names(name: str, good: bool) -> None:
    assert registry.is_task_name(name) is good
