"""Which of several equal inputs one is: counted for millions of inputs in some bytes each."""

_REST_BYTES = 6


class Nths:
    """Counts how often each text has come, about ten bytes for each different one.

    A text stands for 64 bits of its hash: one collision is to be expected in some thousands of millions of texts, and
    then a number is skipped, which harms nothing.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, bytearray] = {}
        self._again: dict[int, int] = {}

    def next(self, text: str) -> int:
        """1 for the first time that this text comes, 2 for the second, and so on."""
        number = hash(text) & 0xFFFF_FFFF_FFFF_FFFF
        key, rest = number & 0xFFFF, (number >> 16).to_bytes(_REST_BYTES, "big")
        bucket = self._buckets.get(key)
        if bucket is None:
            self._buckets[key] = bytearray(rest)
            return 1
        at = bucket.find(rest)
        while at >= 0 and at % _REST_BYTES:
            at = bucket.find(rest, at + 1)
        if at < 0:
            bucket += rest
            return 1
        count = self._again.get(number, 1) + 1
        self._again[number] = count
        return count
