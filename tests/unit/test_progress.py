"""How progress is read from words and lines, and how often it is told."""

import os
import tempfile
import time

import pytest

from jobrunner import context, registry
from jobrunner.execution import frames
from jobrunner.execution.progress import BURST, ProgressFile, Reporter, parse_fraction, parse_line, to_line


@pytest.mark.parametrize(
    ("word", "fraction"),
    [("40%", 0.4), ("0.4", 0.4), ("1", 1.0), ("100%", 1.0), ("0", 0.0), ("40", None), ("-1", None), ("half", None)],
)
def test_a_fraction_is_a_share_or_percent(word: str, fraction: float | None) -> None:
    assert parse_fraction(word) == fraction


@pytest.mark.parametrize("word", ["nan", "inf", "101%", ""])
def test_what_is_no_fraction_is_none(word: str) -> None:
    assert parse_fraction(word) is None


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("40% half of it", (0.4, "half of it")),
        ("40%", (0.4, None)),
        ("- reading", (None, "reading")),
        ("reading 3 files", (None, "reading 3 files")),
        ("", (None, None)),
    ],
)
def test_a_line_is_a_fraction_and_a_text(line: str, read: tuple[float | None, str | None]) -> None:
    assert parse_line(line) == read


def test_a_line_written_is_the_line_read() -> None:
    for fraction, text in ((0.4, "half of it"), (None, "40% is no fraction here"), (1.0, None), (0.125, None)):
        assert parse_line(to_line(fraction, text)) == (fraction, text)


def test_a_text_of_several_lines_stays_one_report() -> None:
    assert to_line(0.5, "a\nb") == "50% a b"


def test_many_reports_become_few_and_the_last_is_told_at_the_end() -> None:
    told: list[frames.Progress] = []
    reporter = Reporter(told.append)
    reporter.begin(7)
    for step in range(10_000):
        reporter.report(step / 10_000, None)
    assert BURST <= len(told) < BURST + 3
    reporter.end()
    assert told[-1] == frames.Progress(number=7, fraction=0.9999)


def test_nothing_is_told_outside_of_a_job_or_by_a_copy_of_the_process() -> None:
    told: list[frames.Progress] = []
    reporter = Reporter(told.append)
    reporter.report(0.5, None)
    reporter.begin(1)
    reporter._pid = os.getpid() + 1
    reporter.report(0.5, None)
    reporter.end()
    reporter._pid = os.getpid()
    reporter.report(0.6, None)
    assert told == []


def test_of_a_file_the_last_whole_line_counts() -> None:
    told: list[tuple[float | None, str | None]] = []
    with tempfile.TemporaryFile() as file:
        progress = ProgressFile(file.fileno(), lambda fraction, text: told.append((fraction, text)))
        progress.look()
        os.write(file.fileno(), b"10% first\n20% second\n30% thi")
        progress.look()
        progress.look()
        os.write(file.fileno(), b"rd\n")
        progress.look()
        os.write(file.fileno(), b"x" * 100_000 + b"\n40%\n")
        progress.look()
    assert told == [(0.2, "second"), (0.3, "third"), (0.4, None)]


def test_of_a_file_that_was_cut_the_new_beginning_counts() -> None:
    told: list[tuple[float | None, str | None]] = []
    with tempfile.TemporaryFile() as file:
        progress = ProgressFile(file.fileno(), lambda fraction, text: told.append((fraction, text)))
        os.write(file.fileno(), b"10% a long text\n")
        progress.look()
        os.ftruncate(file.fileno(), 0)
        os.pwrite(file.fileno(), b"20%\n", 0)
        progress.look()
    assert told == [(0.1, "a long text"), (0.2, None)]


def test_context_progress_tells_and_refuses_what_is_no_share() -> None:
    told: list[tuple[float | None, str | None]] = []
    with pytest.raises(RuntimeError, match="running job"):
        context.progress(0.5)
    registry.enter_context({"tell": lambda fraction, text: told.append((fraction, text))})
    try:
        context.progress(0.5, "half")
        context.progress(text="soon")
        with pytest.raises(ValueError, match="0 to 1"):
            context.progress(40)
    finally:
        registry.leave_context()
    assert told == [(0.5, "half"), (None, "soon")]


def test_the_allowance_comes_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    told: list[frames.Progress] = []
    reporter = Reporter(told.append)
    reporter.begin(1)
    for _ in range(20):
        reporter.report(0.1, None)
    before = len(told)
    now += 1.0
    reporter.report(0.2, None)
    assert len(told) == before + 1
