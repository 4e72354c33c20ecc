"""What must not get in: the files of tests/hostile/corpus as messages, signed and spoiled where that is their point.

A file says what it is (`note`), what must come of it where no key is set (`expect`), and what is sent: `body`, a list
of texts, of `{"hex": ...}` and of `{"repeat": text, "times": n}` (or `upto`: until the body has so many bytes), or
`job`, the fields of one. `properties` are those of AMQP, `table` the headers as no client would write them. `fault`: it
is signed, and something is wrong with that; such a one is for workers with a key alone. `$ID`, `$QUEUE`, `$WITNESS` and
`$NEVER` stand for the job's id, its queue, and two files: one that allowed functions write, and one that nobody writes.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pika

from jobrunner import signing
from jobrunner.ids import id_of
from jobrunner.keyring import Key, KeyRing, new_lines, parse

CORPUS = Path(__file__).parents[1] / "hostile" / "corpus"
_ID = "$ID"

Headers = dict[str, Any]


class Place(msgspec.Struct):
    """Where it is sent. witness, never: files."""

    queue: str
    vhost: str = "jobs"
    witness: str = "/nowhere/witness"
    never: str = "/nowhere/never"


class Hostile(msgspec.Struct):
    """A message. table: its encoded headers, where `headers` cannot hold them."""

    name: str
    expect: str
    body: bytes
    message_id: str | None
    headers: Headers
    other: dict[str, Any]
    table: bytes | None
    live: bool
    is_signed: bool

    @property
    def properties(self) -> pika.BasicProperties:
        """As it is published."""
        made = pika.BasicProperties if self.table is None else _RawHeaders
        properties = made(message_id=self.message_id, delivery_mode=2, headers=self.headers, **self.other)
        if isinstance(properties, _RawHeaders):
            properties.table = self.table or b""
        return properties


class _RawHeaders(pika.BasicProperties):
    """Properties whose headers are bytes. Source: AMQP 0-9-1 specification, 4.2.6.1 "The Content Header"."""

    table = b""

    def encode(self) -> list[bytes]:
        assert isinstance(self.message_id, str)
        flags = 1 << 13 | 1 << 12 | 1 << 7  # headers, delivery-mode, message-id
        signed: list[bytes] = []
        pika.data.encode_table(signed, self.headers)
        table = b"".join(signed)[4:] + self.table
        text = self.message_id.encode()
        return [flags.to_bytes(2, "big"), _long(table), b"\x02", len(text).to_bytes(1, "big"), text]


def _long(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Keys:
    """The ring of a worker, with keys in it that count no longer or not for this, and who else signs."""

    def __init__(self) -> None:
        made = {kid: new_lines(kid, None, None, is_pair=False)[0] for kid in ("good", "revoked", "ended", "limited")}
        ends = {"revoked": " revoked", "ended": " until=2020-01-01", "limited": " jobs=other.*"}
        self.lines = [line + ends.get(kid, "") for kid, line in made.items()]
        self.ring = KeyRing(parse("\n".join(self.lines), "test"), "test")
        self._bare = {kid: KeyRing(parse(line, "test"), "test") for kid, line in made.items()}

    def only(self, kid: str) -> KeyRing:
        """A ring of that key alone, in force whatever the worker's says; of a name that it has not: a new key."""
        known = self._bare.get(kid)
        return known or KeyRing(parse(new_lines(kid, None, None, is_pair=False)[0], "test"), "test")

    def impostor(self) -> KeyRing:
        """Another secret under the name of the good key."""
        return KeyRing(parse(new_lines("good", None, None, is_pair=False)[0], "test"), "test")


def corpus(place: Place, keys: Keys) -> list[Hostile]:
    """All of it, for that place."""
    return [_read(path, place, keys) for path in sorted(CORPUS.glob("*.json"))]


def signed(message: Hostile, place: Place, keys: Keys) -> Hostile:
    """The same by someone who has the key, who could still mean harm."""
    if message.message_id is None:
        return message
    more = signing.sign_job(
        keys.only("good"), (place.vhost, place.queue), message.message_id, message.body, message.headers
    )
    return msgspec.structs.replace(message, headers=message.headers | more)


def _read(path: Path, place: Place, keys: Keys) -> Hostile:
    written = json.loads(path.read_text())
    job_id = id_of(path.stem.encode(), place.queue.encode())
    words = {_ID: job_id, "$QUEUE": place.queue, "$WITNESS": place.witness, "$NEVER": place.never}
    text: Callable[[str], str] = lambda value: _filled(value, words)  # noqa: E731
    body = _job(written["job"], job_id, text) if "job" in written else _body(written["body"], text)
    properties = _values(written.get("properties", {}), text)
    message = Hostile(
        name=path.stem,
        expect=written["expect"],
        body=body,
        message_id=properties.pop("message_id", job_id),
        headers=properties.pop("headers", {}),
        other=properties,
        table=_table(written["table"]) if "table" in written else None,
        live=written.get("live", True),
        is_signed="fault" in written,
    )
    return _spoiled(message, written["fault"], place, keys) if message.is_signed else message


