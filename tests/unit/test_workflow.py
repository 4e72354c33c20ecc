"""Which waiting jobs may run: the same in whatever order it is heard, and however often."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import attempts, events
from jobrunner.envelope import After, new_job, seal
from jobrunner.outcome import Error, Release
from jobrunner.workflow import Book, Drop

A, B, WAITER = "a" * 16, "b" * 16, "w" * 16
RAN = attempts.Run(worker="w1", host="h", pid=1, started_at=1.0, ended_at=2.0)
ENDS = ("succeeded", "dead", "cancelled", "expired")


def end(job_id: str, state: str, *, run: str | None = None, chain: int = 0, failed: int = 0) -> events.Event:
    facts = {"at": 5.0, "id": job_id, "run": run, "chain": chain}
    match state:
        case "succeeded":
            return events.Succeeded(ran=RAN, failed=failed, **facts)
        case "dead":
            return events.Dead(error=Error(reason="error", message="boom"), queue="q", **facts)
        case "cancelled":
            return events.Cancelled(reason="", **facts)
        case _:
            return events.Expired(expires_at=1.0, **facts)


def queued(job_id: str, run: str, chain: int) -> events.Event:
    body = seal(new_job(queue="q", task="tasks:add", job_id=job_id, run=run)).body
    return events.Queued(at=1.0, run=run, jobs=[events.QueuedJob(job=msgspec.Raw(body), chain=chain)])


def decided(after: After, *told: events.Event) -> Release | Drop | None:
    book = Book()
    book.add(WAITER, after)
    for event in told:
        book.take(event)
    return book.decide(WAITER)


@pytest.mark.parametrize(
    ("when", "states", "runs"),
    [
        ("success", ("succeeded", "succeeded"), True),
        ("success", ("succeeded", "dead"), False),
        ("success", ("cancelled", None), False),
        ("success", ("succeeded", None), None),
        ("failure", ("succeeded", "succeeded"), False),
        ("failure", ("succeeded", "expired"), True),
        ("failure", ("dead", None), None),
        ("end", ("succeeded", "dead"), True),
        ("end", ("dead", None), None),
    ],
)
def test_whether_it_runs_is_decided_by_how_the_others_ended(
    when: str, states: tuple[str | None, ...], runs: bool | None
) -> None:
    told = [end(job_id, state) for job_id, state in zip((A, B), states, strict=True) if state is not None]
    found = decided(After(jobs={A: 0, B: 0}, when=when, since=0.0), *told)  # type: ignore[arg-type]
    assert {Release: True, Drop: False}.get(type(found)) is runs


def test_the_reason_names_the_job_and_its_end() -> None:
    found = decided(After(jobs={A: 0}, since=0.0), end(A, "dead"))
    assert found == Drop("it waited for the success of aaaaaaaa, which died")


def test_an_end_of_an_earlier_chain_is_not_the_one_that_is_waited_for() -> None:
    after = After(jobs={A: 1}, since=0.0)
    assert decided(after, end(A, "dead")) is None
    assert isinstance(decided(after, end(A, "dead"), end(A, "succeeded", chain=1)), Release)


def test_a_run_has_ended_when_all_of_its_jobs_are_queued_and_have_ended() -> None:
    after = After(run="r", since=0.0)
    ends = [end(A, "succeeded", run="r"), end(B, "succeeded", run="r")]
    sealed = events.Sealed(at=1.0, run="r", total=2)
    assert decided(after, *ends) is None
    assert decided(after, sealed, ends[0], ends[0]) is None
    assert isinstance(decided(after, sealed, *ends), Release)
    assert isinstance(decided(after, *ends, sealed), Release)


def test_a_member_that_was_retried_by_hand_goes_on_and_counts_by_its_last_end() -> None:
    after = After(run="r", since=0.0)
    told = [end(A, "dead", run="r"), end(B, "succeeded", run="r"), queued(A, "r", 1)]
    sealed = events.Sealed(at=1.0, run="r", total=2)
    assert decided(after, *told, sealed) is None
    assert isinstance(decided(after, *told, sealed, end(A, "succeeded", run="r", chain=1)), Release)
    assert isinstance(decided(after, *told, sealed, end(A, "dead", run="r", chain=1)), Drop)


def test_of_two_ends_of_one_chain_success_counts_in_whatever_order() -> None:
    seal = events.Sealed(at=1.0, run="r", total=1)
    ends = [end(IDS[0], "dead", run="r"), end(IDS[0], "succeeded", run="r")]
    after = After(run="r", when="success", since=0.0)
    assert decided(after, seal, *ends) == decided(after, *reversed(ends), seal) == Release()


def test_what_is_no_job_is_passed_over() -> None:
    odd = events.Queued(at=1.0, run="r", jobs=[events.QueuedJob(job=msgspec.Raw(b"{}"), chain=1)])
    after = After(run="r", when="success", since=0.0)
    assert decided(after, odd, events.Sealed(at=1.0, run="r", total=1)) is None


def test_inputs_without_a_job_and_calls_within_batches_count_as_failures() -> None:
    after = After(run="r", when="failure", since=0.0)
    batch = end(A, "succeeded", run="r", failed=3)
    assert isinstance(decided(after, batch, events.Sealed(at=1.0, run="r", total=1)), Drop)
    assert isinstance(decided(after, batch, events.Sealed(at=1.0, run="r", total=1, parts=True)), Release)
    assert isinstance(decided(after, batch, events.Sealed(at=1.0, run="r", total=1, failed=1)), Release)


def test_the_last_seal_of_a_run_counts() -> None:
    told = [events.Sealed(at=2.0, run="r", total=2), events.Sealed(at=1.0, run="r", total=1)]
    assert decided(After(run="r", since=0.0), *told, end(A, "succeeded", run="r")) is None


def test_what_nobody_waits_for_is_forgotten() -> None:
    book = Book()
    assert book.add(WAITER, After(jobs={A: 0}, since=0.0)) == [("job", A)]
    assert book.add("x" * 16, After(jobs={A: 0}, since=0.0)) == []
    assert book.take(end(A, "succeeded")) == {WAITER, "x" * 16}
    assert book.remove(WAITER) == []
    assert book.remove("x" * 16) == [("job", A)]
    assert book.take(end(A, "succeeded")) == set()


IDS = [f"{number:016d}" for number in range(4)]
histories = st.lists(
    st.tuples(st.sampled_from(IDS), st.integers(0, 2), st.sampled_from(ENDS)),
    max_size=12,
    unique_by=lambda each: each[:2],
)


@given(histories, st.randoms(use_true_random=False), st.sampled_from(["success", "failure", "end"]))
def test_order_and_repetition_change_nothing(history: list[tuple[str, int, str]], random: object, when: str) -> None:
    # only what has failed is retried by hand
    ends = {(job_id, chain): state for job_id, chain, state in history}
    told = [events.Sealed(at=1.0, run="r", total=len({job_id for job_id, _ in ends}))]
    for (job_id, chain), state in ends.items():
        is_last = all(other <= chain for one, other in ends if one == job_id)
        told.append(end(job_id, state if is_last or state != "succeeded" else "dead", run="r", chain=chain))
        if chain:
            told.append(queued(job_id, "r", chain))
    shuffled = told * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    after = After(jobs=dict.fromkeys(IDS[:1], 0), run="r", when=when, since=0.0)  # type: ignore[arg-type]
    assert decided(after, *told) == decided(after, *shuffled)
