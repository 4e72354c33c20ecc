"""A line of `enqueue --from`: from JSON to an envelope."""

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobrunner.calls import parse_target
from jobrunner.cli.enqueue_after import Earlier
from jobrunner.cli.enqueue_plan import Plan, is_checked, queue_of, whoami
from jobrunner.cli.enqueue_values import absolute, checked_id
from jobrunner.cli.kinds import parse_priority
from jobrunner.cli.table import nearest
from jobrunner.durations import parse_backoff, parse_duration
from jobrunner.envelope import check_size
from jobrunner.errors import BadValue, JobrunnerError
from jobrunner.sources import Function, check_arguments, find_function
from jobrunner.wishes import Wishes, build

Duration = str | int | float


class Line(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a line may hold: what to run, and the options of `enqueue` by their long names."""

    call: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"[]")
    kwargs: msgspec.Raw = msgspec.Raw(b"{}")
    run: list[str] | None = None
    shell: str | None = None
    queue: str | None = None
    delay: Duration | None = None
    at: str | None = None
    expires: Duration | None = None
    priority: int | str | None = None
    retries: int | None = None
    backoff: Duration | None = None
    timeout: Duration | None = None
    id: str | None = None
    tag: str | list[str] | None = None
    label: str | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    stdin: str | None = None
    after: str | list[str] | None = None
    when: Literal["success", "failure", "end"] | None = None


_NO_OPTIONS = ("call", "args", "kwargs", "run", "shell", "after", "when")
_OPTIONS = [name for name in Line.__struct_fields__ if name not in _NO_OPTIONS]
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_EXPECTED = re.compile(r"((?:Expected|Invalid) .*?)(?: - at `\$\.?(.*)`)?")


class BadLine(JobrunnerError):
    """reason: what is wrong with it, without a full stop."""

    code = "bad_line"
    exit_code = 2
    text = "{reason}"


class LineReader:
    """Makes envelopes of lines. wishes: what the command line said, which holds where a line says nothing.

    earlier: what lines may wait for.
    """

    def __init__(self, wishes: Wishes, earlier: Earlier | None = None) -> None:
        self._wishes = wishes
        self._earlier = earlier or Earlier()
        self._user = whoami()
        self._decoder = msgspec.json.Decoder(Line)
        self._lists = msgspec.json.Decoder(list[msgspec.Raw])
        self._objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._functions: dict[str, Function | None] = {}
        self._ids: set[str] = set()
        self._folder = Path.cwd()

    def read(self, text: bytes) -> Plan:
        """The plan of a line. Raises: BadLine, or the error that the same words would raise on the command line."""
        line = self._decode(text)
        wishes = self._merge(line)
        plan = self._call(line, line.call, wishes) if line.call is not None else self._command(line, wishes)
        check_size(plan.envelope)
        if line.id is not None:
            self._earlier.made(plan.envelope)
        return plan

    def _decode(self, text: bytes) -> Line:
        try:
            text.decode()
            line = self._decoder.decode(text)
        except (ValueError, RecursionError) as exc:
            raise BadLine(reason=_why(text, exc)) from exc
        given = [line.call is not None, line.run is not None, line.shell is not None]
        if sum(given) != 1:
            raise BadLine(reason="exactly one of call, run and shell must say what to run")
        return line

    def _command(self, line: Line, wishes: Wishes) -> Plan:
        argv = ["/bin/sh", "-c", line.shell] if line.shell is not None else line.run or []
        if not argv or not argv[0] or line.shell == "":
            raise BadLine(reason="run is empty" if line.shell is None else "shell is empty")
        if any("\0" in word for word in argv):
            raise BadLine(reason="an argument holds a NUL character")
        envelope = build(wishes, {"argv": argv}, None, self._user)
        return Plan(envelope=envelope)

    def _call(self, line: Line, target: str, wishes: Wishes) -> Plan:
        task = target if target in self._functions else parse_target(target)
        if task not in self._functions:
            self._functions[task] = find_function(task, self._folder)
        function = self._functions[task]
        if line.stdin is not None:
            raise BadLine(reason="stdin is for commands; a function takes arguments")
        try:
            args, kwargs = self._lists.decode(line.args), self._objects.decode(line.kwargs)
        except ValueError as exc:
            raise BadLine(reason="args must be a list and kwargs an object") from exc
        if function is not None:
            check_arguments(task, function, len(args), kwargs)
        fields = {"task": task, "args": line.args, "kwargs": line.kwargs}
        envelope = build(wishes, fields, queue_of(function), self._user)
        return Plan(envelope=envelope, is_checked=is_checked(function))

    def _merge(self, line: Line) -> Wishes:
        """The command line's wishes, with the line's own in their place."""
        changes: dict[str, Any] = {}
        for name in _OPTIONS:
            if (value := getattr(line, name)) is not None:
                changes |= _wish(name, value)
        changes |= self._awaited(line)
        if not changes:
            return self._wishes
        if "job_id" in changes:
            if changes["job_id"] in self._ids:
                raise BadLine(reason=f"the id {changes['job_id']} was used in an earlier line")
            self._ids.add(changes["job_id"])
        if when := [name for name in ("delay_s", "at_s", "after") if name in changes]:
            changes = self._timed(when, changes)
        if "env" in changes:
            changes["env"] = self._wishes.env | changes["env"]
        if "tags" in changes:
            changes["tags"] = [*self._wishes.tags, *changes["tags"]]
        return replace(self._wishes, **changes)

    def _awaited(self, line: Line) -> dict[str, Any]:
        """What it waits for. Raises: BadLine, NotFound, AmbiguousId, BadValue."""
        if line.after is not None:
            return {"after": self._earlier.find(line.after, line.when or "success")}
        if line.when is None:
            return {}
        if self._wishes.after is None:
            raise BadLine(reason="when needs after")
        return {"after": msgspec.structs.replace(self._wishes.after, when=line.when)}

    def _timed(self, when: Sequence[str], changes: dict[str, Any]) -> dict[str, Any]:
        """A line that says when goes before the command line. Raises: BadLine."""
        if "after" in changes and len(when) > 1:
            raise BadLine(reason="after says when as well, so delay and at have no place")
        if len(when) > 1:
            raise BadLine(reason="delay and at both say when")
        if "after" not in changes and self._wishes.after is not None:
            raise BadLine(reason="--after says when as well, so delay and at have no place")
        return {"delay_s": None, "at_s": None} | changes


def _wish(name: str, value: Any) -> dict[str, Any]:
    """One option of a line as a field of `Wishes`. Raises: the error of that option."""
    field, convert = _WISHES.get(name, (name, _same))
    return {field: convert(value)}


def _same(value: Any) -> Any:
    return value


def _seconds(value: Duration) -> float:
    return parse_duration(str(value))


def _some_seconds(value: Duration) -> float:
    if (seconds := parse_duration(str(value))) <= 0:
        raise BadValue(problem=f"'{value}' is no time at all.", hint="90s, 5m, 1h30m")
    return seconds


def _instant(value: str) -> float:
    from jobrunner.instants import parse_instant

    return parse_instant(value)


def _retries(value: int) -> int:
    if not 0 <= value < 1_000_000:
        raise BadLine(reason=f"retries: {value} is not in 0 to 999999")
    return value


_WISHES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "delay": ("delay_s", _seconds),
    "at": ("at_s", _instant),
    "expires": ("expires_s", _some_seconds),
    "timeout": ("timeout_s", _some_seconds),
    "priority": ("priority", lambda value: parse_priority(str(value))),
    "retries": ("retries", _retries),
    "backoff": ("backoff", lambda value: parse_backoff(str(value))),
    "id": ("job_id", checked_id),
    "tag": ("tags", lambda value: [value] if isinstance(value, str) else value),
    "cwd": ("cwd", absolute),
    "stdin": ("stdin", str.encode),
}


def _why(text: bytes, exc: Exception) -> str:
    """What is wrong with a line, in a person's words and with a column."""
    if isinstance(exc, UnicodeDecodeError):
        return f"not UTF-8 at byte {exc.start + 1}"
    if isinstance(exc, msgspec.ValidationError):
        return _wrong_field(str(exc), Line.__struct_fields__)
    try:
        json.loads(text)
    except json.JSONDecodeError as problem:
        return f"not JSON: {problem.msg.removesuffix(' delimiter')} at column {problem.colno}"
    except (ValueError, RecursionError):
        pass
    return f"not JSON: {exc}"


def _wrong_field(message: str, known: Collection[str]) -> str:
    if unknown := _UNKNOWN.match(message):
        return f"unknown key '{unknown[1]}'.{nearest(unknown[1], list(known))}"
    expected = _EXPECTED.fullmatch(message)
    if expected is None:
        return message
    said = re.sub(r"`([^`]+)`", lambda found: _in_words(found[1]), expected[1])
    said = f"{said[0].lower()}{said[1:]}"
    return f"{expected[2]}: {said}" if expected[2] else said


def _in_words(kinds: str) -> str:
    """`int | null` as `a whole number or null`."""
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds.split(" | "))
