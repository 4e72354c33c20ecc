"""Output: head and tail of a stream of any length, as text, in bounded memory."""

from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner.execution.output import KEPT_BYTES, HeadTail


def kept(*chunks: bytes, head_bytes: int = KEPT_BYTES) -> HeadTail:
    stream = HeadTail(head_bytes)
    for chunk in chunks:
        stream.add(chunk)
    return stream


def test_a_short_stream_is_kept_whole() -> None:
    stream = kept(b"one\n", "zwölf\n".encode()).stream()
    assert (stream.head, stream.tail, stream.total_bytes) == ("one\nzwölf\n", "", 11)


def test_head_and_tail_of_a_long_stream_are_its_first_and_last_64_kib() -> None:
    lines = b"".join(b"%07d\n" % number for number in range(100_000))
    stream = kept(*(lines[start : start + 4096] for start in range(0, len(lines), 4096))).stream()
    assert stream.head.encode() == lines[:KEPT_BYTES]
    assert stream.tail.encode() == lines[-KEPT_BYTES:]
    assert stream.total_bytes == len(lines)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(0, 2 * KEPT_BYTES), st.integers(1, 50_000))
def test_up_to_128_kib_nothing_is_missing_between_head_and_tail(size: int, step: int) -> None:
    data = (b"%06d " * 20_000 % tuple(range(20_000)))[:size]
    stream = kept(*(data[start : start + step] for start in range(0, size, step))).stream()
    assert (stream.head + stream.tail).encode() == data


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(0, 8))
def test_no_character_is_cut_in_two(shift: int) -> None:
    text = "x" * shift + "€𝄞é" * 60_000
    stream = kept(text.encode()).stream()
    assert text.startswith(stream.head)
    assert text.endswith(stream.tail)
    assert "\ufffd" not in stream.head + stream.tail
    assert len(stream.head.encode()) > KEPT_BYTES - 4


def test_what_is_not_utf8_becomes_replacement_characters() -> None:
    assert kept(b"a\xff\xfeb").stream().head == "a\ufffd\ufffdb"
    assert kept(b"\x80" * 300_000).stream().total_bytes == 300_000


def test_memory_is_bounded() -> None:
    stream = kept(*[b"y\n" * 32_768] * 500)
    assert stream.total_bytes == 500 * 65_536
    assert len(stream.head) + len(stream._tail) <= 3 * KEPT_BYTES + 65_536


def test_a_larger_head_is_a_result_and_still_gives_both_ends_of_the_log() -> None:
    stream = kept(b"s" + b"a" * 200_000 + b"e", head_bytes=1024 * 1024)
    assert stream.first(1024 * 1024) == ("s" + "a" * 200_000 + "e", False)
    assert stream.first(3) == ("saa", True)
    log = stream.stream()
    assert (len(log.head), len(log.tail), log.tail[-2:]) == (KEPT_BYTES, KEPT_BYTES, "ae")


def test_the_last_line_is_the_last_that_says_something() -> None:
    assert kept(b"").last_line() == ""
    assert kept(b"first\nlast \n\n  \n").last_line() == "last"
    assert kept(b"x" * 300_000 + b"\nthe end\n").last_line() == "the end"
