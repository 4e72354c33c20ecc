"""The questions of commands that change jobs."""

import asyncio
import signal

import click
import pytest

from jobrunner.cli import fixing
from jobrunner.cli.shared import Shared


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
