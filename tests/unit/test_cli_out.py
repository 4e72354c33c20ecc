"""What is written: escapes, columns, marks."""

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.cli import out


class _Stream(io.StringIO):
    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é ✓", "plain é ✓"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("ab\u202ecd", "ab\\u202ecd"),
        ("\x7f\x00", "\\x7f\\x00"),
    ],
)
def test_what_could_act_on_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert out.printable(text) == shown


@given(st.text())
def test_no_control_character_passes(text: str) -> None:
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in out.printable(text))
    assert not any(ord(char) < 32 and char not in "\n\t" for char in out.printable(text, keep="\n\t"))


@given(st.text() | st.text("\\\t\n\r\x1b\x9b\u202exntu0b1"))
def test_a_cell_reads_back(text: str) -> None:
    shown = out.cell(text)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)
    known = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    read = re.sub(
        r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|.)",
        lambda found: known.get(found[0]) or chr(int.from_bytes(bytes.fromhex(found[0][2:]))),
        shown,
    )
    assert read == text


@given(st.text())
def test_json_is_the_same_and_acts_on_no_terminal(text: str) -> None:
    written = out.json_text(json.dumps({"text": text}, ensure_ascii=False, indent=1))
    assert json.loads(written) == {"text": text}
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u202e\u2066" for char in written)


def test_marks_and_our_sentences_are_ascii_where_the_locale_is() -> None:
    latin = _Stream("iso-8859-1")
    assert out.mark("✓", "never", latin) == "+"
    assert out.plain("a … b → c", latin) == "a ... b -> c"
    assert out.mark("✓", "never", _Stream("UTF-8")) == "✓"


@pytest.mark.parametrize(
    ("environ", "choice", "expected"),
    [
        ({}, "auto", False),
        ({}, "always", True),
        ({"FORCE_COLOR": "1"}, "auto", True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", False),
        ({"FORCE_COLOR": "1"}, "never", False),
    ],
)
def test_colour_follows_the_option_then_the_environment_then_the_terminal(
    environ: dict[str, str], choice: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert out.has_color(choice, _Stream("utf-8")) is expected


def test_times_are_rfc_3339_in_utc() -> None:
    assert out.iso(1_795_258_801.25) == "2026-11-21T11:00:01.250Z"


def test_talk_has_colours_and_lines_but_no_other_control(capsys: pytest.CaptureFixture[str]) -> None:
    out.say("\x1b[31mred\x1b[0m \x1b[2J \x1b]0;x\x07\nnext \x9b1m \u202e")
    assert capsys.readouterr().err == "\x1b[31mred\x1b[0m \\x1b[2J \\x1b]0;x\\x07\nnext \\x9b1m \\u202e\n"
