"""What is signed, and what is believed: over raw bytes, before anything of them is read.

`lp(x)` is the length of x in 4 bytes, big-endian, and x. Each use has its own domain, so that no signature serves two.
vhost and queue are the reader's own: a message moved elsewhere does not verify there.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from jobrunner.errors import KeyCannotSign
from jobrunner.keyring import KID, Key, KeyRing

VALID_S: Final = 30 * 86_400.0
"""A signed job counts for so long after it was due."""

LEEWAY_S: Final = 300.0
"""Clocks differ."""

JOB_ROLES: Final = ("producer", "operator")
STATE_ROLES: Final = ("producer", "worker", "operator")
PRODUCER_KINDS: Final = frozenset({"queued", "sealed"})
OPERATOR_KINDS: Final = frozenset({*PRODUCER_KINDS, "cancel", "pause", "cancelled", "dead"})
WORKER_VERBS: Final = frozenset({"hello", "bye", "owner", "ended", "returned"})
"""What workers say among themselves."""
ASKING_VERBS: Final = frozenset({"ping"})
"""What workers may ask as well, and changes nothing: whether their name is free, and whether they are well."""
JOB_HEADERS: Final = ("jr-kid", "jr-alg", "jr-exp", "jr-sig")
STATE_HEADERS: Final = ("jr-state-kid", "jr-state-alg", "jr-state-sig")
NO_STATE: Final = frozenset({*JOB_HEADERS, *STATE_HEADERS})
_LONGEST: Final = 128

Headers = Mapping[str, object]
Signature = dict[str, int | str]


class Refused(msgspec.Struct, frozen=True):
    """Why a message is not believed. reason: `unsigned`, `bad_signature` or `signature_expired`."""

    reason: str
    message: str


def _lp(*parts: bytes) -> bytes:
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def _input(domain: bytes, key: Key, *parts: bytes) -> bytes:
    return b"jobrunner/" + domain + b"/1\0" + _lp(key.alg.encode(), key.kid.encode(), *parts)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# --- jobs -----------------------------------------------------------------------------------------------------------


def _job_input(key: Key, where: tuple[str, str], message_id: str, exp: int, body: bytes) -> bytes:
    vhost, queue = where
    return _input(b"job", key, _utf8(vhost), _utf8(queue), _utf8(message_id), b"%d" % exp, body)


def _state_input(key: Key, message_id: str, body: bytes, headers: Headers) -> bytes:
    """Every header of ours is part of it but the signatures: what a job waits for, how often it ran, why it died."""
    state = [
        _utf8(f"{name}={'s' if isinstance(value, str) else 'i'}{value}")
        for name, value in sorted(_ours(headers))
        if name not in NO_STATE
    ]
    return _input(b"state", key, _utf8(message_id), hashlib.sha256(body).digest(), *state)


def sign_job(
    ring: KeyRing, where: tuple[str, str], message_id: str, body: bytes, headers: Mapping[str, int | str]
) -> Signature:
    """The headers of a job with its signatures. One that has a signature of its own keeps it; its state is signed anew.

    where: vhost and queue. Raises: KeyCannotSign.
    """
    now = time.time()
    signed = dict(headers)
    if "jr-sig" not in signed:
        key = _signer(ring, JOB_ROLES, "jobs")
        due = headers.get("jr-not-before", 0)
        exp = round((max(now, due / 1000 if isinstance(due, int) else 0.0) + VALID_S) * 1000)
        signed |= {
            "jr-kid": key.kid,
            "jr-alg": key.alg,
            "jr-exp": exp,
            "jr-sig": key.sign(_job_input(key, where, message_id, exp, body)),
        }
    # whoever may only produce may sign nothing but the state of a new job
    key = _signer(ring, STATE_ROLES if _is_new(headers) else STATE_ROLES[1:], "the state of jobs")
    signed |= {
        "jr-state-kid": key.kid,
        "jr-state-alg": key.alg,
        "jr-state-sig": key.sign(_state_input(key, message_id, body, headers)),
    }
    return signed


def _is_new(headers: Headers) -> bool:
    """Whether nothing has happened to the job yet: it may only have a time before which it is not due."""
    return all(
        name in ("jr-not-before", "jr-submitted-by") or name in NO_STATE for name, value in _ours(headers) if value
    )


def _ours(headers: Headers) -> list[tuple[str, object]]:
    """The headers that mean something here. pika gives a name that is no UTF-8 as bytes."""
    return [(name, value) for name, value in headers.items() if isinstance(name, str) and name.startswith("jr-")]


def verify_job(
    ring: KeyRing, where: tuple[str, str], message_id: str | None, body: bytes, headers: Headers
) -> Refused | Signature:
    """The headers with which the job's own signature travels on; or why it is not believed.

    where: vhost and queue, the reader's own. Nothing of the body is interpreted.
    """
    found = _signature(headers, JOB_HEADERS[0], JOB_HEADERS[1], JOB_HEADERS[3])
    exp = headers.get("jr-exp")
    if found is None or message_id is None:
        return Refused("unsigned", "the job is not signed; this worker takes signed jobs only")
    if isinstance(exp, bool) or not isinstance(exp, int) or not 0 <= exp < 2**63:
        return Refused("bad_signature", "the signature has no time to its end")
    now = time.time()
    key = _key(ring, found, JOB_ROLES, now)
    if isinstance(key, str):
        return Refused("bad_signature", f"the job was signed with {key}")
    if not key.fits(_job_input(key, where, message_id, exp, body), found[2]):
        return Refused("bad_signature", f"the signature with key {key.kid} does not fit the job, or not this queue")
    problem = _verify_state(ring, message_id, body, headers, now)
    if problem is not None:
        return Refused("bad_signature", problem)
    if now > exp / 1000 + LEEWAY_S:
        return Refused("signature_expired", "the job was signed too long ago")
    return {"jr-kid": key.kid, "jr-alg": key.alg, "jr-exp": int(exp), "jr-sig": found[2]}


def _verify_state(ring: KeyRing, message_id: str, body: bytes, headers: Headers, now: float) -> str | None:
    found = _signature(headers, *STATE_HEADERS)
    if found is None:
        return "the state of the job is not signed"
    key = _key(ring, found, STATE_ROLES if _is_new(headers) else STATE_ROLES[1:], now)
    if isinstance(key, str):
        return f"the state of the job was signed with {key}"
    if not key.fits(_state_input(key, message_id, body, headers), found[2]):
        return f"the signature with key {key.kid} does not fit the state of the job"
    return None


def _signature(headers: Headers, *names: str) -> tuple[str, str, str] | None:
    """Key id, algorithm and signature as they were received; None unless all are there, as text of a sane length."""
    kid, alg, signature = (headers.get(name) for name in names)
    if not (isinstance(kid, str) and isinstance(alg, str) and isinstance(signature, str)):
        return None
    return (kid, alg, signature) if len(signature) <= _LONGEST else None


def _key(ring: KeyRing, found: tuple[str, str, str], roles: tuple[str, ...], now: float) -> Key | str:
    """The key that a signature names, if it may sign this; else what it is. The algorithm is the key's own."""
    kid, alg, _ = found
    key = ring.get(kid) if KID.fullmatch(kid) else None
    if key is None:
        return "a key that is not known here"
    if key.revoked:
        return f"key {kid}, which is revoked"
    if not key.counts(now):
        return f"key {kid}, which counts no longer"
    if alg != key.alg:
        return f"key {kid}, but by another algorithm"
    if key.role is not None and key.role not in roles:
        return f"key {kid} of class {key.role}, which may not sign this"
    return key


