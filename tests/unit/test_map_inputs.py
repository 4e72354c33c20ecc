"""What the inputs of a map are made of: lines, JSON values, rows, numbers; and which of equal ones one is."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.errors import BadValue
from jobrunner.mapping.halt import parse_halt
from jobrunner.mapping.inputs import Input, Table, combinations, json_lines, parse_range, plain, texts
from jobrunner.mapping.nths import Nths, TextSet


def test_lines_are_taken_as_they_are_and_empty_ones_left_out() -> None:
    assert list(plain([b" a b ", b"", "ü".encode()])) == [Input(" a b "), Input("ü")]


def test_of_several_groups_each_combination_is_an_input_the_last_group_changing_fastest() -> None:
    made = list(combinations([["A", "B"], ["1", "2 3"], ["x"]]))
    assert [[part.text for part in one.parts] for one in made] == [
        ["A", "1", "x"],
        ["A", "2 3", "x"],
        ["B", "1", "x"],
        ["B", "2 3", "x"],
    ]
    assert made[1].text == "A '2 3' x"
    assert list(combinations([["A"], []])) == []
    assert [one.problem for one in combinations([["a"], ["\udcff", "b"]])] == ["it is not UTF-8", None]


def test_no_two_combinations_have_one_text_however_blanks_are_spread() -> None:
    made = [*combinations([["a b", "a"], ["c", "b c"]]), *combinations([["a"], ["b"], ["c"]])]
    assert len({one.text for one in made}) == 5


def test_what_is_not_utf8_is_an_input_with_a_problem() -> None:
    (line,) = plain([b"a\xff"])
    assert (line.text, line.problem) == ("a\ufffd", "it is not UTF-8 at byte 2")
    (word,) = texts(["a\udcff"])
    assert word.problem == "it is not UTF-8"
    word.text.encode()


def test_json_lines_have_a_value_and_those_of_objects_keys() -> None:
    number, thing, bad = json_lines([b" 3.0 ", b"", b'{"a": 1}', b"{a}"])
    assert number == Input("3.0", b"3.0")
    assert thing == Input('{"a": 1}', b'{"a": 1}', {"a": 1})
    assert (bad.problem or "").startswith("it is not JSON: ")


def test_a_quote_that_is_never_closed_is_read_on_as_fast_as_rows_are() -> None:
    def took(first: bytes) -> float:
        table = Table()
        began = time.process_time()
        assert list(table.rows([b"a", first, *[b"1"] * 60_000])) or list(table.rest())
        return time.process_time() - began

    # looked at from its beginning with each of its lines it took some hundred times as long
    assert took(b'"') < 5 * took(b"1")


def test_rows_of_csv_may_hold_quotes_commas_and_ends_of_lines() -> None:
    table = Table()
    lines = b'\xef\xbb\xbfname,says\r\nana,"a, ""b""\nc"\r\nbob,\r\n'.split(b"\n")
    rows = [row for line in lines for row in table.rows([line])] + list(table.rest())
    assert [row.keys for row in rows] == [{"name": "ana", "says": 'a, "b"\nc'}, {"name": "bob", "says": ""}]
    assert msgspec.json.decode(rows[0].value or b"") == rows[0].keys


def test_rows_of_another_length_and_rows_that_are_none_are_inputs_with_a_problem() -> None:
    table = Table()
    short, text = table.rows([b"a,b", b"1", b"1,\xff"])
    assert short.problem == "it has 1 column, not 2"
    assert text.problem == "it is not UTF-8"
    assert not list(table.rows([b'1,"2']))
    (rest,) = table.rest()
    assert (rest.problem or "").startswith("it is no row of CSV")


@pytest.mark.parametrize("header", [b"a,a", b"a,", b","])
def test_columns_without_a_name_are_refused(header: bytes) -> None:
    with pytest.raises(BadValue, match="must name each column"):
        list(Table().rows([header]))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1-4", [1, 2, 3, 4]),
        ("0-10:5", [0, 5, 10]),
        ("3-1:-1", [3, 2, 1]),
        ("-2-1", [-2, -1, 0, 1]),
        ("-3--2", [-3, -2]),
        ("4-1", []),
    ],
)
def test_ranges_include_both_ends(text: str, numbers: list[int]) -> None:
    assert list(parse_range(text)) == numbers


@pytest.mark.parametrize("text", ["", "5", "a-b", "1-5:0", "1-5:", "1.5-3", "-", f"1-{10**30}"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="is not a range"):
        parse_range(text)


def test_equal_inputs_are_numbered() -> None:
    nths = Nths()
    assert [nths.next(text) for text in ("a", "b", "a", "a", "b", "c")] == [1, 1, 2, 3, 2, 1]


@given(st.lists(st.text(max_size=3)))
def test_numbers_are_those_of_a_plain_count(texts: list[str]) -> None:
    nths, counts = Nths(), dict.fromkeys(texts, 0)
    for text in texts:
        counts[text] += 1
        assert nths.next(text) == counts[text]


def test_a_hundred_thousand_texts_are_told_apart() -> None:
    known = TextSet()
    assert not any(known.add(str(number)) for number in range(100_000))
    assert all(str(number) in known for number in range(0, 100_000, 997))
    assert not any(str(number) in known for number in range(100_000, 110_000))


@pytest.mark.parametrize(
    ("text", "succeeded", "failed", "is_due"),
    [
        ("now,fail=1", 5, 0, False),
        ("now,fail=1", 5, 1, True),
        ("soon,success=3", 3, 0, True),
        ("soon,done=3", 1, 2, True),
        ("soon,fail=10%", 8, 1, False),
        ("soon,fail=10%", 9, 1, True),
        ("soon,fail=50%", 1, 1, False),
        ("soon,success=90%", 9, 1, True),
    ],
)
def test_a_halt_is_due(text: str, succeeded: int, failed: int, is_due: bool) -> None:
    halt = parse_halt(text)
    assert halt is not None
    assert halt.is_now == text.startswith("now")
    assert halt.is_due(succeeded=succeeded, failed=failed) == is_due


@pytest.mark.parametrize(
    "text", ["", "now", "later,fail=1", "now,fail", "now,fail=0", "soon,fail=101%", "soon,done=5%"]
)
def test_what_says_no_halt_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        parse_halt(text)


def test_never_is_no_halt() -> None:
    assert parse_halt("never") is None
