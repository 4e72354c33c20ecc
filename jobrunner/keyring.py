"""Keys that sign messages and tell who signed: read from a file, held as a ring, used on bytes.

Nothing here knows what is signed: that is `signing`'s. No secret is ever shown: not by `repr`, not in an error.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from jobrunner.errors import KeyFileOpen, KeyInvalid, OptionsClash

HS256: Final = "hs256"
ED25519: Final = "ed25519"
PRIVATE: Final = "ed25519-private"
PUBLIC: Final = "ed25519-public"
ROLES: Final = ("producer", "worker", "operator")
SECRET_BYTES: Final = 32
"""Least length of a shared secret, and the length of both halves of an Ed25519 key."""

KID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_OTHERS: Final = 0o077
_MOST_BYTES: Final = 1024 * 1024


class Key:
    """One line of a key file.

    alg: `hs256` or `ed25519`. until_s: it counts no longer, in seconds since the epoch. role: what it may sign, one of
    ROLES; None: everything. jobs: patterns of the names that jobs signed with it may have; none: any.
    signs: whether it is or has a secret.
    """

    __slots__ = ("_mac", "_private", "_public", "alg", "jobs", "kid", "revoked", "role", "signs", "until_s")

    def __init__(self, kid: str, kind: str, secret: bytes) -> None:
        self.kid = kid
        self.alg = HS256 if kind == HS256 else ED25519
        self.signs = kind != PUBLIC
        self.until_s: float | None = None
        self.revoked = False
        self.role: str | None = None
        self.jobs: tuple[str, ...] = ()
        # made once and copied for each message: to begin with the key takes four times as long as the rest
        self._mac = hmac.new(secret if kind == HS256 else b"-", digestmod="sha256")
        self._private: Any = None
        self._public: Any = None
        if kind != HS256:
            self._private, self._public = _ed25519(kind, secret)

    def __repr__(self) -> str:
        return f"<Key {self.kid} {self.alg}{' signs' if self.signs else ''}>"

    def counts(self, now: float) -> bool:
        """Whether it is in force. now: seconds since the epoch."""
        return not self.revoked and (self.until_s is None or now <= self.until_s)

    def sign(self, data: bytes) -> str:
        """The signature, as base64url without padding."""
        if self.alg == HS256:
            mac = self._mac.copy()
            mac.update(data)
            raw = mac.digest()
        else:
            raw = self._private.sign(data)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")

    def fits(self, data: bytes, signature: str) -> bool:
        """Whether `signature` is one of this key over `data`. Only its one canonical spelling is."""
        if self.alg == HS256:
            return hmac.compare_digest(self.sign(data).encode(), signature.encode("utf-8", "surrogatepass"))
        try:
            raw = base64.b64decode(signature + "=" * (-len(signature) % 4), b"-_", validate=True)
        except ValueError:
            return False
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != signature:
            return False
        from cryptography.exceptions import InvalidSignature

        try:
            self._public.verify(raw, data)
        except InvalidSignature:
            return False
        return True

    def may_name(self, name: str) -> bool:
        """Whether a job of that name (`module:function`, or a program) may be signed with it. `:` and `.` are alike."""
        if self.jobs and ".." in name.split("/"):
            return False  # /opt/bin/* is not /opt/bin/../../bin/sh
        return not self.jobs or any(fnmatchcase(name.replace(":", "."), one.replace(":", ".")) for one in self.jobs)


def _ed25519(kind: str, secret: bytes) -> tuple[Any, Any]:
    """The private key, or None, and the public one. Raises: KeyInvalid without the library."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as exc:
        problem = "Ed25519 keys need the library 'cryptography', which is not installed."
        raise KeyInvalid(problem=problem, hint="pip install 'jobrunner-mq[sign]'") from exc
    if kind == PUBLIC:
        return None, ed25519.Ed25519PublicKey.from_public_bytes(secret)
    private = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    return private, private.public_key()


class KeyRing:
    """The keys in force. What holds a ring sees what `reload` brings.

    origin: where it came from, for messages. path: its file; None for one from the environment.
    """

    def __init__(self, keys: Iterable[Key], origin: str, path: Path | None = None) -> None:
        self.origin = origin
        self.path = path
        self._set(tuple(keys))

    def _set(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self._by_kid = {key.kid: key for key in keys}

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._by_kid)} from {self.origin}>"

    def get(self, kid: str) -> Key | None:
        """The key of that id."""
        return self._by_kid.get(kid)

    def signer(self, roles: tuple[str, ...], now: float | None = None) -> Key | None:
        """The first key that signs, is in force and may sign for one of `roles`; None: there is none here."""
        at = time.time() if now is None else now
        for key in self.keys:
            if key.signs and (key.role is None or key.role in roles) and key.counts(at):
                return key
        return None

    def reload(self) -> bool:
        """Read the file again. Gives whether anything could have changed: False for a ring without a file.

        Raises: KeyInvalid, KeyFileOpen; then the ring stays as it was.
        """
        if self.path is None:
            return False
        self._set(read_ring(self.path, self.origin).keys)
        return True


def find_ring(typed: str | None, environ: Mapping[str, str], in_files: tuple[Path, str] | None) -> KeyRing | None:
    """The ring that is configured, or None: `--authkey-file`, else the environment's, else the configuration's.

    in_files: the file, and the place that names it. Raises: OptionsClash, KeyInvalid, KeyFileOpen.
    """
    if typed:
        return read_ring(Path(typed), "--authkey-file")
    file, text = environ.get("JOBRUNNER_AUTHKEY_FILE"), environ.get("JOBRUNNER_AUTHKEY")
    if file and text:
        raise OptionsClash(problem="JOBRUNNER_AUTHKEY and JOBRUNNER_AUTHKEY_FILE both give a key.", hint="unset one")
    if file:
        return read_ring(Path(file), "JOBRUNNER_AUTHKEY_FILE")
    if text:
        return KeyRing(parse(text, "JOBRUNNER_AUTHKEY"), "JOBRUNNER_AUTHKEY")
    return read_ring(*in_files) if in_files else None


