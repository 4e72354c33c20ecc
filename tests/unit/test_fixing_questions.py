"""The questions of commands that change jobs."""

import asyncio
import functools
import signal
from types import SimpleNamespace
from typing import Any

import click
import pytest

from jobrunner.cli import cancel as cancel_module
from jobrunner.cli import dead as dead_module
from jobrunner.cli import fixing, viewing
from jobrunner.cli.app import run
from jobrunner.cli.shared import Shared
from jobrunner.errors import ConfirmNeeded
from jobrunner.fixing.auditing import Auditor
from jobrunner.fixing.findings import Report
from tests.support.history import IDS, a_view, dead, queued


def test_ctrl_c_ends_a_question_that_is_asked_from_within_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def person(*_: object, **__: object) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    done = []

    async def command() -> None:
        fixing.confirm(Shared(), "retry 11 jobs", 11, yes=False)
        done.append("retried")

    monkeypatch.setattr(Shared, "may_ask", True)
    monkeypatch.setattr(fixing, "place", lambda _: "prod")
    monkeypatch.setattr(click, "confirm", person)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(command())
    assert not done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_only_the_very_name_lets_something_be_lost_and_none_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def person(answer: str) -> None:
        monkeypatch.setattr(click.termui, "visible_prompt_func", lambda text: asked.append(text) or answer)

    person(" jobs ")
    fixing.confirm_typed("This removes 3 jobs of 'jobs'. Type its name", "jobs")
    for wrong in ("", "y", "job"):
        person(wrong)
        with pytest.raises(click.Abort):
            fixing.confirm_typed("Type its name", "jobs")
    assert not any("[" in text for text in asked)


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (None, "Stopped."),
        (0, "Stopped."),
        (1, "Stopped; the cancel of 1 job is kept, and workers obey it."),
        (5000, "Stopped; the cancel of 5,000 jobs is kept, and workers obey it."),
    ],
)
def test_ctrl_c_during_a_cancel_says_whether_it_holds(
    kept: int | None, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(*args: Any) -> int:
        if kept is not None:
            args[-1].append(SimpleNamespace(kept=kept))
        raise KeyboardInterrupt

    monkeypatch.setattr(viewing, "opened", lambda _: a_view())
    monkeypatch.setattr(cancel_module, "_cancel", interrupted)
    assert run(["cancel", "all", "-y"]) == 130
    assert capsys.readouterr().err == f"{sentence}\n"


def test_the_notes_of_an_audit_name_the_command_that_helps_and_are_right_for_one_and_for_many() -> None:
    numbers = {"ready": 0, "running": 0, "later": 0, "moving": 0, "waiting": 0, "letters": 0}
    report = Report(ended={}, unrouted=1, stale_letters=1, **numbers)
    auditor = SimpleNamespace(_store=SimpleNamespace(holes=[SimpleNamespace(first_offset=5, last_offset=5)]))
    Auditor._remarks(auditor, report, SimpleNamespace(silent=[]))  # type: ignore[arg-type]
    assert report.notes == [
        "Dead letters of jobs that have gone on since: 1.  jobrunner audit --repair",
        "Messages that had no queue: 1, in 'jobrunner.v1.unrouted'.  jobrunner audit --repair",
        "Records that the ledger dropped before this view saw them: 1.",
    ]


def test_a_dry_purge_of_all_and_its_question_count_letters_that_the_ledger_does_not_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nothing(*_: object, **__: object) -> None:
        return

    found: list[str] = []

    async def unknown(*_: object) -> list[str]:
        return found

    monkeypatch.setattr(viewing, "catch_up", nothing)
    monkeypatch.setattr(dead_module, "_unknown", unknown)
    monkeypatch.setattr(fixing, "place", lambda _: "prod")
    with a_view([queued(), dead()]) as store:
        purge = functools.partial(dead_module._purge, Shared(), store)
        found.append("p3h8w2ac1n5kv7t2")
        asyncio.run(purge(["all"], dry_run=True, yes=False))
        assert capsys.readouterr().out.split() == [IDS[0], "p3h8w2ac1n5kv7t2"]
        asyncio.run(purge(["state:dead"], dry_run=True, yes=False))
        assert capsys.readouterr().out.split() == [IDS[0]]
        with pytest.raises(ConfirmNeeded, match="remove 2 dead jobs for good"):
            asyncio.run(purge(["all"], dry_run=False, yes=False))
    found.clear()
    with a_view() as store:
        asyncio.run(dead_module._purge(Shared(), store, ["all"], dry_run=False, yes=False))
    assert capsys.readouterr().err == "Nothing to purge.\n"
