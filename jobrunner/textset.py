"""Texts remembered in some bytes each: for millions of them."""

_REST_BYTES = 6


class TextSet:
    """A set of texts, about ten bytes for each.

    A text stands for 64 bits of its hash: one collision is to be expected in some thousands of millions of texts.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, bytearray] = {}

    def add(self, text: str) -> bool:
        """Put it in; gives whether it was there before."""
        number = hash(text) & 0xFFFF_FFFF_FFFF_FFFF
        key, rest = number & 0xFFFF, (number >> 16).to_bytes(_REST_BYTES, "big")
        bucket = self._buckets.get(key)
        if bucket is None:
            self._buckets[key] = bytearray(rest)
            return False
        if _holds(bucket, rest):
            return True
        bucket += rest
        return False

    def __contains__(self, text: str) -> bool:
        number = hash(text) & 0xFFFF_FFFF_FFFF_FFFF
        return _holds(self._buckets.get(number & 0xFFFF, b""), (number >> 16).to_bytes(_REST_BYTES, "big"))


def _holds(bucket: bytearray | bytes, rest: bytes) -> bool:
    at = bucket.find(rest)
    while at >= 0 and at % _REST_BYTES:
        at = bucket.find(rest, at + 1)
    return at >= 0
