"""Placeholders: what a function's arguments and a command's words become for one input."""

import json
from typing import Any

import msgspec
import pytest

from jobrunner.errors import BadArguments, BadValue
from jobrunner.mapping.inputs import BadInput, Input, combinations, json_lines
from jobrunner.mapping.template import Call, Command, path_part, show


def call(words: list[str], given: Input | str, seq: int = 1, **settings: Any) -> tuple[Any, Any]:
    made = Call(words, **{"has_keys": False, **settings})
    args, kwargs = made.arguments(Input(given) if isinstance(given, str) else given, seq)
    return json.loads(args), json.loads(kwargs)


def value(data: Any) -> Input:
    (made,) = json_lines([msgspec.json.encode(data)])
    return made


@pytest.mark.parametrize(
    ("form", "text", "part"),
    [
        (".", "d.x/a.tar.gz", "d.x/a.tar"),
        (".", "d.x/a", "d.x/a"),
        ("/", "d/a b.jpg", "a b.jpg"),
        ("//", "d/e/a.jpg", "d/e"),
        ("//", "a.jpg", "."),
        ("/.", "d/a.b.jpg", "a.b"),
        ("/.", ".hidden", ".hidden"),
    ],
)
def test_parts_of_paths(form: str, text: str, part: str) -> None:
    assert path_part(form, text) == part


def test_the_words_of_a_command_are_never_split_or_quoted() -> None:
    command = Command(["convert", "{}", "-o", "{/.}-{#}.webp", "{x}"], has_keys=False)
    given = Input("d/a b; rm -rf $HOME.jpg")
    assert command.argv(given, 7) == ["convert", given.text, "-o", "a b; rm -rf $HOME-7.webp", "{x}"]


def test_without_a_placeholder_the_input_is_the_last_word() -> None:
    assert Command(["gzip", "-k"], has_keys=False).argv(Input("a b"), 1) == ["gzip", "-k", "a b"]
    assert call([], "x") == (["x"], {})
    assert call(["1", "size=big"], "x") == ([1, "x"], {"size": "big"})


def test_a_placeholder_is_not_filled_again() -> None:
    assert Command(["echo", "{}{#}"], has_keys=False).argv(Input("{#}{}"), 3) == ["echo", "{#}{}3"]


def combination(*words: str) -> Input:
    (made,) = combinations([[word] for word in words])
    return made


def test_the_parts_of_a_combination_have_numbers_and_come_last_where_no_word_names_one() -> None:
    given = combination("d/a b.jpg", "800")
    words = ["{1}", "-resize", "{2}", "{1//}/{1/.}-{2}.webp", "{}", "{/}", "{#}"]
    assert Command(words, has_keys=False, parts=2).argv(given, 7) == [
        "d/a b.jpg",
        "-resize",
        "800",
        "d/a b-800.webp",
        "d/a b.jpg 800",
        "a b.jpg 800",
        "7",
    ]
    assert Command(["echo"], has_keys=False, parts=2).argv(given, 1) == ["echo", "d/a b.jpg", "800"]


def test_parts_of_a_combination_have_the_types_that_inputs_have() -> None:
    assert call([], combination("7", "007"), parts=2) == ([7, "007"], {})
    assert call(["{2}", "a={1}", "b={1}-{2}"], combination("true", "x"), parts=2) == (["x"], {"a": True, "b": "true-x"})
    assert call(["{}", "n:={1}", "{1/}"], combination("[1]", "2"), parts=2) == (["[1] 2", "[1]"], {"n": [1]})
    with pytest.raises(BadInput, match="'x' is not JSON"):
        call(["n:={1}"], combination("x", "2"), parts=2)


def test_a_part_that_there_is_not_is_refused_and_without_combinations_it_is_a_word() -> None:
    with pytest.raises(BadValue, match=r"'\{3/\}' is input 3 of a combination, which has 2\."):
        Command(["echo", "{3/}"], has_keys=False, parts=2)
    assert Command(["echo", "{1}"], has_keys=False).argv(Input("a"), 1) == ["echo", "{1}", "a"]


