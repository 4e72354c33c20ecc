"""Durations and sizes: what is taken, what is refused, and that they read back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.durations import (
    MAX_DURATION_S,
    format_about,
    format_duration,
    format_size,
    parse_backoff,
    parse_duration,
    parse_size,
)
from jobrunner.errors import BadDuration, BadSize, BadValue


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        ("PT5M", 300.0),
        ("p1dt2h", 93_600.0),
        ("0", 0.0),
        (" 5m ", 300.0),
    ],
)
def test_a_duration_is_read_in_every_form_that_the_help_names(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5 mins", "-5", "1m m", "P", "PT", "1e3", "nan", "inf", "5y", "h", "99999999d", "٣s"]
)
def test_what_is_no_duration_is_refused_with_the_text_as_typed(text: str) -> None:
    with pytest.raises(BadDuration) as caught:
        parse_duration(text)
    assert f"'{text}' is not a duration." == caught.value.message


@given(st.floats(min_value=0, max_value=MAX_DURATION_S))
def test_any_number_of_seconds_within_ten_years_is_a_duration(seconds: float) -> None:
    assert parse_duration(f"{seconds:.6f}") == pytest.approx(seconds, abs=1e-6)


@given(st.text(max_size=12))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    with contextlib.suppress(BadDuration):
        assert 0 <= parse_duration(text) <= MAX_DURATION_S


def test_a_backoff_has_a_first_and_a_largest_wait() -> None:
    assert parse_backoff("10s..1h") == (10.0, 3600.0)
    assert parse_backoff("10s") == (10.0, 3600.0)
    assert parse_backoff("2h") == (7200.0, 7200.0)
    with pytest.raises(BadValue, match="ends before it begins"):
        parse_backoff("1h..10s")


@pytest.mark.parametrize(
    ("text", "size"),
    [("500M", 500 * 1024**2), ("2G", 2 * 1024**3), ("1GiB", 1024**3), ("1048576", 1048576), ("1.5k", 1536)],
)
def test_a_size_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "5X", "M", "1 2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadSize):
        parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.3, "0.3 s"), (10, "10 s"), (59.96, "60 s"), (300, "5m"), (90, "1m30s"), (5400, "1h30m"), (183_600, "2d3h")],
)
def test_a_duration_is_shown_as_people_write_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (600, "10 min"), (29 * 3600, "29 h"), (3 * 86_400, "3 d"), (59.7, "1 min")]
)
def test_about_how_long_takes_one_unit(seconds: float, text: str) -> None:
    assert format_about(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(812, "812 B"), (65_536, "64.0 KiB"), (43_201_331, "41.2 MiB"), (2**31, "2.0 GiB")]
)
def test_a_size_is_shown_with_its_unit(size: int, text: str) -> None:
    assert format_size(size) == text
