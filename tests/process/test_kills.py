import asyncio

from tests.support.kills import kill_at_random


def test_a_child_killed_at_a_random_instant_costs_its_job_at_most_and_that_has_one_end() -> None:
    ends = asyncio.run(kill_at_random(kills=150, seed=1))
    assert ends["Crashed"] > 5
    assert ends["Succeeded"] > 5
