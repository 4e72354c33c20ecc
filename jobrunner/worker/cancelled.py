"""Which jobs are cancelled, and why: some 25 bytes for each, since the stream of cancels may hold millions of them."""

from collections.abc import Mapping
from typing import Final

from jobrunner.ids import is_id
from jobrunner.worker.delivered import CancelNote

_KEY: Final = 3
"""Letters of an id by which it is put into one of 32,768 buckets."""

_REST_BYTES: Final = 13
_ENTRY_BYTES: Final = _REST_BYTES + 4


class CancelledJobs:
    """Job ids, each with its chain and note.

    A bucket holds the other letters of each of its ids, and the number of a chain and note, which thousands of ids
    share. What has not the form of an id is left out: no job has it.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, bytearray] = {}
        self._notes: list[tuple[int, CancelNote]] = []
        self._numbers: dict[tuple[int, CancelNote], int] = {}

    def add(self, jobs: Mapping[str, int], note: CancelNote) -> None:
        """These are cancelled, id -> chain, and for this reason; of one that was before the higher chain counts."""
        numbers = {chain: self._number(max(chain, 0), note) for chain in set(jobs.values())}
        for job_id, chain in jobs.items():
            if not is_id(job_id):
                continue
            key, rest = job_id[:_KEY], job_id[_KEY:].encode()
            bucket = self._buckets.get(key)
            if bucket is None:
                self._buckets[key] = bytearray(rest + numbers[chain])
            elif (at := _find(bucket, rest)) < 0:
                bucket += rest + numbers[chain]
            else:
                known, _ = self._note(bucket, at)
                bucket[at + _REST_BYTES : at + _ENTRY_BYTES] = self._number(max(chain, known), note)

    def find(self, job_id: str, chain: int) -> CancelNote | None:
        """Why an attempt of this chain must not start, or None."""
        bucket = self._buckets.get(job_id[:_KEY])
        if bucket is None or not is_id(job_id) or (at := _find(bucket, job_id[_KEY:].encode())) < 0:
            return None
        last, note = self._note(bucket, at)
        return note if chain <= last else None

    def _note(self, bucket: bytearray, at: int) -> tuple[int, CancelNote]:
        return self._notes[int.from_bytes(bucket[at + _REST_BYTES : at + _ENTRY_BYTES], "big")]

    def _number(self, chain: int, note: CancelNote) -> bytes:
        """The place of this chain and note among all, in four bytes."""
        number = self._numbers.setdefault((chain, note), len(self._notes))
        if number == len(self._notes):
            self._notes.append((chain, note))
        return number.to_bytes(_ENTRY_BYTES - _REST_BYTES, "big")


def _find(bucket: bytearray, rest: bytes) -> int:
    """Where the entry of that rest begins, or -1."""
    at = bucket.find(rest)
    while at >= 0 and at % _ENTRY_BYTES:  # the end of one entry and the beginning of the next may look like it
        at = bucket.find(rest, at + 1)
    return at
