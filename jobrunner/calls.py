"""What people type after `enqueue`, as a call: the target's name, and the typing rule of arguments."""

import json
import keyword
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jobrunner.errors import BadArguments, BadJsonArgument, BadTarget, BadValue, TargetIsPath
from jobrunner.registry import is_task_name

MAX_DEPTH: Final = 64
"""Deepest nesting of an argument."""

_SHOWN_VALUE = 60
_KEYWORD = re.compile(r"(\w+)(:?=)(.*)", re.DOTALL)
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_]\w*)(\s*:)")
_JSON_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True)
class Call:
    """A function's name with its arguments, any JSON values."""

    task: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """For people: `tasks.resize('photo.jpg', width=800)`, long values cut."""
        shown = [_short(value) for value in self.args]
        shown += [f"{name}={_short(value)}" for name, value in self.kwargs.items()]
        return f"{self.task.replace(':', '.')}({', '.join(shown)})"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_VALUE else shown[: _SHOWN_VALUE - 1] + "…"


def show_command(argv: Sequence[str]) -> str:
    """An argument list for people, quoted as a shell would need it."""
    return shlex.join(argv)


def parse_target(text: str) -> str:
    """The task name `module:function` from `tasks:resize` or `tasks.resize`.

    Raises: TargetIsPath for a file, BadTarget for anything else that names no function.
    """
    if not text:
        raise BadTarget(target=text, hint="jobrunner enqueue tasks:resize a.jpg")
    path, _, function = text.partition(":")
    if path.endswith(".py") or ("/" in path and function):
        stem = path.removesuffix(".py").removeprefix("./")
        module = stem.rpartition("/")[2] if stem.startswith(("/", ".")) else stem.replace("/", ".")
        function = function or _first_function(path)
        if is_task_name(f"{module}:{function}"):
            raise TargetIsPath(target=text, suggestion=f"{module}:{function}")
        raise BadTarget(target=text)
    if ":" not in text:
        module, dot, function = text.rpartition(".")
        text = f"{module}:{function}" if dot else text
    if not is_task_name(text):
        raise BadTarget(target=text)
    return text


def _first_function(path: str) -> str:
    """The first public function of a file that was given without one, for the hint."""
    from jobrunner.sources import read_module

    module = read_module(Path(path))
    names = module.names if module else []
    return names[0] if names else "FUNCTION"


def parse_arguments(
    words: Sequence[str], *, literal: Sequence[str] = (), raw: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """The typing rule: positional and keyword arguments from words as typed.

    A JSON literal is that value, all else text. `name=value` is a keyword, `name:=JSON` demands JSON; `name=@file` and
    `name:=@file` read a file, `name=@@x` is the text `@x`. literal: words that are text whatever they look like, after
    the others. raw: every word is text. Raises: BadJsonArgument, BadArguments, BadValue.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        match = None if raw else _KEYWORD.fullmatch(word)
        if match is None or not match[1].isidentifier() or keyword.iskeyword(match[1]):
            args.append(word if raw else literal_or_text(word))
            continue
        name, operator, text = match.groups()
        if name in kwargs:
            raise BadArguments(problem=f"The argument '{name}' is given twice.", signature=f"{name}=…")
        if text.startswith("@") and not text.startswith("@@"):
            kwargs[name] = _from_file(name, operator, text[1:])
        elif operator == ":=":
            kwargs[name] = _demand_json(name, text, text)
        else:
            kwargs[name] = text[1:] if text.startswith("@@") else literal_or_text(text)
    args.extend(literal)
    return args, kwargs


def literal_or_text(word: str) -> Any:
    """The value of a JSON literal (`42`, `true`, `[1]`, `"x"`), else the word itself (`007`, `NaN`, `1e999`)."""
    if not word or word != word.strip():
        return word
    try:
        return _strict(word)
    except (ValueError, RecursionError):
        return word


def _strict(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError("too large for a number")
    return value


def _demand_json(name: str, text: str, shown: str) -> Any:
    try:
        return _strict(text)
    except (ValueError, RecursionError) as exc:
        position = exc.pos + 1 if isinstance(exc, json.JSONDecodeError) else 1
        cut = shown if len(shown) <= _SHOWN_VALUE else shown[: _SHOWN_VALUE - 1] + "…"
        raise BadJsonArgument(name=name, value=cut, position=position, fixed=_repaired(text, cut)) from exc


def _repaired(text: str, shown: str) -> str:
    """What was probably meant: bare keys quoted, Python's quotes and words made JSON's; else the text as a string."""
    guess = _BARE_KEY.sub(r'\1"\2"\3', text.replace("'", '"'))
    for python, word in _JSON_WORDS.items():
        guess = re.sub(rf"\b{python}\b", word, guess)
    try:
        _strict(guess)
    except (ValueError, RecursionError):
        return json.dumps(shown, ensure_ascii=False)
    return guess if len(guess) <= _SHOWN_VALUE else guess[: _SHOWN_VALUE - 1] + "…"


def _from_file(name: str, operator: str, path: str) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        hint = f"the text itself: {name}=@@{path}" if operator == "=" else "a file that can be read"
        raise BadValue(problem=f"Cannot read '{path}' for {name}: {reason}.", hint=hint) from exc
    return _demand_json(name, text, f"@{path}") if operator == ":=" else text


def to_json(value: Any, encode: Callable[[Any], bytes]) -> bytes:
    """The JSON of arguments. Raises: BadValue for what JSON cannot carry: text that is not UTF-8, nesting over 64."""
    if _depth(value) > MAX_DEPTH + 2:  # the list or object of all arguments, and the innermost values
        raise BadValue(problem=f"The arguments are nested deeper than {MAX_DEPTH}.", hint="pass a path or URL")
    try:
        return encode(value)
    except UnicodeEncodeError as exc:
        raise BadValue(problem="An argument is not UTF-8 text.", hint="pass a path or URL") from exc


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
    return depth
