"""What is run for each input: words with placeholders, and the arguments that come of them.

`{}` the input, `{.}` without its extension, `{/}` its last part, `{//}` its folder, `{/.}` its last part without the
extension, `{#}` its number, `{key}` a field of a JSON object or of a row. Of a combination of several inputs `{1}` is
the first, `{1.}` `{1/}` `{1//}` `{1/.}` parts of it, and `{}` all of them. Nothing is quoted, for no shell reads it.
"""

import keyword
import os.path
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from jobrunner.calls import literal_or_text, parse_arguments, to_json
from jobrunner.errors import BadArguments, BadValue, JobrunnerError
from jobrunner.mapping.inputs import BadInput, Input

Make = Callable[[Input, int], bytes]
"""The JSON of one argument, of an input and its number."""

_PLACE: Final = re.compile(r"\{(#|\.|/|//|/\.|)\}|\{([A-Za-z_][\w.-]*)\}|\{([1-9]\d?)(\.|/|//|/\.|)\}")
"""Groups: form; key; number of a part, and its form."""
_KEYWORD: Final = re.compile(r"(\w+)(:?=)(.*)", re.DOTALL)
_SAFE_DIGITS: Final = 15
_encode = msgspec.json.encode


def has_place(words: Collection[str], *, has_keys: bool, parts: int = 0) -> bool:
    """Whether any word names a placeholder. has_keys: `{key}` is one. parts: `{1}` is one, to that number.

    Raises: BadValue for the number of a part that there is not.
    """
    found = [match for word in words for match in _PLACE.finditer(word)]
    for match in found:
        if match[3] is not None and 0 < parts < int(match[3]):
            raise BadValue(
                problem=f"'{match[0]}' is input {match[3]} of a combination, which has {parts}.",
                hint=f"{{1}} to {{{parts}}}",
            )
    return any((match[2] is None or has_keys) and (match[3] is None or parts > 0) for match in found)


def _with_inputs(words: Sequence[str], *, has_keys: bool, parts: int) -> list[str]:
    """The words; where none names an input, with it, or with each part of it, at the end."""
    if has_place(words, has_keys=has_keys, parts=parts):
        return list(words)
    return [*words, *([f"{{{number}}}" for number in range(1, parts + 1)] or ["{}"])]


def show(words: Sequence[str]) -> str:
    """The words for people, and to tell whether two runs were made alike."""
    return " ".join(
        word if _PLACE.search(word) and not re.search(r"[\s'\"\\]", word) else shlex.quote(word) for word in words
    )


def path_part(form: str, text: str) -> str:
    """What `{.}`, `{/}`, `{//}` or `{/.}` stands for; form: what is between the braces."""
    match form:
        case ".":
            return os.path.splitext(text)[0]  # noqa: PTH122 - a text, not a path of this machine
        case "/":
            return os.path.basename(text)  # noqa: PTH119
        case "//":
            return os.path.dirname(text) or "."  # noqa: PTH120
        case _:
            return os.path.splitext(os.path.basename(text))[0]  # noqa: PTH119, PTH122


def substitute(word: str, given: Input, seq: int, *, has_keys: bool) -> str:
    """A word with everything in its place. Raises: BadInput for a key that the input lacks."""

    def put(match: re.Match[str]) -> str:
        form, key, number, form_of_part = match.groups()
        if key is not None:
            return _shown(_field(given, key)) if has_keys else match[0]
        if number is not None:
            return _formed(given.parts[int(number) - 1], form_of_part) if given.parts else match[0]
        return str(seq) if form == "#" else _formed(given, form)

    return _PLACE.sub(put, word)


def _formed(given: Input, form: str) -> str:
    """An input as a text, or a part of its path; of a combination those of all its parts, with blanks between."""
    if given.parts:
        return " ".join(_formed(part, form) for part in given.parts)
    return path_part(form, _text(given)) if form else _text(given)


def _text(given: Input) -> str:
    """An input as text: a JSON text without its quotes, else as it was given."""
    if given.value is not None and given.value[:1] == b'"':
        return str(msgspec.json.decode(given.value))
    return given.text


def _field(given: Input, key: str) -> Any:
    value: Any = given.keys
    if value is not None and key in value:
        return value[key]
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise BadInput(reason=f"it has no '{key}'")
        value = value[part]
    return value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value).decode()


class Command:
    """An argument list. has_keys: whether inputs have fields, so that `{key}` is a placeholder.

    parts: of how many inputs each is a combination, 0 for none. Raises: BadValue.
    """

    def __init__(self, argv: Sequence[str], *, has_keys: bool, parts: int = 0) -> None:
        self._has_keys = has_keys
        self.words = _with_inputs(argv, has_keys=has_keys, parts=parts)
        self._is_fixed = [not has_place([word], has_keys=has_keys, parts=parts) for word in self.words]

    def argv(self, given: Input, seq: int) -> list[str]:
        """The argument list of one input. Raises: BadInput."""
        argv = [
            word if is_fixed else substitute(word, given, seq, has_keys=self._has_keys)
            for word, is_fixed in zip(self.words, self._is_fixed, strict=True)
        ]
        if any("\0" in word for word in argv):
            raise BadInput(reason="an argument holds a NUL character")
        return argv