def _signer(ring: KeyRing, roles: tuple[str, ...], what: str) -> Key:
    key = ring.signer(roles)
    if key is None:
        raise KeyCannotSign(what=what, origin=ring.origin)
    return key


# --- events, cancels, control ---------------------------------------------------------------------------------------


class _Said(msgspec.Struct):
    """What a note says of itself, as far as its signer's class and time depend on it."""

    kind: str = ""
    verb: str = ""
    at: float = 0.0


_said: Final = msgspec.json.Decoder(_Said)


def sign_note(ring: KeyRing, domain: str, where: tuple[str, str], body: bytes) -> Signature:
    """The headers of an event or a cancel (`event`), or of what goes over the control exchange (`control`).

    where: vhost and routing key. Raises: KeyCannotSign.
    """
    now = time.time()
    for key in ring.keys:
        if key.signs and key.counts(now) and _may_say(key, domain, where[1], body):
            return {"jr-kid": key.kid, "jr-alg": key.alg, "jr-sig": key.sign(_note_input(key, domain, where, body))}
    raise KeyCannotSign(what="cancels" if _is_cancel(domain, where[1]) else f"this {domain}", origin=ring.origin)


def is_believed(ring: KeyRing, domain: str, where: tuple[str, str], headers: Headers | None, body: bytes) -> bool:
    """Whether this was signed by someone who may say it. domain: `event` or `control`. where: vhost and routing key.

    The ledger is history: what was said before a key's `until` still holds. The first record of a ledger, which tells
    it from its successor, is written by whoever creates the stream and needs no signature.
    """
    if domain == "event" and where[1].startswith("genesis."):
        return _decode(body).kind == "genesis"
    found = _signature(headers or {}, "jr-kid", "jr-alg", "jr-sig")
    if found is None:
        return False
    kid, alg, signature = found
    key = ring.get(kid)
    if key is None or key.revoked or alg != key.alg:
        return False
    if not key.fits(_note_input(key, domain, where, body), signature):
        return False
    now = time.time()
    if not key.counts(now) and (domain == "control" or not key.counts(_decode(body).at)):
        return False
    return _may_say(key, domain, where[1], body)


def _is_cancel(domain: str, routing_key: str) -> bool:
    return domain == "event" and routing_key.startswith("cancel.")


def _note_input(key: Key, domain: str, where: tuple[str, str], body: bytes) -> bytes:
    name = "cancel" if _is_cancel(domain, where[1]) else domain
    return _input(name.encode(), key, _utf8(where[0]), _utf8(where[1]), body)


def _may_say(key: Key, domain: str, routing_key: str, body: bytes) -> bool:
    """Whether the key's class may say this. Only a key with a class has the body looked at."""
    if key.role is None:
        return True
    said = _decode(body)
    if domain == "control":
        is_workers = not said.verb or said.verb in WORKER_VERBS
        if said.verb in ASKING_VERBS:
            return key.role in ("worker", "operator")
        return key.role == "worker" if is_workers else key.role == "operator"
    # the routing key decides who gets an event, the body what it says
    word = "cancel" if said.kind == "pause" else said.kind
    if routing_key.partition(".")[0] != word:
        return False
    if key.role == "worker":
        return said.kind not in (*PRODUCER_KINDS, "cancel", "pause")
    return said.kind in (PRODUCER_KINDS if key.role == "producer" else OPERATOR_KINDS)


def _decode(body: bytes) -> _Said:
    try:
        return _said.decode(body)
    except (ValueError, RecursionError, MemoryError):
        return _Said(kind="?", verb="?")
