"""Events that nobody of ours has written: the view takes what it can, and every line that is made of it can be made."""

import pytest

from jobrunner import events
from jobrunner.broker.stream import Record
from jobrunner.broker.topology import EVENTS
from jobrunner.cli import columns, events_text, phrases
from jobrunner.cli.shared import Shared
from jobrunner.view import documents
from tests.support import history as ledger
from tests.support.history import IDS, NOW

FAR = (1e18, -1e18, 1e300, 253_402_300_800.0)
"""Times that no calendar has."""


def forged(offset: int, event: events.Event, *swaps: tuple[bytes, bytes]) -> Record:
    body = events.encode(event)
    for was, now in swaps:
        assert was in body
        body = body.replace(was, now)
    return Record(offset, EVENTS, "x.-.x", None, body)


@pytest.mark.parametrize("name", [b"\\u0000", b"\\u0000x", b"", b"K7F2", b"%s\\u0000" % IDS[0].encode()])
def test_what_has_no_jobs_id_is_no_fact_of_a_job(name: bytes) -> None:
    with ledger.a_view([ledger.queued()]) as store:
        told = (ledger.started(), ledger.dead(), ledger.queued())
        store.fold([forged(10 + number, event, (IDS[0].encode(), name)) for number, event in enumerate(told)])
        store.fold([forged(20, ledger.started(), (IDS[0].encode(), name))])
        (row,) = store.jobs(ledger.words("all"), limit=9)
        assert (row.id, row.state) == (IDS[0], "queued")


@pytest.mark.parametrize("far", FAR)
def test_a_time_that_no_calendar_has_is_shown_somehow(far: float, capsys: pytest.CaptureFixture[str]) -> None:
    told = [ledger.queued(at=far), ledger.started(at=far), ledger.dead(at=far)]
    with ledger.a_view(told) as store:
        (row,) = store.jobs(ledger.words("all"), limit=9)
        columns.piped(row, list(columns.COLUMNS))
        columns.drawn([row], list(columns.COLUMNS), NOW, "never")
        documents.show_document(row, store.attempts(row.id), None)
    for shared in (Shared(), Shared(json=True)):
        for number, event in enumerate(told):
            events_text.show(shared, forged(number, event))
    assert capsys.readouterr().out.count("\n") == 6
    assert phrases.moment(far, NOW)
    assert phrases.clock(far)
