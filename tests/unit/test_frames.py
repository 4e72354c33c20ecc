"""Frames: what one end encodes the other end gets, in pieces of any size; what is no frame is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.execution import frames
from jobrunner.outcome import Crashed, Error, Failed, Outcome, Rejected, RetryAsked, Succeeded, UnknownFunction
from jobrunner.registry import FunctionSpec

ERROR = Error(reason="error", message="no luck", class_name="ValueError", traceback="Traceback ...")
DOWN: list[frames.Down] = [
    frames.Setup(worker="w1", slot=1, apps=["tasks"], max_jobs=3),
    frames.Job(number=1, id="a" * 16, attempt=1, max_attempts=4, queue="q", task="t:f", args=msgspec.Raw(b"[1, 2]")),
    frames.Body(data=bytes(range(256))),
    frames.Job(number=2, id="b" * 16, attempt=2, max_attempts=4, queue="q", argv=["wc", "-c"], has_body=True),
    frames.Ping(number=7),
    frames.Stop(),
]
UP: list[frames.Up] = [
    frames.Hello(pid=4711),
    frames.Ready(functions=[FunctionSpec(name="tasks:resize", retries=2)]),
    frames.Fatal(app="tasks", reason="No module named 'PIL' (tasks.py:3)"),
    frames.Result(number=3, outcome=Succeeded(result=msgspec.Raw(b'{"a":[1]}')), leaves="ran 3 jobs"),
    frames.Pong(number=7),
]
OUTCOMES: list[Outcome] = [
    Failed(error=ERROR),
    Rejected(error=ERROR),
    RetryAsked(error=ERROR, after_s=3.5),
    Crashed(error=ERROR),
    UnknownFunction(error=ERROR),
]


@given(st.data())
def test_frames_arrive_whole_and_in_order_however_they_are_cut(data: st.DataObject) -> None:
    wire = b"".join(frames.encode(frame) for frame in DOWN)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    parser = frames.DownParser()
    got: list[frames.Down] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += parser.feed(wire[start:end])
    assert got == DOWN


def test_frames_arrive_byte_by_byte() -> None:
    wire = b"".join(frames.encode(frame) for frame in UP)
    parser = frames.UpParser()
    got = [frame for position in range(len(wire)) for frame in parser.feed(wire[position : position + 1])]
    assert got == UP


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_every_outcome_that_a_child_can_send_arrives_as_it_was(outcome: Outcome) -> None:
    assert frames.UpParser().feed(frames.encode(frames.Result(number=1, outcome=outcome))) == [
        frames.Result(number=1, outcome=outcome)
    ]


def test_the_layout_is_length_type_payload() -> None:
    assert frames.encode(frames.Ping(number=7)) == b'\x00\x00\x00\x0c\x04{"number":7}'
    assert frames.encode(frames.Body(data=b"\xff\x00")) == b"\x00\x00\x00\x02\x03\xff\x00"


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ((frames.UP_CAP_BYTES + 1).to_bytes(4, "big") + b"\x44", "the limit is"),
        (b"\xff\xff\xff\xff\x44", "the limit is"),
        (b"\x00\x00\x00\x00\x00", "unknown type 0"),
        (b"\x00\x00\x00\x02\x02{}", "unknown type 2"),
        (b"\x00\x00\x00\x02\x44{}", "cannot be decoded"),
        (b"\x00\x00\x00\x04\x44\xff\xfe\x00\x00", "cannot be decoded"),
        (b"\x00\x01\x86\xa0\x44" + b"[" * 100_000, "cannot be decoded"),
    ],
)
def test_what_is_no_frame_of_a_child_is_refused(wire: bytes, words: str) -> None:
    with pytest.raises(frames.FrameError, match=words):
        frames.UpParser().feed(wire)


def test_a_frame_over_the_cap_is_refused_before_its_payload_has_come() -> None:
    with pytest.raises(frames.FrameError, match="the limit is"):
        frames.DownParser().feed((frames.DOWN_CAP_BYTES + 1).to_bytes(4, "big") + b"\x03")


@given(st.binary(max_size=200))
def test_random_bytes_are_waited_for_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        frames.UpParser().feed(data)
    except frames.FrameError:
        return


def test_unknown_fields_are_ignored() -> None:
    payload = b'{"number":7,"later":true}'
    assert frames.UpParser().feed(len(payload).to_bytes(4, "big") + b"\x45" + payload) == [frames.Pong(number=7)]