class Call:
    """The arguments of a function. words: as after `enqueue TARGET`. rows: inputs are rows of text (CSV).

    parts: of how many inputs each is a combination, 0 for none. Raises: BadValue, the errors of arguments.
    """

    def __init__(self, words: Sequence[str], *, has_keys: bool, rows: bool = False, parts: int = 0) -> None:
        self._has_keys = has_keys
        self._rows = rows
        self._parts = parts
        self.words = _with_inputs(words, has_keys=has_keys, parts=parts)
        self._args: list[bytes | Make] = []
        self._kwargs: dict[str, bytes | Make] = {}
        for word in self.words:
            self._add(word)
        self._is_plain = len(self._args) == 1 and not self._kwargs and self.words == ["{}"] and not parts

    @property
    def positional(self) -> int:
        """How many positional arguments there are."""
        return len(self._args)

    @property
    def keywords(self) -> list[str]:
        """The names of the others."""
        return list(self._kwargs)

    def arguments(self, given: Input, seq: int) -> tuple[bytes, bytes]:
        """Args and kwargs of one input, as JSON. Raises: BadInput."""
        if self._is_plain:
            return b"[" + _typed(given, seq) + b"]", b"{}"
        args = [part if isinstance(part, bytes) else part(given, seq) for part in self._args]
        kwargs = [
            _encode(name) + b":" + (part if isinstance(part, bytes) else part(given, seq))
            for name, part in self._kwargs.items()
        ]
        return b"[" + b",".join(args) + b"]", b"{" + b",".join(kwargs) + b"}"

    def _add(self, word: str) -> None:
        if not has_place([word], has_keys=self._has_keys, parts=self._parts):
            args, kwargs = parse_arguments([word])
            self._args += [to_json(value, _encode) for value in args]
            for name, value in kwargs.items():
                self._name(name, to_json(value, _encode))
            return
        match = _KEYWORD.fullmatch(word)
        if match is None or not match[1].isidentifier() or keyword.iskeyword(match[1]):
            self._args.append(self._made_of(word, demands_json=False))
        else:
            self._name(match[1], self._made_of(match[3], demands_json=match[2] == ":="))

    def _name(self, name: str, part: bytes | Make) -> None:
        if name in self._kwargs:
            raise BadArguments(problem=f"The argument '{name}' is given twice.", signature=f"{name}=…")
        self._kwargs[name] = part

    def _made_of(self, text: str, *, demands_json: bool) -> Make:
        """How the value of a word with placeholders is made: one placeholder alone keeps its type."""
        has_keys, rows = self._has_keys, self._rows
        match = _PLACE.fullmatch(text)
        if match is not None and match[2] is not None and not rows:
            key = match[2]
            return lambda given, _: _json(_field(given, key))
        of_input = _demanded if demands_json else _typed
        if match is not None and match[3] is not None and self._parts:
            at, form = int(match[3]) - 1, match[4]
            if not form:
                return lambda given, seq: of_input(given.parts[at], seq)
            return lambda given, _: _json(_formed(given.parts[at], form))
        if match is not None and match[1] == "" and not self._parts:
            return of_input
        if match is not None and match[1] in (".", "/", "//", "/."):
            form = match[1]
            return lambda given, _: _json(_formed(given, form))

        def make(given: Input, seq: int) -> bytes:
            word = substitute(text, given, seq, has_keys=has_keys)
            return _strict(word) if demands_json else _json(literal_or_text(word))

        return make


def _json(value: Any) -> bytes:
    try:
        return to_json(value, _encode)
    except JobrunnerError as exc:
        raise BadInput(reason=exc.message.removesuffix(".")) from exc


def _typed(given: Input, _seq: int) -> bytes:
    """The input itself: a JSON value as it is, text by the rule for what is typed."""
    if given.value is not None:
        return given.value
    text = given.text
    if text.isdecimal() and text.isascii() and len(text) <= _SAFE_DIGITS and (text[0] != "0" or text == "0"):
        return text.encode()
    return _json(literal_or_text(text))


def _demanded(given: Input, _seq: int) -> bytes:
    return given.value if given.value is not None else _strict(given.text)


def _strict(text: str) -> bytes:
    try:
        return _json(msgspec.json.decode(text))
    except (ValueError, RecursionError) as exc:
        raise BadInput(reason=f"'{text[:60]}' is not JSON") from exc
