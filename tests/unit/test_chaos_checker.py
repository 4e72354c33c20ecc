"""The checker of chaos runs sees what is planted: a checker that lets things pass would prove anything."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.stress.chaos.case import Evidence
from tests.stress.chaos.checker import ENOUGH, check

ALPHA, BETA = 100, 200


def honest() -> Evidence:
    """Four jobs, one of which ran twice because its worker was killed; two dead ones; a hostile message."""
    evidence = Evidence(read_to_end=True, left={"main": 0})
    evidence.starts = [
        {"do": "started", "kind": "worker", "name": "alpha", "pid": ALPHA, "t": 0.0},
        {"do": "started", "kind": "worker", "name": "beta", "pid": BETA, "t": 0.0},
    ]
    evidence.faults = [{"kind": "worker_killed", "start": 10.0, "end": 10.0, "scope": ["alpha"], "most": 2}]
    for number, kind in enumerate(["quick", "quick", "fails", "crash"]):
        intent(evidence, f"job{number}", kind, 1.0 + number)
    run(evidence, "job0", 2.0, 2.1)
    run(evidence, "job1", 9.9, None)
    run(evidence, "job1", 10.5, 10.6, worker=BETA)
    for attempt in (1, 2, 3):
        run(evidence, "job2", 4.0 + attempt, None, attempt=attempt)
        run(evidence, "job3", 5.0 + attempt, None)
    evidence.events = [
        {"kind": "succeeded", "id": "job0", "copy": 0, "result": "job0 1 2000"},
        {"kind": "succeeded", "id": "job1", "copy": 0, "result": "job1 1 10500"},
        {"kind": "retrying", "id": "job2", "attempt": 1},
        {"kind": "retrying", "id": "job2", "attempt": 2},
        {"kind": "dead", "id": "job2", "copy": 2, "error": {"reason": "error"}},
        {"kind": "dead", "id": "job3", "copy": 2, "error": {"reason": "crash"}},
    ]
    evidence.producers += [{"do": "hostile", "sha256": "f00d"}, {"do": "hostile-ok", "sha256": "f00d"}]
    evidence.dead = [{"id": "job2"}, {"id": "job3"}, {"id": "h", "jr-sha256": "f00d"}]
    return evidence


def intent(evidence: Evidence, job_id: str, kind: str, t: float, word: str = "ok", queue: str = "main") -> None:
    evidence.producers += [
        {"do": "intent", "id": job_id, "kind": kind, "queue": queue, "t": t},
        {"do": word, "id": job_id, "t": t},
    ]


def run(
    evidence: Evidence, job_id: str, start: float, end: float | None, attempt: int = 1, worker: int = ALPHA
) -> None:
    pid = int(start * 1000)
    evidence.witness.append(("start", job_id, attempt, pid, worker, start))
    if end is not None:
        evidence.witness.append(("end", job_id, attempt, pid, worker, end))


def test_an_honest_run_passes_with_its_figures() -> None:
    verdict = check(honest())
    assert verdict.violations == []
    wanted = {"jobs": 4, "confirmed": 4, "ended": 4, "lost": 0, "repeated_explained": 1, "repeated_unexplained": 0}
    assert wanted.items() <= verdict.figures.items()


def lose(evidence: Evidence) -> None:
    evidence.events = [event for event in evidence.events if event["id"] != "job0"]


def lose_what_was_queued_after_its_queue_was_deleted(evidence: Evidence) -> None:
    evidence.faults.append({**BROKER, "kind": "queue_deleted", "deleted": "doomed"})
    intent(evidence, "job9", "quick", 60.0, queue="doomed")


def repeat(evidence: Evidence) -> None:
    run(evidence, "job0", 2.2, 2.3, worker=BETA)


def repeat_too_late(evidence: Evidence) -> None:
    run(evidence, "job0", 200.0, 200.1, worker=BETA)


def repeat_on_a_worker_that_no_fault_touched(evidence: Evidence) -> None:
    run(evidence, "job0", 2.0, 2.3, worker=BETA)
    evidence.faults[0]["scope"] = []


def repeat_more_than_the_fault_had_in_hand(evidence: Evidence) -> None:
    for number in range(3):
        intent(evidence, f"more{number}", "quick", 9.0)
        run(evidence, f"more{number}", 9.8 + number / 100, None)
        run(evidence, f"more{number}", 10.7, 10.8, worker=BETA)
        evidence.events.append({"kind": "succeeded", "id": f"more{number}"})


def pretend_success(evidence: Evidence) -> None:
    evidence.witness = [line for line in evidence.witness if line[:2] != ("end", "job0")]


def pretend_success_of_what_never_ran(evidence: Evidence) -> None:
    intent(evidence, "job9", "quick", 3.0)
    evidence.events.append({"kind": "succeeded", "id": "job9"})


def run_what_was_refused(evidence: Evidence) -> None:
    intent(evidence, "job9", "quick", 3.0, word="nothing")
    run(evidence, "job9", 3.1, 3.2)
    evidence.events.append({"kind": "succeeded", "id": "job9"})


def begin_what_was_not_confirmed_and_lose_it(evidence: Evidence) -> None:
    intent(evidence, "job9", "quick", 3.0, word="unknown")
    run(evidence, "job9", 3.1, 3.2)


def run_what_nobody_enqueued(evidence: Evidence) -> None:
    run(evidence, "stranger", 3.1, 3.2)


def end_in_two_ways(evidence: Evidence) -> None:
    evidence.events.append({"kind": "dead", "id": "job0", "error": {"reason": "error"}})
    evidence.dead.append({"id": "job0"})


def end_wrongly(evidence: Evidence) -> None:
    evidence.events[0] = {"kind": "dead", "id": "job0", "error": {"reason": "timeout"}}
    evidence.dead.append({"id": "job0"})


def lose_a_dead_letter(evidence: Evidence) -> None:
    del evidence.dead[0]


def lose_a_hostile_message(evidence: Evidence) -> None:
    del evidence.dead[2]


def copy_a_header(evidence: Evidence) -> None:
    evidence.dead[0] |= {"jr-reason": "error", "x-death": []}


def leave_a_message(evidence: Evidence) -> None:
    evidence.left["main"] = 1


def leave_a_process(evidence: Evidence) -> None:
    evidence.processes.append("4711 python")


def overlap(evidence: Evidence) -> None:
    """The worker was killed, and its job went on all the same."""
    run(evidence, "job2", 8.0, 15.0, attempt=4)
    run(evidence, "job2", 10.4, 10.5, attempt=4, worker=BETA)


def grow(evidence: Evidence) -> None:
    evidence.sizes["alpha"] = ({"fds": 20, "rss_kib": 30_000}, {"fds": 200, "rss_kib": 30_000})


def recover_slowly(evidence: Evidence) -> None:
    for number in range(ENOUGH):
        t = 1000.0 + number * 100
        evidence.faults.append({"kind": "wire_cut", "start": t, "end": t, "scope": ["alpha"], "most": 0})
        intent(evidence, f"slow{number}", "quick", t)
        run(evidence, f"slow{number}", t + (20.0 if number < 2 else 0.1), t + 20.1)
        evidence.events.append({"kind": "succeeded", "id": f"slow{number}"})
    intent(evidence, "last", "quick", 20_000.0, word="nothing")


def start_early(evidence: Evidence) -> None:
    next(line for line in evidence.producers if line["do"] == "intent" and line["id"] == "job0")["delay"] = 2.0


def try_a_fourth_time(evidence: Evidence) -> None:
    evidence.events.append({"kind": "retrying", "id": "job2", "attempt": 3})
    run(evidence, "job2", 8.0, None, attempt=4)


def try_again_without_a_word(evidence: Evidence) -> None:
    evidence.events = [event for event in evidence.events if event["kind"] != "retrying"]


def bring_the_result_of_another(evidence: Evidence) -> None:
    evidence.events[0]["result"] = evidence.events[1]["result"]


def read_half(evidence: Evidence) -> None:
    evidence.read_to_end = False


def strike_too_seldom(evidence: Evidence) -> None:
    evidence.wanted = {"worker_killed": 1, "broker_killed": 1}


BROKER: dict[str, Any] = {"start": 50.0, "end": 51.0, "scope": ["alpha", "beta"], "most": 4}


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lose, "I1 a confirmed job"),
        (lose_what_was_queued_after_its_queue_was_deleted, "I1 a confirmed job"),
        (lose_a_hostile_message, "I1 a hostile message"),
        (pretend_success, "I2"),
        (pretend_success_of_what_never_ran, "I2"),
        (run_what_was_refused, "I3"),
        (begin_what_was_not_confirmed_and_lose_it, "I4"),
        (end_in_two_ways, "I5 one run and two ends"),
        (end_wrongly, "I5 the wrong end"),
        (repeat, "I6"),
        (repeat_too_late, "I6"),
        (repeat_on_a_worker_that_no_fault_touched, "I6"),
        (repeat_more_than_the_fault_had_in_hand, "I6"),
        (run_what_nobody_enqueued, "I7"),
        (lose_a_dead_letter, "I8 said to be dead"),
        (copy_a_header, "I8 what the broker had written"),
        (leave_a_message, "I8 messages are left"),
        (leave_a_process, "I8 processes are left"),
        (grow, "I8 a worker has grown"),
        (overlap, "I9"),
        (recover_slowly, "I10"),
        (start_early, "I11"),
        (try_a_fourth_time, "I12 a job was tried more often"),
        (try_again_without_a_word, "I12 a second try"),
        (bring_the_result_of_another, "I13"),
        (read_half, "I14 the ledger was not read"),
        (strike_too_seldom, "I14 a fault struck too seldom"),
    ],
)
def test_what_is_planted_is_found(plant: Callable[[Evidence], None], found: str) -> None:
    evidence = honest()
    plant(evidence)
    assert any(violation.startswith(found) for violation in check(evidence).violations)


def test_one_loss_among_many_is_found_wherever_it_is() -> None:
    draw = random.Random(7)
    crowd = honest()
    for number in range(300):
        intent(crowd, f"many{number}", "quick", 20.0 + number)
        run(crowd, f"many{number}", 20.1 + number, 20.2 + number)
        crowd.events.append({"kind": "succeeded", "id": f"many{number}"})
    assert check(crowd).passed
    for number in draw.sample(range(300), 20):
        robbed = copy.deepcopy(crowd)
        robbed.events = [event for event in robbed.events if event["id"] != f"many{number}"]
        assert check(robbed).violations == [f"I1 a confirmed job has not ended (1): many{number} quick"]


def test_what_waited_in_a_deleted_queue_is_lost_by_wish() -> None:
    evidence = honest()
    evidence.faults.append({**BROKER, "kind": "queue_deleted", "deleted": "doomed"})
    intent(evidence, "job9", "quick", 49.0, queue="doomed")
    verdict = check(evidence)
    assert verdict.passed
    assert verdict.figures["deleted_with_their_queue"] == 1


def test_a_second_publish_of_what_was_not_confirmed_explains_a_second_run() -> None:
    evidence = honest()
    intent(evidence, "job9", "quick", 3.0, word="unknown")
    evidence.producers += [{"do": "resend", "id": "job9"}, {"do": "ok", "id": "job9"}]
    run(evidence, "job9", 3.1, 3.2)
    run(evidence, "job9", 3.1, 3.2, worker=BETA)
    evidence.events.append({"kind": "succeeded", "id": "job9"})
    assert check(evidence).passed


@pytest.mark.parametrize(
    ("faults", "reason", "passes"), [(5, "poison", True), (3, "poison", False), (5, "error", False)]
)
def test_a_second_end_as_poison_takes_five_faults(faults: int, reason: str, passes: bool) -> None:
    evidence = honest()
    evidence.faults += [{**BROKER, "kind": "broker_killed", "start": t, "end": t} for t in range(5, 4 + faults)]
    evidence.events.append({"kind": "dead", "id": "job0", "error": {"reason": reason}})
    evidence.dead.append({"id": "job0"})
    assert check(evidence).passed is passes


def test_a_fault_long_ago_explains_a_second_run_only_where_it_says_that_it_reaches_so_far() -> None:
    evidence = honest()
    evidence.faults[0] |= {"start": -100.0, "end": -100.0}
    assert any(text.startswith("I6 ") for text in check(evidence).violations)
    evidence.faults[0]["reach"] = 180.0
    assert not any(text.startswith("I6 ") for text in check(evidence).violations)
