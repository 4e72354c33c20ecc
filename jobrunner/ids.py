"""Ids of jobs: 80 bits as 16 characters, random or of what they stand for."""

import hashlib
import os
import re
import secrets
from typing import Final

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(first + second for first in _CROCKFORD for second in _CROCKFORD)
_ID_BYTES: Final = 10
_ID_LENGTH: Final = 16
_IDS_AT_ONCE: Final = 64
_LETTERS: Final = bytes(ord(_CROCKFORD[byte % 32]) for byte in range(256))
"""For each byte one of 32 letters, each of them as likely as the others: 5 bits of randomness."""
ID_PATTERN: Final = "^[0-9a-hjkmnp-tv-z]{16}$"
_ID = re.compile(ID_PATTERN[1:-1])

_ids: Final[list[str]] = []
"""Made ahead: each look into the system's randomness is a system call, during which other threads take over."""

# a copy of this process must not give the ids that are made ahead a second time
os.register_at_fork(after_in_child=_ids.clear)


def new_id() -> str:
    """A random job id: 80 bits as 16 characters of lower-case Crockford base32. From any thread."""
    try:
        return _ids.pop()
    except IndexError:
        letters = secrets.token_bytes(_ID_LENGTH * _IDS_AT_ONCE).translate(_LETTERS).decode()
        made = [letters[at : at + _ID_LENGTH] for at in range(0, len(letters), _ID_LENGTH)]
        _ids.extend(made[1:])
        return made[0]


def id_of(*parts: bytes) -> str:
    """The id that belongs to these bytes: the first 80 bits of their SHA-256."""
    return _encode_id(hashlib.sha256(b"\0".join(parts)).digest()[:_ID_BYTES])


def _encode_id(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(70, -1, -10)])


def is_id(text: str) -> bool:
    """Whether `text` has the form of a job id."""
    return _ID.fullmatch(text) is not None
