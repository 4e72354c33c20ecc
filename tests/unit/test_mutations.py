"""Valid messages, changed at random, with a fixed seed; a million of them are in tests/stress/test_mutations.py."""

from collections import Counter

from tests.support.mutation import Mutants, check, modules


def test_a_changed_message_is_refused_and_never_more() -> None:
    mutants, came = Mutants(1), Counter[str]()
    check(*mutants.draw())
    before = modules()
    for _ in range(5_000):
        came[check(*mutants.draw())] += 1
    assert modules() == before
    assert came["malformed"] > 1_000
    assert came["runs"] > 100, "changes that leave a job valid are among them"
    assert {"dead", "park", "redelay"} <= came.keys()
