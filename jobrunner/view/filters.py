"""Words that select jobs, as SQL. Pure: values travel as parameters, and no word becomes part of a statement."""

import difflib
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from jobrunner.errors import BadFilter
from jobrunner.view import terms
from jobrunner.view.terms import Term

MIN_PREFIX: Final = 4
_ID: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{1,16}")
_LAST: Final = re.compile(r"last(?::(\d{1,6}))?")
_ID_CHARS: Final = 16
_MAX_WORDS: Final = 500
"""Each word is a condition in one statement, and SQLite bounds the depth of those."""

_MAX_VALUES: Final = 30_000
_MAX_SQL_CHARS: Final = 900_000
"""SQLite takes 32,766 values and a million characters."""

_NOT: Final = "not:"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What words select. sql: a condition on the table `jobs`; parameters: its values, in order.

    prefixes: beginnings of ids among the words: each must fit exactly one job, and the store sees to it.
    now: when the words were read; states and ages are those of that moment.
    """

    words: tuple[str, ...]
    sql: str
    parameters: tuple[Any, ...]
    prefixes: tuple[str, ...]
    now: float


def parse(words: Sequence[str], *, now: float, user: str, default: str = "all") -> Filter:
    """The filter that these words mean: all of them must hold; what stands between commas are alternatives.

    now: seconds since the epoch. user: user@host, for `last`. default: the word that stands for none.
    Raises: BadFilter, BadDuration, BadTime.
    """
    typed = tuple(words) or (default,)
    if len(typed) > _MAX_WORDS:
        raise BadFilter(
            problem=f"{len(typed)} words are more than a filter takes ({_MAX_WORDS}).", hint="commas: k7f2,p3h8"
        )
    for word in typed:
        if not word.isascii() and (shown := word.encode(errors="replace").decode()) != word:
            raise BadFilter(problem=f"'{shown}' is not UTF-8.")
    prefixes: list[str] = []
    terms_found = [_word(word, now, user, prefixes) for word in typed]
    sql = " AND ".join(f"({term.sql})" for term in terms_found)
    parameters = tuple(value for term in terms_found for value in term.parameters)
    if len(parameters) > _MAX_VALUES or len(sql) > _MAX_SQL_CHARS:
        raise BadFilter(problem="These are more alternatives than a filter takes.", hint="in several commands")
    return Filter(words=typed, sql=sql, parameters=parameters, prefixes=tuple(prefixes), now=now)


def _word(word: str, now: float, user: str, prefixes: list[str]) -> Term:
    """One word. Raises: BadFilter, BadDuration, BadTime."""
    bare = word
    while bare.startswith(_NOT):
        bare = bare[len(_NOT) :]
    if bare != word:
        term = _word(bare, now, user, prefixes)
        if (len(word) - len(bare)) // len(_NOT) % 2 == 0:
            return term
        # a condition on a missing value is neither true nor false: its opposite is true
        return Term(f"NOT COALESCE(({term.sql}), 0)", term.parameters)
    if word == "all":
        return Term("1")
    key, colon, value = word.partition(":")
    if colon and (key in KEYS or key.startswith("args.")):
        return _keyed(key, value, now)
    parts = [_plain(part, user, prefixes) for part in word.split(",") if part.strip()]
    if not parts:
        raise BadFilter(problem="An empty word selects nothing.")
    ids = [term.parameters[0] for term in parts if term.sql == terms.EXACT_ID]
    if len(ids) > 1 and len(ids) == len(parts):
        return Term("id IN (SELECT value FROM json_each(?))", (msgspec.json.encode(ids).decode(),))
    return terms.any_of(parts)


def _meant(part: str) -> str:
    """What may have been meant, as a shell reads it."""
    return " · ".join(shlex.quote(f"{key}:{part}") for key in ("task", "queue"))


def _plain(part: str, user: str, prefixes: list[str]) -> Term:
    """`last`, `last:5`, an id or the beginning of one. Raises: BadFilter."""
    if found := _LAST.fullmatch(part):
        return terms.newest_of(user, int(found[1] or 1))
    key, colon, value = part.partition(":")
    if key == "last" and colon:
        raise BadFilter(problem=f"'{value}' is not a number of jobs.", hint="last:5")
    if colon:
        raise BadFilter(problem=f"There is no filter '{key}:'.{_nearest(key, KEYS)}", hint=_all_keys())
    lower = part.lower()
    if not _ID.fullmatch(lower):
        raise BadFilter(problem=f"'{part}' is no job id and no filter.", hint=_meant(part))
    if len(lower) < MIN_PREFIX:
        raise BadFilter(problem=f"'{part}' is too short for a job id: at least {MIN_PREFIX} characters of 16.")
    if len(lower) == _ID_CHARS:
        return Term(terms.EXACT_ID, (lower,))
    prefixes.append(lower)
    return terms.begins(lower)


def _keyed(key: str, value: str, now: float) -> Term:
    """`key:value`, with alternatives between commas. Raises: BadFilter, BadDuration, BadTime."""
    if not value:
        raise BadFilter(problem=f"'{key}:' needs a value.")
    if key.startswith("args."):
        return terms.any_of([terms.argument(key[5:], part) for part in _alternatives(key, value)])
    if key == "state":
        return terms.state([_state(name) for name in _alternatives(key, value)], now)
    make = KEYS[key]
    assert make is not None  # noqa: S101 - state is the one without a function
    return terms.any_of([make(part, now) for part in _alternatives(key, value)])


def _alternatives(key: str, value: str) -> list[str]:
    parts = [part for part in value.split(",") if part]
    if not parts:
        raise BadFilter(problem=f"'{key}:' needs a value.")
    return parts


def _state(name: str) -> str:
    if name not in terms.STATE_WORDS:
        raise BadFilter(
            problem=f"There is no state '{name}'.{_nearest(name, terms.STATE_WORDS)}", hint=", ".join(terms.STATE_WORDS)
        )
    return name


def _nearest(word: str, known: Any) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{found[0]}'?" if found else ""


def _all_keys() -> str:
    return " ".join(f"{key}:" for key in KEYS) + " args.NAME: not:"


KEYS: Final[dict[str, Callable[[str, float], Term] | None]] = {
    "state": None,
    "queue": lambda value, _now: terms.matches("queue", value),
    "task": lambda value, _now: terms.task(value),
    "tag": lambda value, _now: terms.tag(value),
    "run": lambda value, _now: terms.matches("run", value),
    "worker": lambda value, _now: terms.matches("worker", value),
    "host": lambda value, _now: terms.matches("host", value),
    "user": lambda value, _now: terms.user(value),
    "error": lambda value, _now: terms.matches("json_extract(error, '$.class')", value),
    "cause": lambda value, _now: terms.cause(value),
    "exit": lambda value, _now: terms.exit_code(value),
    "reason": lambda value, _now: terms.reason(value),
    "since": lambda value, now: Term("born >= ?", (terms.moment(value, now),)),
    "before": lambda value, now: Term("born < ?", (terms.moment(value, now),)),
    "slower": terms.slower,
}
"""Words with a colon, besides `args.NAME:` and `not:`."""