def read_ring(path: Path, origin: str) -> KeyRing:
    """The ring in a file that only its owner may read. Raises: KeyFileOpen, KeyInvalid."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & _OTHERS:
                raise KeyFileOpen(path=path, mode=f"{status.st_mode & 0o7777:04o}")
            data = file.read(_MOST_BYTES)
    except OSError as exc:
        named_in = "" if origin == str(path) else f" (from {origin})"
        raise KeyInvalid(problem=f"{path}: {exc.strerror}{named_in}.", hint="jobrunner key new FILE") from exc
    if status.st_uid not in (0, os.geteuid()):
        raise KeyInvalid(problem=f"{path} belongs to another user.", hint=f"sudo chown {os.geteuid()} {path}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as exc:
        raise KeyInvalid(problem=f"{path} holds what is no key: it is not text.") from exc
    return KeyRing(parse(text, str(path)), origin, path)


def parse(text: str, origin: str) -> list[Key]:
    """The keys in a text: one bare secret, or a ring of lines. Raises: KeyInvalid, which never shows the text."""
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, words) for number, words in lines if words and not words[0].startswith("#")]
    if not lines:
        raise KeyInvalid(problem=f"{origin} holds no key.", hint="jobrunner key new FILE")
    if len(lines) == 1 and len(lines[0][1]) == 1:
        secret = _secret_of(lines[0][1][0], HS256, origin)
        return [Key(kid_of(secret), HS256, secret)]
    keys: list[Key] = []
    for number, words in lines:
        key = _key_of(words, f"{origin}:{number}")
        if any(key.kid == other.kid for other in keys):
            raise KeyInvalid(problem=f"{origin}:{number}: a second key named '{key.kid}'.")
        keys.append(key)
    return keys


def kid_of(secret: bytes) -> str:
    """The id of a bare key: it tells nothing of the key."""
    return hmac.digest(secret, b"jobrunner/kid", hashlib.sha256).hex()[:8]


def _key_of(words: list[str], place: str) -> Key:
    """A line: id, kind, secret, and then `until=DATE`, `revoked`, `class=ROLE`, `jobs=PATTERN,...`."""
    if len(words) < 3:
        raise KeyInvalid(problem=f"{place}: a line is an id, a kind and the key.")
    kid, kind, text, *options = words
    if not KID.fullmatch(kid):
        raise KeyInvalid(problem=f"{place}: an id has 1 to 32 letters, digits, '.', '_' and '-'.")
    if kind not in (HS256, PRIVATE, PUBLIC):
        raise KeyInvalid(problem=f"{place}: the kind of a key is {HS256}, {PRIVATE} or {PUBLIC}.")
    key = Key(kid, kind, _secret_of(text, kind, place))
    for option in options:
        name, _, value = option.partition("=")
        if name == "until" and value:
            key.until_s = _until(value, place)
        elif option == "revoked":
            key.revoked = True
        elif name == "class" and value in ROLES and kind != HS256:
            key.role = value
        elif name == "jobs" and (patterns := tuple(filter(None, value.split(",")))):
            key.jobs = patterns  # none at all would mean every job
        else:
            known = "until=DATE, revoked, jobs=PATTERN,... and, of Ed25519 keys, class=producer|worker|operator"
            # what stands here may be a piece of a key that was broken in two
            raise KeyInvalid(problem=f"{place}: after the key there may be {known}.")
    return key


def _secret_of(text: str, kind: str, place: str) -> bytes:
    try:
        secret = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise KeyInvalid(problem=f"{place}: the key is not base64.", hint="jobrunner key new FILE") from exc
    if len(secret) < SECRET_BYTES or (kind != HS256 and len(secret) != SECRET_BYTES):
        least = "at least " if kind == HS256 else ""
        raise KeyInvalid(
            problem=f"{place}: the key has {len(secret)} bytes, not {least}{SECRET_BYTES}.",
            hint="jobrunner key new FILE",
        )
    return secret


def _until(text: str, place: str) -> float:
    """A day counts to its end, UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise KeyInvalid(problem=f"{place}: until= is a date such as 2026-12-20.") from exc
    if len(text) == len("2026-12-20"):
        moment = moment.replace(hour=23, minute=59, second=59)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def new_lines(kid: str | None, role: str | None, jobs: str | None, *, is_pair: bool) -> tuple[str, str | None]:
    """The line of a new key, and of a pair its public half. kid: None makes one of the month and 4 hex digits.

    Raises: KeyInvalid.
    """
    name = kid or f"{datetime.now(UTC):%Y-%m}-{secrets.token_hex(2)}"
    if not KID.fullmatch(name) or name.startswith("#"):
        raise KeyInvalid(problem="An id has 1 to 32 letters, digits, '.', '_' and '-'.", hint="--id billing-2026")
    ends = [f"class={role}"] if role else []
    ends += [f"jobs={jobs}"] if jobs is not None else []
    if not is_pair:
        secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
        return " ".join([name, HS256, secret, *ends]), None
    seed = secrets.token_bytes(SECRET_BYTES)
    _, public = _ed25519(PRIVATE, seed)
    halves = {PRIVATE: seed, PUBLIC: public.public_bytes_raw()}
    lines = [" ".join([name, kind, base64.b64encode(half).decode("ascii"), *ends]) for kind, half in halves.items()]
    return lines[0], lines[1]
