"""The wire format of a job: what is written is read again, and what is no job is refused with its reason."""

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import envelope
from jobrunner.envelope import Envelope, MalformedMessage, State
from jobrunner.ids import id_of, is_id, new_id

ID = "k7f2m9xq4tzd8w1r"


def body(**changes: object) -> bytes:
    fields: dict[str, object] = {"v": 1, "id": ID, "queue": "q", "iat": 1.5, "task": "tasks:add", "args": [1]}
    fields.update(changes)
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def test_a_sealed_job_is_decoded_to_itself() -> None:
    job = envelope.new_job(
        queue="video",
        argv=["ffmpeg", "-i", "a b.mov"],
        env={"A": "1"},
        cwd="/tmp",
        stdin=b"\x00\xff",
        max_attempts=1,
        timeout_s=5.0,
        tags=["x"],
    )
    sealed = envelope.seal(job, priority=8, not_before_s=1700.1234)
    assert envelope.decode(sealed.body, job.id) == job
    assert sealed.state.not_before_ms == 1700123
    assert sealed.priority == 8


def test_arguments_stay_raw() -> None:
    job = envelope.decode(body(args=[1, "zwei"], kwargs={"c": None}), ID)
    assert bytes(job.args) == b'[1,"zwei"]'
    assert bytes(job.kwargs) == b'{"c":null}'


def test_unknown_fields_of_a_newer_producer_are_ignored() -> None:
    assert envelope.decode(body(later={"deep": [1]}), ID).task == "tasks:add"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not a job"),
        (b"Hello...", "not a job"),
        (b"\x80\x04\x95pickle", "not a job"),
        (b"[]", "not a job"),
        (body()[:-4], "not a job"),
        (body() + b"x", "not a job"),
        (b"[" * 200_000, "not a job"),
        (body(id="K7F2M9XQ4TZD8W1R"), "not a job"),
        (body(id="k7f2"), "not a job"),
        (body(max_attempts=True), "not a job"),
        (body(max_attempts=0), "not a job"),
        (body(timeout_s=0), "not a job"),
        (body(task=None, argv=[]), "not a job"),
        (body(task=None), "either a task or an argv"),
        (body(argv=["ls"]), "either a task or an argv"),
        (body(args={"a": 1}), "args is not a list"),
        (body(kwargs=[1]), "kwargs is not an object"),
        (body(task=None, argv=["a\0b"], args=[]), "NUL"),
    ],
)
def test_what_is_no_job_is_refused_with_its_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        envelope.decode(raw, ID)


def test_the_id_in_the_body_must_be_the_message_id() -> None:
    with pytest.raises(MalformedMessage, match="message_id"):
        envelope.decode(body(), "0000000000000000")


@given(st.builds(State, **{name: st.integers(0, 2**53) for name in ("attempt", "copy", "chain", "crashes")}))
def test_state_travels_in_headers(state: State) -> None:
    assert envelope.state_of(dict(state.headers())) == state


@pytest.mark.parametrize("value", ["1", 1.0, True, -1, 2**60, b"1", [1]])
def test_a_header_of_another_type_is_malformed(value: object) -> None:
    with pytest.raises(MalformedMessage, match="jr-attempt"):
        envelope.state_of({"jr-attempt": value})


def test_foreign_headers_are_never_part_of_the_state() -> None:
    state = envelope.state_of({"x-death": [{"count": 3}], "CC": ["evil"], "jr-attempt": 2})
    assert state.headers() == {"jr-attempt": 2}


def test_the_next_copy_keeps_the_body() -> None:
    first = envelope.seal(envelope.new_job(queue="q", task="tasks:add"))
    second = first.with_state(attempt=1)
    assert second.body is first.body
    assert (second.state.copy, second.attempt) == (1, 2)
    assert first.key != second.key


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        envelope.decode(raw, None)


def test_ids_are_well_formed_and_differ() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_id(one) for one in ids)
    assert id_of(b"a", b"b") == "b6s73bgvqjrx67a1" != id_of(b"ab")


def test_a_copy_of_the_process_gives_other_ids_than_the_process() -> None:
    new_id()  # others are made ahead by now
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(writer, " ".join(new_id() for _ in range(100)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader) as file:
        theirs = file.read().split()
    assert len(theirs) == 100
    assert not {new_id() for _ in range(100)} & {*theirs}


def test_a_job_shows_no_arguments() -> None:
    job = envelope.new_job(queue="q", task="tasks:login", args=msgspec.Raw(b'["secret"]'), env={"K": "secret"})
    assert "secret" not in repr(job)
    assert isinstance(envelope.seal(job), Envelope)
