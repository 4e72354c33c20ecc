"""What people type after `enqueue`: targets, and the typing rule of arguments."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.calls import Call, literal_or_text, parse_arguments, parse_target, show_command, to_json
from jobrunner.errors import BadArguments, BadJsonArgument, BadTarget, BadValue, TargetIsPath

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("typed", "task"),
    [("tasks:resize", "tasks:resize"), ("tasks.resize", "tasks:resize"), ("a.b:c", "a.b:c"), ("a.b.c", "a.b:c")],
)
def test_a_target_is_a_module_and_a_function(typed: str, task: str) -> None:
    assert parse_target(typed) == task


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("tasks.py:resize", "tasks:resize"),
        ("./a/tasks.py:f", "a.tasks:f"),
        ("a/tasks:f", "a.tasks:f"),
        ("tasks.py", "tasks:FUNCTION"),
    ],
)
def test_a_file_is_answered_with_the_name_of_its_module(
    typed: str, suggestion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TargetIsPath) as caught:
        parse_target(typed)
    assert caught.value.hint == f"jobrunner enqueue {suggestion}"


@pytest.mark.parametrize(
    "typed", ["ffmpeg", "", ":", "a:", ":b", "a b:c", "tasks:a.b", "tasks:f()", "t\u0430sks:f", "/bin/ls"]
)
def test_what_names_no_function_is_refused(typed: str) -> None:
    with pytest.raises(BadTarget):
        parse_target(typed)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("42", 42),
        ("-5", -5),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("[1,2]", [1, 2]),
        ('{"a":1}', {"a": 1}),
        ('"42"', "42"),
        ("007", "007"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("True", "True"),
        ("a.jpg", "a.jpg"),
        ("", ""),
        (" 42", " 42"),
        ("[1,", "[1,"),
        ("1" * 5000, "1" * 5000),
        ("[" * 9000, "[" * 9000),
    ],
)
def test_a_json_literal_is_that_value_and_all_else_is_text(word: str, value: Any) -> None:
    assert literal_or_text(word) == value
    assert type(literal_or_text(word)) is type(value)


@given(JSON_VALUES)
def test_any_json_value_can_be_typed(value: Any) -> None:
    word = json.dumps(value)
    assert literal_or_text(word) == value
    assert parse_arguments([f"x:={word}"]) == ([], {"x": value})


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_can_be_passed_as_it_is(text: str) -> None:
    assert parse_arguments([], literal=[text]) == ([text], {})
    assert parse_arguments([text], raw=True) == ([text], {})
    assert parse_arguments([f"x=@{text}"] if text.startswith("@") else ["x=y"])[0] == []


def test_a_name_and_an_equals_sign_make_a_keyword() -> None:
    assert parse_arguments(["photo.jpg", "width=800", "mode=fast", "empty="]) == (
        ["photo.jpg"],
        {"width": 800, "mode": "fast", "empty": ""},
    )


@pytest.mark.parametrize("word", ["2=3", "a-b=c", "a.b=c", "class=x", "=x", "http://h/?a=b"])
def test_what_is_no_identifier_before_the_equals_sign_is_no_keyword(word: str) -> None:
    assert parse_arguments([word]) == ([word], {})


def test_a_keyword_may_be_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("42\n")
    (tmp_path / "j.json").write_text('{"a": [1]}')
    assert parse_arguments([f"x=@{tmp_path}/t.txt", f"y:=@{tmp_path}/j.json", "z=@@home"]) == (
        [],
        {"x": "42\n", "y": {"a": [1]}, "z": "@home"},
    )


def test_a_file_that_cannot_be_read_says_how_to_pass_the_text_itself() -> None:
    with pytest.raises(BadValue, match="Cannot read 'nowhere' for x: No such file") as caught:
        parse_arguments(["x=@nowhere"])
    assert caught.value.hint == "the text itself: x=@@nowhere"


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("size:={w:1}", "size:= needs JSON: '{w:1}' fails at character 2.", "size:='{\"w\":1}' · size='{w:1}'"),
        (
            "a:=['x', True]",
            "a:= needs JSON: '['x', True]' fails at character 2.",
            "a:='[\"x\", true]' · a='['x', True]'",
        ),
        ("a:=abc", "a:= needs JSON: 'abc' fails at character 1.", "a:='\"abc\"' · a='abc'"),
        ("a:=NaN", "a:= needs JSON: 'NaN' fails at character 1.", "a:='\"NaN\"' · a='NaN'"),
    ],
)
def test_json_that_was_demanded_and_is_none_says_where_it_fails_and_what_was_meant(
    word: str, message: str, hint: str
) -> None:
    with pytest.raises(BadJsonArgument) as caught:
        parse_arguments([word])
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_keyword_given_twice_is_refused() -> None:
    with pytest.raises(BadArguments, match="'x' is given twice"):
        parse_arguments(["x=1", "x=2"])


def test_arguments_may_be_64_deep_and_no_deeper() -> None:
    value: Any = 1
    for _ in range(64):
        value = [value]
    assert to_json([value], msgspec.json.encode)
    with pytest.raises(BadValue, match="deeper than 64"):
        to_json([[value]], msgspec.json.encode)


def test_text_that_is_not_utf8_is_refused_with_a_sentence() -> None:
    with pytest.raises(BadValue, match="not UTF-8"):
        to_json(["\udcff"], msgspec.json.encode)


def test_a_call_and_a_command_are_shown_for_people() -> None:
    assert str(Call("tasks:resize", ["photo.jpg"], {"width": 800})) == "tasks.resize('photo.jpg', width=800)"
    assert len(str(Call("t:f", ["x" * 9000]))) < 80
    assert show_command(["ffmpeg", "-i", "in file.mov"]) == "ffmpeg -i 'in file.mov'"
