"""Output of jobs, put together from what came live and what was kept at the end."""

import json
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import events
from jobrunner.attempts import Run, Stream
from jobrunner.cli.following import Following
from jobrunner.cli.output_print import Printer
from jobrunner.cli.pieces import Lines, Piece, Unfold, amount, last_lines, rest_of
from jobrunner.cli.shared import Shared
from jobrunner.execution.output import HeadTail
from jobrunner.outcome import Error
from jobrunner.view.rows import AttemptRow, LogChunk
from tests.support.terminal import Terminal

ID = "k7f2m9xq4tzd8w1r"
OTHER = "p3h8w2ac1n5kv7t2"


def chunk(text: str, offset: int, *, stream: str = "out", at: float = 2.0, started: float = 1.0) -> LogChunk:
    return LogChunk(at=at, attempt=1, started_at=started, stream=stream, offset_bytes=offset, text=text)


def attempt(stdout: Stream | None = None, stderr: Stream | None = None, *, started: float = 1.0) -> AttemptRow:
    facts = {"chain": 0, "copy": 0, "worker": "w", "host": "h", "pid": 1}
    return AttemptRow(number=1, started_at=started, ended_at=9.0, stdout=stdout, stderr=stderr, **facts)


def whole(text: str) -> Stream:
    return Stream(head=text, total_bytes=len(text.encode()))


def joined(pieces: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_what_came_live_is_not_repeated_by_what_was_kept() -> None:
    unfold = Unfold(ID)
    past = unfold.past([attempt(whole("one\ntwo\nthree\n"))], [chunk("one\n", 0), chunk("two\n", 4)])
    assert joined(past) == "one\ntwo\nthree\n"
    assert joined(unfold.chunk(chunk("two\n", 4))) == ""
    assert joined(unfold.ended(1, 1.0, 9.0, (whole("one\ntwo\nthree\n"), None))) == ""


def test_a_chunk_that_comes_after_the_end_of_its_run_is_known_already() -> None:
    unfold = Unfold(ID)
    assert joined(unfold.ended(1, 1.0, 9.0, (whole("one\n"), None))) == "one\n"
    assert joined(unfold.chunk(chunk("one\n", 0))) == ""


def test_runs_follow_each_other_and_streams_stay_apart() -> None:
    unfold = Unfold(ID)
    attempts = [attempt(whole("b"), started=5.0), attempt(whole("a"), whole("A"), started=1.0)]
    assert [(piece.stream, piece.text) for piece in unfold.past(attempts, [])] == [
        ("out", "a"),
        ("err", "A"),
        ("out", "b"),
    ]


def test_only_one_stream_or_one_attempt_when_asked_for() -> None:
    kept = [attempt(whole("a"), whole("A"))]
    assert joined(Unfold(ID, streams=("err",)).past(kept, [])) == "A"
    assert joined(Unfold(ID, attempt=2).past(kept, [])) == ""


def test_between_head_and_tail_stands_how_much_was_not_kept() -> None:
    stream = Stream(head="head\n", tail="tail\n", total_bytes=3_100_010)
    assert joined(Unfold(ID).past([attempt(stream)], [])) == "head\n\n… 3.1 MB not kept …\ntail\n"
    assert rest_of(Stream(head="ab", tail="cd", total_bytes=4)) == "cd"


def test_what_was_sent_on_beyond_the_head_is_not_repeated_by_the_tail() -> None:
    unfold = Unfold(ID)
    live = [chunk("aaaa", 0), chunk("bbbb", 4), chunk("dddd", 12)]
    assert joined(piece for each in live for piece in unfold.chunk(each)) == "aaaabbbb\n… 4 bytes not kept …\ndddd"
    kept = Stream(head="aaaa", tail="ccccddddeeee", total_bytes=20)
    assert joined(unfold.ended(1, 1.0, 9.0, (kept, None))) == "eeee"


@given(st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=12), st.integers(1, 200))
def test_whatever_is_written_and_however_it_is_cut_into_chunks_the_text_is_that_of_the_end(
    data: bytes, sizes: list[int], known_bytes: int
) -> None:
    text = data.decode(errors="ignore")
    kept = HeadTail()
    kept.add(text.encode())
    unfold, shown, offset = Unfold(ID), "", 0
    for size in sizes:
        part = text.encode()[offset : min(offset + size, known_bytes)].decode(errors="ignore")
        if part:
            shown += joined(unfold.chunk(chunk(part, offset)))
            shown += joined(unfold.chunk(chunk(part, offset)))
            offset += len(part.encode())
    shown += joined(unfold.ended(1, 1.0, 9.0, (kept.stream(), None)))
    assert shown == text