def test_a_word_with_nul_is_no_argument() -> None:
    with pytest.raises(BadInput, match="NUL"):
        Command(["echo", "{}"], has_keys=False).argv(Input("a\0b"), 1)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("3411", 3411),
        ("0", 0),
        ("007", "007"),
        ("-5", -5),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("NaN", "NaN"),
        ("a b", "a b"),
        ('"5"', "5"),
        ("[1,2]", [1, 2]),
        ("name=x", "name=x"),
        ("@file", "@file"),
        ("٣", "٣"),  # a digit, but not of ASCII
        ("9" * 400, int("9" * 400)),
    ],
)
def test_an_input_has_the_type_that_it_would_have_on_the_command_line(text: str, meant: Any) -> None:
    assert call(["{}"], text) == ([meant], {})
    assert call(["x={}"], text) == ([], {"x": meant})


def test_parts_of_a_path_are_text() -> None:
    assert call(["{/.}", "{.}"], "12.jpg") == (["12", "12"], {})


def test_a_word_with_more_than_a_placeholder_is_typed_when_it_is_filled() -> None:
    assert call(["img-{#}", "[{},{#}]"], "5", 3) == (["img-3", [5, 3]], {})


def test_a_value_after_colon_must_be_json() -> None:
    assert call(["x:={}"], "[1]") == ([], {"x": [1]})
    assert call(["x:=[{},1]"], '"a"') == ([], {"x": ["a", 1]})
    for words in (["x:={}"], ["x:=[{}]"]):
        with pytest.raises(BadInput, match="is not JSON"):
            call(words, "abc")


def test_json_values_keep_their_type() -> None:
    assert call([], value("7")) == (["7"], {})
    assert call([], value({"a": [1]})) == ([{"a": [1]}], {})
    assert call(["x={}"], value(None)) == ([], {"x": None})


def test_keys_name_fields_and_fields_within() -> None:
    user = value({"name": "ana", "age": 41, "tags": ["a"], "home": {"city": "Bern"}, "a.b": 1})
    made = call(["{name}", "n={age}", "t={tags}", "c={home.city}", "d={a.b}", "hi {name}, {age}"], user, has_keys=True)
    assert made == (["ana", "hi ana, 41"], {"n": 41, "t": ["a"], "c": "Bern", "d": 1})
    assert Command(["echo", "{home}", "{name}"], has_keys=True).argv(user, 1) == ["echo", '{"city":"Bern"}', "ana"]


@pytest.mark.parametrize("given", [value({"name": "ana"}), value([1]), value({"age": {"x": 1}})])
def test_an_input_without_a_key_is_no_input(given: Input) -> None:
    with pytest.raises(BadInput, match=r"it has no 'age\.y'"):
        call(["{age.y}"], given, has_keys=True)


def test_columns_are_typed_as_text_that_is_typed() -> None:
    row = Input("ana,41", b'{"name":"ana","age":"41"}', {"name": "ana", "age": "41"})
    assert call(["{name}", "age={age}"], row, has_keys=True, rows=True) == (["ana"], {"age": 41})
    assert call([], row, has_keys=True, rows=True) == ([row.keys], {})
    assert Command(["echo"], has_keys=True).argv(row, 1) == ["echo", "ana,41"]


def test_a_keyword_may_be_given_once() -> None:
    with pytest.raises(BadArguments, match="given twice"):
        Call(["x={}", "x=1"], has_keys=False)


def test_positional_and_named_arguments_are_known_beforehand() -> None:
    made = Call(["a", "{}", "x={#}"], has_keys=False)
    assert (made.positional, made.keywords) == (2, ["x"])


def test_what_a_run_was_made_with_is_shown_as_it_was_typed() -> None:
    assert show(["curl", "-sf", "{}"]) == "curl -sf {}"
    assert show(["sh", "-c", "echo {}; id"]) == "sh -c 'echo {}; id'"


def test_arguments_that_nest_too_deep_are_no_input() -> None:
    with pytest.raises(BadInput, match="nested deeper"):
        call(["x={}"], "[" * 70 + "]" * 70)
