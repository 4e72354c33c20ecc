"""Cancelled jobs are remembered in few bytes, and exactly."""

import random
import tracemalloc

from jobrunner.worker.cancelled import CancelledJobs
from jobrunner.worker.delivered import CancelNote

LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
NOTE = CancelNote("typo", "ann@web3")


def ids(count: int, seed: int = 1) -> list[str]:
    """In few buckets, so that each of them has many."""
    chance = random.Random(seed)
    return ["00" + "".join(chance.choices(LETTERS, k=14)) for _ in range(count)]


def test_the_answers_are_those_of_a_table_with_everything_in_it() -> None:
    chance = random.Random(1)
    known, asked = ids(3000), ids(3000, seed=2)
    table: dict[str, tuple[int, CancelNote]] = {}
    cancelled = CancelledJobs()
    for step in range(300):
        note = CancelNote(f"reason {step % 200}", None)
        jobs = {job_id: chance.choice([0, 0, 0, 1, 7]) for job_id in chance.sample(known, 20)}
        cancelled.add(jobs, note)
        for job_id, chain in jobs.items():
            table[job_id] = (max(chain, table.get(job_id, (0, note))[0]), note)
    for job_id in known + asked:
        for chain in (0, 1, 2, 7, 8):
            last, note = table.get(job_id, (-1, NOTE))
            assert cancelled.find(job_id, chain) == (note if chain <= last else None)


def test_an_id_that_lies_across_two_others_is_not_found() -> None:
    cancelled = CancelledJobs()
    for number in range(ord("a")):
        cancelled.add({"0" * 16: 0}, CancelNote(f"reason {number}", None))
    cancelled.add({"1" * 16: 0}, NOTE)  # its note has the number of the letter "a"
    cancelled.add({"111bcdefghjkmnpq": 0}, NOTE)
    assert cancelled.find("111abcdefghjkmnp", 0) is None
    assert cancelled.find("111bcdefghjkmnpq", 0) == NOTE


def test_what_has_not_the_form_of_an_id_is_no_job() -> None:
    cancelled = CancelledJobs()
    odd = ["", "0", "000", "0" * 15, "0" * 17, "u" * 16, "00000000000000\u00e9", "\ud800" * 16]
    cancelled.add(dict.fromkeys([*odd, "0" * 16], 0), NOTE)
    assert [cancelled.find(text, 0) for text in odd] == [None] * len(odd)
    assert cancelled.find("0" * 16, 0) == NOTE


def test_an_id_takes_a_few_bytes() -> None:
    jobs = dict.fromkeys(ids(10_000), 0)
    cancelled = CancelledJobs()
    tracemalloc.start()
    try:
        cancelled.add(jobs, NOTE)
        size_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size_bytes < 40 * len(jobs)  # 17, and what grows ahead; as objects they took 180