def test_lines_wait_for_their_end() -> None:
    lines = Lines()
    assert list(lines.add(Piece(ID, 1, "out", 1.0, "a\nb"))) == [Piece(ID, 1, "out", 1.0, "a\n")]
    assert list(lines.add(Piece(ID, 1, "err", 2.0, "x"))) == []
    assert list(lines.add(Piece(ID, 1, "out", 3.0, "c\n"))) == [Piece(ID, 1, "out", 3.0, "bc\n")]
    assert list(lines.rest(OTHER)) == []
    assert list(lines.rest()) == [Piece(ID, 1, "err", 2.0, "x")]


def test_the_last_lines_include_the_one_without_an_end() -> None:
    pieces = [Piece(ID, 1, "out", 1.0, "a\nb\nc\nd")]
    assert joined(last_lines(pieces, 2)) == "c\nd"
    assert joined(last_lines(pieces, 9)) == "a\nb\nc\nd"
    assert last_lines(pieces, 0) == []


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(1, "1 bytes"), (999, "999 bytes"), (64_000, "64.0 kB"), (3_100_000, "3.1 MB"), (2 * 10**9, "2.0 GB")],
)
def test_amounts(size_bytes: int, shown: str) -> None:
    assert amount(size_bytes) == shown


def test_piped_output_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(Shared())
    printer.write(Piece(ID, 1, "out", 1.0, "\x1b[31mred"))
    printer.write(Piece(ID, 1, "err", 1.0, " and\n"))
    printer.close()
    assert capsys.readouterr().out == "\x1b[31mred and\n"


def test_on_a_terminal_nothing_of_a_job_can_act_on_it_and_the_last_line_has_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    printer = Printer(Shared(color="never"))
    printer.write(Piece(ID, 1, "out", 1.0, "\x1b[31mred\ttab"))
    printer.close()
    assert terminal.getvalue() == "\\x1b[31mred\ttab\n"


def test_of_several_jobs_each_line_begins_with_the_id_and_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(Shared(), has_ids=True, has_times=True)
    printer.write(Piece(ID, 1, "out", 0.5, "a"))
    printer.write(Piece(OTHER, 1, "out", 1.0, "x\ny"))
    printer.write(Piece(ID, 1, "out", 2.0, "b\n"))
    printer.finish(OTHER)
    assert capsys.readouterr().out.splitlines() == [
        f"1970-01-01T00:00:01.000Z {OTHER} x",
        f"1970-01-01T00:00:02.000Z {ID} ab",
        f"1970-01-01T00:00:01.000Z {OTHER} y",
    ]


def test_as_json_each_line_is_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(Shared(json=True))
    printer.write(Piece(ID, 2, "err", 1.5, "a\nb"))
    printer.close()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"schema": 1, "at": "1970-01-01T00:00:01.500Z", "id": ID, "attempt": 2, "stream": "err", "text": "a"},
        {"schema": 1, "at": "1970-01-01T00:00:01.500Z", "id": ID, "attempt": 2, "stream": "err", "text": "b"},
    ]


def _ran(text: str, started: float = 1.0) -> Run:
    return Run(worker="w", host="h", pid=1, started_at=started, ended_at=9.0, stdout=whole(text))


def test_following_prints_every_attempt_up_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    following = Following(Printer(Shared()), {ID: Unfold(ID)})

    failed = Error(reason="error", message="no")
    log = events.Log(at=2, id=ID, attempt=1, stream="out", text="one\n", offset_bytes=0, started_at=1.0)
    following.take(log)
    following.take(log)
    following.take(events.Retrying(at=3, id=ID, attempt=1, error=failed, due_at=4, ran=_ran("one\ntwo\n")))
    assert following.left == [ID]
    following.take(events.Succeeded(at=9, id=ID, attempt=2, ran=_ran("again\n", started=5.0)))
    following.take(log)
    assert capsys.readouterr().out == "one\ntwo\nagain\n"
    assert following.left == []
    assert following.ends[ID].state == "succeeded"