def _filled(value: str, words: dict[str, str]) -> str:
    for word, meaning in words.items():
        value = value.replace(word, meaning)
    return value


def _values(value: Any, text: Callable[[str], str]) -> Any:
    """A JSON value with its texts filled in."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [_values(one, text) for one in value]
    if isinstance(value, dict):
        if set(value) == {"repeat", "times"}:
            return value["repeat"] * value["times"]
        return {text(key): _values(one, text) for key, one in value.items()}
    return value


def _job(fields: dict[str, Any], job_id: str, text: Callable[[str], str]) -> bytes:
    common = {"v": 1, "id": job_id, "queue": text("$QUEUE"), "iat": time.time()}
    return json.dumps(common | _values(fields, text)).encode()


def _body(parts: list[Any], text: Callable[[str], str]) -> bytes:
    made: list[bytes] = []
    for part in parts:
        if isinstance(part, str):
            made.append(text(part).encode())
        elif "hex" in part:
            made.append(bytes.fromhex(part["hex"]))
        else:
            times = part.get("times") or part["upto"] - sum(map(len, made))
            made.append(part["repeat"].encode() * times)
    return b"".join(made)


def _table(written: dict[str, Any]) -> bytes:
    """The inside of a table of headers."""
    if "hex" in written:
        return bytes.fromhex(written["hex"])
    word, depth = (b"\x01xF", written["tables"]) if "tables" in written else (b"A", written["lists"])
    step = len(word) + 4
    return (b"" if "tables" in written else b"\x01x") + b"".join(
        word + (step * (depth - number - 1)).to_bytes(4, "big") for number in range(depth)
    )


def _flip(text: str) -> str:
    return ("A" if text[0] != "A" else "B") + text[1:]


_EDITS: Final[dict[str, Callable[[Headers], Headers]]] = {
    "unsigned": lambda _: {},
    "flipped-signature": lambda headers: headers | {"jr-sig": _flip(headers["jr-sig"])},
    "flipped-state-signature": lambda headers: headers | {"jr-state-sig": _flip(headers["jr-state-sig"])},
    "no-state-signature": lambda headers: {k: v for k, v in headers.items() if not k.startswith("jr-state")},
    "other-algorithm": lambda headers: headers | {"jr-alg": "ed25519"},
    "no-algorithm": lambda headers: headers | {"jr-alg": "none"},
    "long-key-id": lambda headers: headers | {"jr-kid": "g" * 65_536},
    "forged-state": lambda headers: headers | {"jr-attempt": 1},
    "later-end": lambda headers: headers | {"jr-exp": headers["jr-exp"] + 86_400_000},
    "end-is-text": lambda headers: headers | {"jr-exp": str(headers["jr-exp"])},
}
"""Faults of headers that were signed well."""


def _spoiled(message: Hostile, fault: str, place: Place, keys: Keys) -> Hostile:
    """A signed message that is not what was signed, or not by whom, or not for this."""
    where = (place.vhost, place.queue)
    good = keys.only("good")
    replace = msgspec.structs.replace

    def sign(ring: KeyRing = good, **changes: Any) -> Hostile:
        what = {"where": where, "message_id": message.message_id, "body": message.body, "headers": {}} | changes
        return replace(message, headers=dict(signing.sign_job(ring, **what)))

    signed_well = sign()
    headers = signed_well.headers
    if fault in _EDITS:
        return replace(message, headers=_EDITS[fault](headers))
    of_event = signing.sign_note(good, "event", (place.vhost, place.queue), message.body)
    old = sign(headers=headers | {"jr-copy": 1}).headers | {"jr-copy": 2}
    strange = {name: value for name, value in sign(keys.only("unknown")).headers.items() if "state" in name}
    others: dict[str, Callable[[], Hostile]] = {
        "state-by-a-stranger": lambda: replace(message, headers=headers | strange),
        "flipped-body": lambda: replace(signed_well, body=message.body.replace(b'"args"', b'"argz"')),
        "unknown-key": lambda: sign(keys.only("unknown")),
        "revoked-key": lambda: sign(keys.only("revoked")),
        "ended-key": lambda: sign(keys.only("ended")),
        "not-of-the-key": lambda: sign(keys.only("limited")),
        "other-secret": lambda: sign(keys.impostor()),
        "other-id": lambda: sign(message_id="0123456789abcdef"),
        "other-queue": lambda: sign(where=(place.vhost, "elsewhere")),
        "other-vhost": lambda: sign(where=("elsewhere", place.queue)),
        "older-copy": lambda: replace(message, headers=old),
        "state-of-an-event": lambda: replace(message, headers=headers | of_event),
        "header-without-text": lambda: replace(signed_well, table=b"\x03\xff\xfe\xfdS\0\0\0\x01x"),
        "expired": lambda: replace(message, headers=_signed_long_ago(good.keys[0], where, message, headers)),
    }
    return others[fault]()


def _signed_long_ago(key: Key, where: tuple[str, str], message: Hostile, headers: Headers) -> Headers:
    exp = round((time.time() - 10 * 86_400) * 1000)
    data = signing._job_input(key, where, message.message_id or "", exp, message.body)
    return headers | {"jr-exp": exp, "jr-sig": key.sign(data)}
