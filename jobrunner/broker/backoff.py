"""How long to wait before something is tried again."""

import random

BACKOFF_FIRST_S = 0.5
BACKOFF_LARGEST_S = 10.0
"""Less than the time after which other workers take this one for dead (`worker --lost-after`, 15 s)."""


def jittered(tries: int, first_s: float = BACKOFF_FIRST_S, largest_s: float = BACKOFF_LARGEST_S) -> float:
    """Full jitter: a random time in seconds whose upper bound doubles with each try, counted from 0."""
    ceiling_s = min(largest_s, 2 * first_s * 2 ** min(tries, 30))
    return random.uniform(first_s, ceiling_s)  # noqa: S311 - spreads reconnects, guards nothing
