"""Retry is a pure decision: a table, and properties over it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import retry
from jobrunner.envelope import Envelope, Job, State, new_job, seal
from jobrunner.outcome import (
    Crashed,
    Dead,
    Done,
    Error,
    Failed,
    HandBack,
    Interrupted,
    Outcome,
    Park,
    Rejected,
    RetryAsked,
    RunAgain,
    Succeeded,
    TimedOut,
    UnknownFunction,
)
from jobrunner.registry import FunctionSpec
from jobrunner.retry import Limits

NOW = 1_800_000_000.0
ERROR = Error(reason="error", message="boom")


def envelope(**state: int) -> Envelope:
    job = new_job(queue="task_queue", task="tasks:add")
    return Envelope(job=job, state=State(**state), body=b"")


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Succeeded(), Done),
        (Failed(error=ERROR), RunAgain),
        (TimedOut(error=ERROR), RunAgain),
        (RetryAsked(error=ERROR, after_s=5), RunAgain),
        (Rejected(error=ERROR), Dead),
        (Crashed(error=ERROR), RunAgain),
        (Interrupted(), HandBack),
        (UnknownFunction(error=ERROR), Park),
    ],
)
def test_each_outcome_of_a_first_run_has_its_verdict(outcome: Outcome, verdict: type) -> None:
    assert type(retry.decide(envelope(), Limits(), outcome, NOW)) is verdict


@pytest.mark.parametrize("outcome", [Failed(error=ERROR), TimedOut(error=ERROR), RetryAsked(error=ERROR, after_s=1)])
def test_the_last_attempt_that_fails_is_dead(outcome: Outcome) -> None:
    assert isinstance(retry.decide(envelope(attempt=2), Limits(max_attempts=4), outcome, NOW), RunAgain)
    assert retry.decide(envelope(attempt=3), Limits(max_attempts=4), outcome, NOW) == Dead(error=ERROR)


def test_an_asked_wait_is_kept_and_counts_as_an_attempt() -> None:
    verdict = retry.decide(envelope(), Limits(), RetryAsked(error=ERROR, after_s=5), NOW)
    assert verdict == RunAgain(delay_s=5, error=ERROR, counted=True, exact=True)


def test_crashes_have_a_budget_of_their_own() -> None:
    crashed = Crashed(error=Error(reason="crash", message="SIGSEGV", signal="SIGSEGV"))
    for crashes in (0, 1):
        verdict = retry.decide(envelope(crashes=crashes), Limits(max_attempts=1), crashed, NOW)
        assert isinstance(verdict, RunAgain)
        assert not verdict.counted
    assert isinstance(retry.decide(envelope(crashes=2), Limits(max_attempts=99), crashed, NOW), Dead)


def test_an_unknown_function_waits_a_day_then_dies() -> None:
    unknown = UnknownFunction(error=ERROR)
    assert retry.decide(envelope(), Limits(), unknown, NOW) == Park(delay_s=12.8, error=ERROR)
    parked_ms = int((NOW - 3600) * 1000)
    assert retry.decide(envelope(parked_since_ms=parked_ms), Limits(), unknown, NOW) == Park(delay_s=102.4, error=ERROR)
    day_ago_ms = int((NOW - 86_401) * 1000)
    assert retry.decide(envelope(parked_since_ms=day_ago_ms), Limits(), unknown, NOW) == Dead(error=ERROR)


@given(
    attempt=st.integers(0, 5000),
    copy=st.integers(0, 5000),
    first_s=st.floats(0.0, 1e6),
    largest_s=st.floats(0.0, 1e6),
)
def test_a_backoff_lies_between_one_unit_of_the_ladder_and_its_ceiling(
    attempt: int, copy: int, first_s: float, largest_s: float
) -> None:
    limits = Limits(max_attempts=1_000_000, backoff_s=first_s, backoff_max_s=largest_s)
    verdict = retry.decide(envelope(attempt=attempt, copy=copy), limits, Failed(error=ERROR), NOW)
    assert isinstance(verdict, RunAgain)
    assert retry.MIN_DELAY_S <= verdict.delay_s <= max(retry.MIN_DELAY_S, largest_s)


@given(attempt=st.integers(1, 60))
def test_the_ceiling_doubles_until_the_largest(attempt: int) -> None:
    limits = Limits(backoff_s=10, backoff_max_s=3600)
    here, following = retry.backoff_ceiling(limits, attempt), retry.backoff_ceiling(limits, attempt + 1)
    assert following == min(3600, here * 2)


def test_the_same_decision_is_the_same_twice_and_differs_between_jobs() -> None:
    one = envelope()
    failed = Failed(error=ERROR)
    assert retry.decide(one, Limits(), failed, NOW) == retry.decide(one, Limits(), failed, NOW + 5)
    delays = {retry.decide(envelope(), Limits(), failed, NOW).delay_s for _ in range(50)}  # type: ignore[union-attr]
    assert len(delays) > 40  # those below the least delay are all the least


def test_full_jitter_spreads_over_the_whole_range() -> None:
    delays = [retry.backoff(envelope(), Limits(), 1) for _ in range(400)]
    assert min(delays) < 1.5
    assert max(delays) > 8.5
    assert 4 < sum(delays) / len(delays) < 6


def test_limits_come_from_the_job_then_the_function_then_the_defaults() -> None:
    plain = Job(v=1, id="0" * 16, queue="q", iat=time.time(), task="tasks:add")
    own = Job(
        v=1, id="0" * 16, queue="q", iat=0.0, task="t:a", max_attempts=2, backoff_s=1, backoff_max_s=5, timeout_s=9
    )
    spec = FunctionSpec(name="tasks:add", retries=7, backoff_s=3, backoff_max_s=30, timeout_s=60)
    assert retry.limits_of(plain, None) == Limits(max_attempts=4, backoff_s=10, backoff_max_s=3600, timeout_s=None)
    assert retry.limits_of(plain, spec) == Limits(max_attempts=8, backoff_s=3, backoff_max_s=30, timeout_s=60)
    assert retry.limits_of(own, spec) == Limits(max_attempts=2, backoff_s=1, backoff_max_s=5, timeout_s=9)


def test_no_retries_means_one_attempt() -> None:
    spec = FunctionSpec(name="tasks:add", retries=0)
    limits = retry.limits_of(seal(new_job(queue="q", task="tasks:add")).job, spec)
    assert isinstance(retry.decide(envelope(), limits, Failed(error=ERROR), NOW), Dead)
