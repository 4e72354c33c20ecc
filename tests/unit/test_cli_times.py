"""`--at`: points in time in the local zone, with its changes of clocks."""

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from jobrunner.errors import BadTime, BadValue, JobrunnerError, TimeAmbiguous, TimeInThePast
from jobrunner.instants import parse_instant, show_instant

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
NOW = datetime.fromisoformat("2026-11-21T12:00:30+01:00").timestamp()  # a Saturday


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-22 07:00", "2026-11-22T07:00:00+01:00"),
        ("2026-11-22T07:00:15", "2026-11-22T07:00:15+01:00"),
        ("2026-11-22T07:00:00Z", "2026-11-22T08:00:00+01:00"),
        ("2026-11-22T07:00:00.5+09:00", "2026-11-21T23:00:00.5+01:00"),
        ("07:00", "2026-11-22T07:00:00+01:00"),
        ("7:00", "2026-11-22T07:00:00+01:00"),
        ("12:01", "2026-11-21T12:01:00+01:00"),
        ("12:00", "2026-11-22T12:00:00+01:00"),
        ("tomorrow 07:00", "2026-11-22T07:00:00+01:00"),
        ("mon 07:00", "2026-11-23T07:00:00+01:00"),
        ("sat 13:00", "2026-11-21T13:00:00+01:00"),
        ("Sat 07:00", "2026-11-28T07:00:00+01:00"),
        ("2026-07-01 12:00", None),
    ],
)
def test_a_time_is_the_instant_that_it_names(text: str, instant: str | None) -> None:
    if instant is None:
        with pytest.raises(TimeInThePast):
            parse_instant(text, NOW)
        return
    assert parse_instant(text, NOW) == datetime.fromisoformat(instant).timestamp()


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "2026-13-01 07:00", "someday 07:00", "07", "2026-11-22", "07:61"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadTime) as caught:
        parse_instant(text, NOW)
    assert "tomorrow 07:00" in caught.value.hint


def test_a_time_that_has_passed_says_how_long_ago() -> None:
    with pytest.raises(TimeInThePast) as caught:
        parse_instant("2026-11-20 07:00", NOW)
    assert caught.value.message == "2026-11-20 07:00 +01:00 was 29 h ago."
    assert caught.value.hint == "--at 'tomorrow 07:00'"


def test_an_hour_that_comes_twice_asks_for_its_offset() -> None:
    with pytest.raises(TimeAmbiguous) as caught:
        parse_instant("2027-10-31 02:30", NOW)
    assert caught.value.message == f"2027-10-31 02:30 happens twice in {BERLIN}."
    assert caught.value.hint == "add +02:00 (first) or +01:00"
    first, second = parse_instant("2027-10-31 02:30+02:00", NOW), parse_instant("2027-10-31 02:30 +01:00", NOW)
    assert second - first == 3600


def test_an_hour_that_the_clocks_leave_out_is_refused_with_its_neighbours() -> None:
    with pytest.raises(BadValue, match="2027-03-28 02:30 does not exist") as caught:
        parse_instant("2027-03-28 02:30", NOW)
    assert caught.value.hint == "--at '2027-03-28 01:30' · --at '2027-03-28 03:30'"


def test_an_instant_is_shown_with_its_offset_and_from_six_days_on_with_its_date() -> None:
    assert show_instant(NOW + 300, NOW) == "Sat 12:05:30 +01:00"
    assert show_instant(NOW + 8 * 86_400, NOW) == "2026-11-29 12:00:30 +01:00"


@pytest.mark.parametrize("text", ["9999-12-31 23:59", "0001-01-01 00:00", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar_are_refused_or_taken_but_never_a_crash(text: str) -> None:
    with contextlib.suppress(JobrunnerError):
        assert parse_instant(text, NOW) > NOW
