"""Signatures: over every bit, for one use, one key, one queue and one state; nothing else passes."""

import base64
import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobrunner import attempts, envelope, events, signing
from jobrunner.broker.message import event_message, job_message, properties_of
from jobrunner.brokerurl import parse_url
from jobrunner.envelope import Envelope
from jobrunner.errors import KeyCannotSign, KeyFileOpen, KeyInvalid, OptionsClash
from jobrunner.ids import id_of
from jobrunner.keyring import Key, KeyRing, find_ring, kid_of, new_lines, parse, read_ring
from jobrunner.outcome import Dead
from jobrunner.worker import admission, reading
from jobrunner.worker.policy import Policy
from jobrunner.worker.reading import Unreadable

SECRET = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
URL = parse_url("amqp://u:p@rabbit.prod/jobs")


def ring_of(*lines: str) -> KeyRing:
    return KeyRing(parse("\n".join(lines), "test"), "test")


RING = ring_of(f"2026-11 hs256 {SECRET}")


def pair(kid: str, role: str, extra: str = "") -> tuple[str, str]:
    """The private and the public line of a new Ed25519 key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    halves = private.private_bytes_raw(), private.public_key().public_bytes_raw()
    texts = [base64.b64encode(half).decode() for half in halves]
    end = f"class={role} {extra}"
    return f"{kid} ed25519-private {texts[0]} {end}", f"{kid} ed25519-public {texts[1]} {end}"


@dataclasses.dataclass
class Received:
    """The facts of a delivery that admission reads."""

    body: bytes
    message_id: str | None
    headers: dict[str, Any]
    content_encoding: str | None = None
    priority: int | None = None
    redelivered: bool = False
    delivery_count: int | None = None
    queue: str = "task_queue"


def sealed(**fields: Any) -> Envelope:
    return envelope.seal(envelope.new_job(queue="task_queue", task="tasks:add", **fields))


def received(job: Envelope, ring: KeyRing = RING, **changes: Any) -> Received:
    """The job as it comes, signed."""
    url = msgspec.structs.replace(URL, ring=ring)
    headers = properties_of(job_message(job, "", job.job.queue), url).headers
    return dataclasses.replace(Received(job.body, job.job.id, dict(headers or {})), **changes)


def read(it: Received, ring: KeyRing | None = RING, vhost: str = "jobs") -> Envelope | Unreadable:
    return reading.read(it, Policy(worker="w1", ring=ring, vhost=vhost))


def reason(it: Received, ring: KeyRing | None = RING, vhost: str = "jobs") -> str | None:
    got = read(it, ring, vhost)
    if isinstance(got, Envelope):
        return None
    assert got.job_id == id_of(it.body), "the claimed id may be someone else's job"
    return got.error.reason


def test_a_signed_job_is_taken_and_keeps_its_signature() -> None:
    job = sealed(label="x")
    it = received(job)
    got = read(it)
    assert isinstance(got, Envelope)
    again = received(got.with_state(attempt=1))
    assert again.headers["jr-sig"] == it.headers["jr-sig"]
    assert again.headers["jr-exp"] == it.headers["jr-exp"]
    assert again.headers["jr-state-sig"] != it.headers["jr-state-sig"]
    assert reason(again) is None


def test_without_keys_nothing_is_signed_and_nothing_is_asked_for() -> None:
    job = sealed()
    assert not properties_of(job_message(job, "", "task_queue"), URL).headers
    assert reason(Received(job.body, job.job.id, {}), ring=None) is None
    assert reason(received(job), ring=None) is None


def test_no_flipped_bit_is_accepted() -> None:
    """Of the body, of the id and of each header: 0 of thousands."""
    job = sealed().with_state(attempt=1, not_before_ms=1000)
    it = received(job)
    assert reason(it) is None
    tried = 0
    for position in range(len(it.body) * 8):
        body = bytearray(it.body)
        body[position // 8] ^= 1 << position % 8
        assert reason(dataclasses.replace(it, body=bytes(body))) == "bad_signature"
        tried += 1
    for name, value in it.headers.items():
        for changed in _flipped(value):
            got = reason(dataclasses.replace(it, headers=it.headers | {name: changed}))
            assert got in ("bad_signature", "unsigned"), (name, changed)
            tried += 1
    assert it.message_id is not None
    for changed in _flipped(it.message_id):
        assert reason(dataclasses.replace(it, message_id=changed)) == "bad_signature"
        tried += 1
    assert tried > 1500


def _flipped(value: object) -> list[Any]:
    if isinstance(value, int):
        return [value ^ (1 << bit) for bit in range(63)]
    assert isinstance(value, str)
    raw = value.encode()
    flipped = []
    for position in range(len(raw) * 8):
        data = bytearray(raw)
        data[position // 8] ^= 1 << position % 8
        flipped.append(bytes(data).decode("utf-8", "replace"))
    return flipped


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"jr-sig": None}, "unsigned"),
        ({"jr-kid": None}, "unsigned"),
        ({"jr-alg": None}, "unsigned"),
        ({"jr-exp": None}, "bad_signature"),
        ({"jr-exp": True}, "bad_signature"),
        ({"jr-exp": -1}, "bad_signature"),
        ({"jr-exp": "9"}, "bad_signature"),
        ({"jr-sig": b"bytes"}, "unsigned"),
        ({"jr-sig": ["list"]}, "unsigned"),
        ({"jr-sig": "A" * 65_536}, "unsigned"),
        ({"jr-sig": "\ud800"}, "bad_signature"),
        ({"jr-kid": "k" * 65_536}, "bad_signature"),
        ({"jr-kid": "2026-08"}, "bad_signature"),
        ({"jr-alg": "ed25519"}, "bad_signature"),
        ({"jr-alg": "none"}, "bad_signature"),
        ({"jr-state-sig": None}, "bad_signature"),
        ({"jr-state-kid": "2026-08"}, "bad_signature"),
        ({"jr-attempt": 1}, "bad_signature"),
        ({"jr-copy": 1}, "bad_signature"),
        ({"jr-chain": 7}, "bad_signature"),
        ({"jr-not-before": 1}, "bad_signature"),
        ({"jr-of-a-later-version": 1}, "bad_signature"),
    ],
)
def test_a_signature_that_is_missing_or_not_this_one_is_refused(changes: dict[str, Any], wanted: str) -> None:
    it = received(sealed())
    headers = {name: value for name, value in (it.headers | changes).items() if value is not None}
    assert reason(dataclasses.replace(it, headers=headers)) == wanted


def test_a_job_moved_to_another_queue_or_host_is_refused() -> None:
    it = received(sealed())
    assert reason(dataclasses.replace(it, queue="other")) == "bad_signature"
    assert reason(it, vhost="staging") == "bad_signature"


def test_the_signature_of_one_job_does_not_fit_another() -> None:
    one, other = received(sealed()), received(sealed())
    assert reason(dataclasses.replace(one, body=other.body)) == "bad_signature"
    assert reason(dataclasses.replace(one, headers=other.headers)) == "bad_signature"
    state = {name: other.headers[name] for name in signing.STATE_HEADERS}
    assert reason(dataclasses.replace(one, headers=one.headers | state)) == "bad_signature"


def test_the_state_of_an_older_copy_does_not_fit_a_newer_one() -> None:
    job = sealed()
    old, new = received(job), received(job.with_state(attempt=1))
    kept = {name: old.headers[name] for name in signing.STATE_HEADERS}
    assert reason(dataclasses.replace(new, headers=new.headers | kept)) == "bad_signature"
    forged = {name: value for name, value in new.headers.items() if name not in ("jr-copy", "jr-attempt")}
    assert reason(dataclasses.replace(new, headers=forged)) == "bad_signature"


def test_a_signature_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    it = received(sealed())
    signed_at = it.headers["jr-exp"] / 1000 - signing.VALID_S
    monkeypatch.setattr(signing.time, "time", lambda: signed_at + signing.VALID_S + signing.LEEWAY_S - 1)
    assert reason(it) is None
    monkeypatch.setattr(signing.time, "time", lambda: signed_at + signing.VALID_S + signing.LEEWAY_S + 1)
    assert reason(it) == "signature_expired"


def test_a_job_that_is_due_in_a_year_is_valid_for_a_month_after() -> None:
    job = envelope.seal(envelope.new_job(queue="task_queue", task="tasks:add"), not_before_s=2e9)
    assert received(job).headers["jr-exp"] == round((2e9 + signing.VALID_S) * 1000)


def test_rotation_strands_nothing() -> None:
    old, new = f"2026-08 hs256 {OTHER}", f"2026-11 hs256 {SECRET}"
    before = received(sealed(), ring_of(old))
    assert reason(before, ring_of(new, old)) is None
    assert reason(received(sealed(), ring_of(new, old)), ring_of(old, new)) is None
    assert received(sealed(), ring_of(new, old)).headers["jr-kid"] == "2026-11"
    assert reason(before, ring_of(new)) == "bad_signature"
    assert reason(before, ring_of(new, f"{old} revoked")) == "bad_signature"
    assert reason(before, ring_of(new, f"{old} until=2020-01-01")) == "bad_signature"
    assert reason(before, ring_of(new, f"{old} until=2120-01-01")) is None
    # a key that counts no longer does not sign either, though it stands first
    assert received(sealed(), ring_of(f"{old} revoked", new)).headers["jr-kid"] == "2026-11"


def test_a_key_file_that_is_read_again_changes_what_holds_the_ring(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.touch(mode=0o600)
    file.write_text(f"2026-08 hs256 {OTHER}\n")
    ring = read_ring(file, "test")
    it = received(sealed(), RING)
    assert reason(it, ring) == "bad_signature"
    file.write_text(f"2026-11 hs256 {SECRET}\n2026-08 hs256 {OTHER}\n")
    assert ring.reload()
    assert reason(it, ring) is None
    file.write_text("what is this\n")
    with pytest.raises(KeyInvalid):
        ring.reload()
    assert reason(it, ring) is None, "a file that is wrong changes nothing"


# --- two halves -----------------------------------------------------------------------------------------------------


def test_a_worker_with_public_keys_takes_jobs_and_cannot_make_them() -> None:
    private, public = pair("billing", "producer")
    own, own_public = pair("web3", "worker")
    producer, worker = ring_of(private), ring_of(own, public)
    it = received(sealed(), producer)
    got = read(it, worker)
    assert isinstance(got, Envelope)
    with pytest.raises(KeyCannotSign):
        received(sealed(), worker)
    retried = received(got.with_state(attempt=1), worker)
    assert reason(retried, ring_of(public, own_public)) is None


def test_a_producer_signs_no_later_state() -> None:
    private, public = pair("billing", "producer")
    job = sealed()
    with pytest.raises(KeyCannotSign):
        received(job.with_state(chain=1), ring_of(private))
    # nor does it pass when somebody makes it do so
    loose = ring_of(private.replace("class=producer", ""))
    assert reason(received(job.with_state(chain=1), loose), ring_of(public)) == "bad_signature"
    assert reason(received(job, loose), ring_of(public)) is None


def test_a_workers_key_signs_no_job_even_when_it_is_made_to() -> None:
    private, public = pair("web3", "worker")
    loose = ring_of(private.replace("class=worker", ""))
    assert reason(received(sealed(), loose), ring_of(public)) == "bad_signature"


def test_every_bit_counts_with_ed25519_too() -> None:
    private, public = pair("billing", "operator")
    it = received(sealed(), ring_of(private))
    ring = ring_of(public)
    assert reason(it, ring) is None
    for name in ("jr-sig", "jr-state-sig"):
        for changed in _flipped(it.headers[name]):
            assert reason(dataclasses.replace(it, headers=it.headers | {name: changed}), ring) == "bad_signature"


def test_a_key_for_some_jobs_signs_no_others() -> None:
    private, public = pair("billing", "producer", "jobs=billing.*,/usr/bin/true")
    rules = Policy(worker="w1", apps=("tasks",), allow_import=("billing", "tasks"), allow_commands=True, vhost="jobs")
    rules.ring = ring_of(public)
    for fields, allowed in (
        ({"task": "billing.month:close"}, True),
        ({"task": "tasks:add"}, False),
        ({"argv": ["/usr/bin/true"]}, True),
        ({"argv": ["rm"]}, False),
    ):
        job = envelope.seal(envelope.new_job(queue="task_queue", **fields))  # type: ignore[arg-type]
        it = received(job, ring_of(private))
        got = reading.read(it, rules)
        assert isinstance(got, Envelope)
        verdict = admission.admit(got, it, rules, 1e9)
        assert (verdict is None) is allowed
        assert allowed or (isinstance(verdict, Dead) and verdict.error.reason == "not_allowed")


@pytest.mark.parametrize("patterns", ["", ",", ",,"])
def test_a_key_for_no_named_jobs_is_not_one_for_all(patterns: str) -> None:
    line, _ = new_lines("billing", None, patterns, is_pair=False)
    with pytest.raises(KeyInvalid):
        parse(line, "keys")


def test_a_key_for_the_programs_of_a_folder_signs_no_way_out_of_it() -> None:
    (key,) = parse(new_lines("tools", None, "/opt/bin/*", is_pair=False)[0], "keys")
    assert key.may_name("/opt/bin/convert")
    assert key.may_name("/opt/bin/a..b")
    assert not key.may_name("/opt/bin/../../bin/sh")


# --- events and control ---------------------------------------------------------------------------------------------


def succeeded() -> tuple[str, bytes, dict[str, Any]]:
    """Routing key, body and signed headers of an event."""
    ran = attempts.Run(worker="w", host="h", pid=1, started_at=1.0)
    message = event_message(events.Succeeded(at=1.0, id="k7f2m9xq4tzd8w1r", ran=ran))
    headers = properties_of(message, msgspec.structs.replace(URL, ring=RING)).headers
    return message.key, message.body, dict(headers or {})


def test_an_event_is_believed_with_its_own_signature_only() -> None:
    key, body, headers = succeeded()
    assert signing.is_believed(RING, "event", ("jobs", key), headers, body)
    assert not signing.is_believed(RING, "event", ("jobs", key), {}, body)
    assert not signing.is_believed(RING, "event", ("jobs", key), None, body)
    assert not signing.is_believed(RING, "event", ("jobs", "dead.-.k7f2m9xq4tzd8w1r"), headers, body)
    assert not signing.is_believed(RING, "event", ("staging", key), headers, body)
    assert not signing.is_believed(RING, "control", ("jobs", key), headers, body), "no signature serves two uses"
    for position in range(len(body) * 8):
        changed = bytearray(body)
        changed[position // 8] ^= 1 << position % 8
        assert not signing.is_believed(RING, "event", ("jobs", key), headers, bytes(changed))
    assert not signing.is_believed(ring_of(f"2026-11 hs256 {SECRET} revoked"), "event", ("jobs", key), headers, body)


def test_history_holds_after_its_key_has_run_out_but_new_words_do_not() -> None:
    past = ring_of(f"2026-11 hs256 {SECRET} until=2020-01-01")
    key, body, headers = succeeded()
    assert signing.is_believed(past, "event", ("jobs", key), headers, body)
    late = b'{"kind":"succeeded","at":1900000000.0}'
    signed = signing.sign_note(RING, "event", ("jobs", key), late)
    assert signing.is_believed(RING, "event", ("jobs", key), signed, late)
    assert not signing.is_believed(past, "event", ("jobs", key), signed, late)
    control = signing.sign_note(RING, "control", ("jobs", "all"), body)
    assert not signing.is_believed(past, "control", ("jobs", "all"), control, body)


@pytest.mark.parametrize(
    ("domain", "key", "body", "roles"),
    [
        ("event", "queued.-.x", b'{"kind":"queued"}', {"producer", "operator"}),
        ("event", "succeeded.-.x", b'{"kind":"succeeded"}', {"worker"}),
        ("event", "worker.-.x", b'{"kind":"worker"}', {"worker"}),
        ("event", "dead.-.x", b'{"kind":"dead"}', {"worker", "operator"}),
        ("event", "cancelled.-.x", b'{"kind":"cancelled"}', {"worker", "operator"}),
        ("event", "cancel.-.x", b'{"kind":"cancel"}', {"operator"}),
        # the routing key says one thing and the body another
        ("event", "queued.-.x", b'{"kind":"succeeded"}', set()),
        ("event", "log.-.x", b'{"kind":"cancel"}', set()),
        ("event", "queued.-.x", b"not json", set()),
        ("control", "all", b'{"verb":"ping"}', {"worker", "operator"}),
        ("control", "all", b'{"verb":"stack"}', {"operator"}),
        ("control", "worker.x", b'{"verb":"cancel"}', {"operator"}),
        ("control", "reply.x", b'{"verb":"cancel"}', {"operator"}),
        ("control", "reply.x", b'{"worker":"w"}', {"worker"}),
        ("control", "queue.x", b'{"verb":"owner"}', {"worker"}),
        ("control", "queue.x", b'{"verb":"ended"}', {"worker"}),
    ],
)
def test_each_class_says_what_it_may_and_nothing_else(domain: str, key: str, body: bytes, roles: set[str]) -> None:
    for role in ("producer", "worker", "operator"):
        private, public = pair(role, role)
        loose = ring_of(private.replace(f"class={role}", ""))
        headers = signing.sign_note(loose, domain, ("jobs", key), body)
        assert signing.is_believed(ring_of(public), domain, ("jobs", key), headers, body) is (role in roles)
        if role not in roles:
            with pytest.raises(KeyCannotSign):
                signing.sign_note(ring_of(private), domain, ("jobs", key), body)


def test_the_first_record_of_a_ledger_needs_no_signature_and_says_nothing_else() -> None:
    where = ("jobs", "genesis.-.-")
    assert signing.is_believed(RING, "event", where, {}, b'{"kind":"genesis","v":1,"at":1.0,"id":"x"}')
    assert not signing.is_believed(RING, "event", where, {}, b'{"kind":"succeeded"}')


# --- key files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("c2hvcnQ=", "has 5 bytes, not at least 32"),
        ("!!!", "not base64"),
        (f"k hs512 {SECRET}", "the kind of a key"),
        (f"a/b hs256 {SECRET}", "an id has"),
        (f"{'k' * 33} hs256 {SECRET}", "an id has"),
        ("k hs256", "a line is"),
        (f"k hs256 {SECRET} until=soon", "is a date"),
        (f"k hs256 {SECRET} class=worker", "after the key"),
        (f"k hs256 {SECRET} {OTHER}", "after the key"),
        (f"k ed25519-public {SECRET}AAAA", "base64"),
        (f"k ed25519-public {base64.b64encode(bytes(33)).decode()}", "has 33 bytes, not 32"),
        (f"k hs256 {SECRET}\nk hs256 {OTHER}", "a second key"),
    ],
)
def test_a_key_file_that_is_wrong_is_refused_without_showing_it(text: str, problem: str) -> None:
    with pytest.raises(KeyInvalid, match=problem) as caught:
        parse(text, "keys")
    assert SECRET not in str(caught.value)
    assert OTHER not in str(caught.value)


def test_a_bare_key_is_named_by_itself() -> None:
    (key,) = parse(f"{SECRET}\n", "keys")
    assert key.kid == kid_of(bytes(range(32)))
    assert SECRET not in repr(key)
    assert isinstance(key, Key)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "jr.key"
    file.write_text(SECRET)
    file.chmod(mode)
    with pytest.raises(KeyFileOpen) as caught:
        read_ring(file, "test")
    assert caught.value.message == f"The key file {file} can be read by others (mode {mode:04o})."
    assert caught.value.hint == f"chmod 600 {file}"
    file.chmod(0o400)
    assert len(read_ring(file, "test").keys) == 1


def test_keys_are_found_by_option_then_variable_then_file(tmp_path: Path) -> None:
    files = {}
    for name in ("typed", "named", "configured"):
        files[name] = tmp_path / name
        files[name].touch(mode=0o600)
        files[name].write_text(f"{name} hs256 {SECRET}")
    in_files = (files["configured"], "jobrunner.toml:3")
    environ = {"JOBRUNNER_AUTHKEY_FILE": str(files["named"])}
    assert find_ring(None, {}, None) is None
    for ring, kid in (
        (find_ring(None, {}, in_files), "configured"),
        (find_ring(None, environ, in_files), "named"),
        (find_ring(str(files["typed"]), environ, in_files), "typed"),
        (find_ring(None, {"JOBRUNNER_AUTHKEY": SECRET}, in_files), kid_of(bytes(range(32)))),
    ):
        assert ring is not None
        assert ring.keys[0].kid == kid
    with pytest.raises(OptionsClash):
        find_ring(None, environ | {"JOBRUNNER_AUTHKEY": SECRET}, None)
