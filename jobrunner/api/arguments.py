"""Arguments of a call as JSON, held against the function's signature first; what is wrong is said by its name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from jobrunner.calls import MAX_DEPTH
from jobrunner.errors import BadArguments, NotJson

_encode = msgspec.json.Encoder().encode
_NOT_ENCODED = (TypeError, ValueError, OverflowError, RecursionError)


@lru_cache(maxsize=1024)
def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """The signature; None for what has none, such as some functions in C."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def check_call(name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Whether the function could be called so. Raises: BadArguments, with the signature as its hint."""
    least, most = _positional(function)
    if not kwargs and least <= len(args) <= most:
        return
    signature = signature_of(function)
    if signature is None:
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        shown = name.rpartition(":")[2]
        raise BadArguments(problem=f"{shown}(): {exc}.", signature=f"{shown}{signature}") from exc


@lru_cache(maxsize=1024)
def _positional(function: Callable[..., Any]) -> tuple[int, int]:
    """How many arguments without a name it takes, at least and at most; nothing fits (1, 0): the signature is asked.

    `Signature.bind` takes 3 µs, this nothing.
    """
    signature = signature_of(function)
    parameters = list(signature.parameters.values()) if signature else []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if signature is None or any(one.kind not in kinds for one in parameters):
        return 1, 0
    return sum(one.default is inspect.Parameter.empty for one in parameters), len(parameters)


def to_json(
    name: str, function: Callable[..., Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[bytes, bytes]:
    """The JSON of both. Raises: NotJson, naming the argument: no JSON form, NaN, text that is not UTF-8, too deep."""
    try:
        encoded = (_encode(list(args)) if args else b"[]"), (_encode(dict(kwargs)) if kwargs else b"{}")
    except _NOT_ENCODED:
        encoded = None
    if encoded is not None and not (_is_suspect(encoded[0]) or _is_suspect(encoded[1])):
        return encoded
    for argument, value in _named(function, args, kwargs):
        problem = _problem(value)
        if problem:
            raise NotJson(call=f"{name.rpartition(':')[2]}()", argument=argument, reason=problem)
    return encoded or (_encode(list(args)), _encode(dict(kwargs)))


def _is_suspect(data: bytes) -> bool:
    """Whether a closer look is needed: msgspec writes NaN and Infinity as null, and depth is only counted there."""
    return b"null" in data or data.count(b"[") + data.count(b"{") > MAX_DEPTH


def _named(
    function: Callable[..., Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    """Each argument with the name that the function has for it, or its number from 1."""
    signature = signature_of(function) if function is not None else None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in signature.parameters.values() if p.kind in kinds] if signature else []
    names += [str(number) for number in range(len(names) + 1, len(args) + 1)]
    return [*zip(names, args, strict=False), *kwargs.items()]


def _problem(value: Any) -> str:
    """Why a value is not JSON; empty if it is."""
    try:
        data = _encode(value)
        if b"null" in data and _has_no_json(msgspec.to_builtins(value, str_keys=True)):
            return "it holds NaN or Infinity"
    except UnicodeEncodeError:
        return "it holds text that is not UTF-8"
    except RecursionError:
        return "it holds itself, or nests too deep"
    except _NOT_ENCODED as exc:
        return str(exc)
    if _depth(msgspec.json.decode(data)) > MAX_DEPTH:
        return f"it nests deeper than {MAX_DEPTH}"
    return ""


def _depth(value: Any) -> int:
    """How deep lists and objects nest, level by level: recursion would fail on what it looks for."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)]
    return depth


def _has_no_json(value: Any) -> bool:
    """Whether a float in it is NaN or infinite."""
    level = [value]
    while level:
        if any(isinstance(item, float) and (item - item) != 0 for item in level):
            return True
        containers = [item for item in level if isinstance(item, dict | list | tuple | set | frozenset)]
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
    return False
