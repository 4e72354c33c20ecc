"""A million changed messages at the worker's door. JOBRUNNER_MUTATIONS and JOBRUNNER_SEED draw others, or more."""

import os
import time
from collections import Counter

import pytest

from tests.support.mutation import Mutants, check, modules


@pytest.mark.timeout(3600)
def test_none_of_a_million_changed_messages_gets_in() -> None:
    count = int(os.environ.get("JOBRUNNER_MUTATIONS", "1000000"))
    seed = int(os.environ.get("JOBRUNNER_SEED", "1"))
    mutants, came = Mutants(seed), Counter[str]()
    check(*mutants.draw())
    before, began = modules(), time.monotonic()
    for number in range(count):
        message = mutants.draw()
        try:
            came[check(*message)] += 1
        except BaseException:
            print(f"seed {seed}, message {number}: {message!r} {message[0].body!r} {message[0].headers!r}")
            raise
    assert modules() == before
    print(f"{count} messages of seed {seed} in {time.monotonic() - began:.0f} s: {dict(came)}")
