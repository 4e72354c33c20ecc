"""`@job`: the table of functions that a worker may run, and what a running job can ask about itself."""

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar, overload

import msgspec

from jobrunner.durations import parse_backoff, parse_duration

P = ParamSpec("P")
R = TypeVar("R")

TASK_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""`module:function`. ASCII only, so that no look-alike letter passes; no attribute chain after the colon."""

MAX_TASK_NAME = 200


@lru_cache(maxsize=1024)
def is_task_name(name: str) -> bool:
    """Whether `name` has the form `package.module:function`, at most 200 characters."""
    return len(name) <= MAX_TASK_NAME and TASK_NAME.fullmatch(name) is not None


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a child reports of one function: its name and its own defaults. None: not set by the function."""

    name: str
    retries: int | None = None
    backoff_s: float | None = None
    backoff_max_s: float | None = None
    timeout_s: float | None = None
    queue: str | None = None


_functions: dict[str, tuple[FunctionSpec, Callable[..., Any]]] = {}


@overload
def job(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def job(
    *,
    retries: int | None = None,
    backoff: str | float | None = None,
    timeout: str | float | None = None,
    queue: str | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retries: int | None = None,
    backoff: str | float | None = None,
    timeout: str | float | None = None,
    queue: str | None = None,
) -> Any:
    """Register a function, `def` or `async def`, as one that a worker may run. The function itself is unchanged.

    retries: attempts after the first, >= 0.
    backoff: `"10s..1h"`, or the first wait in seconds; it doubles, with full jitter.
    timeout: `"5m"` or seconds; none by default.
    queue: where `enqueue` sends it when nothing else is said.
    What a job was enqueued with goes before these. Raises: ValueError for a function that no worker could look up by
    name (a lambda, a method, a function within a function); BadDuration.
    """
    if function is None:
        return lambda function: _register(function, retries, backoff, timeout, queue)
    return _register(function, None, None, None, None)


def _register(
    function: Callable[..., Any],
    retries: int | None,
    backoff: str | float | None,
    timeout: str | float | None,
    queue: str | None,
) -> Callable[..., Any]:
    name = f"{function.__module__}:{function.__qualname__}"
    if not is_task_name(name):
        raise ValueError(f"@job needs a function at the top of a module; {name!r} cannot be found by its name")
    if retries is not None and retries < 0:
        raise ValueError(f"@job(retries={retries}) on {name}: must be 0 or more")
    first_s, largest_s = (None, None) if backoff is None else parse_backoff(str(backoff))
    spec = FunctionSpec(
        name=name,
        retries=retries,
        backoff_s=first_s,
        backoff_max_s=largest_s,
        timeout_s=None if timeout is None else parse_duration(str(timeout)),
        queue=queue,
    )
    _functions[name] = (spec, function)
    return function


def specs() -> list[FunctionSpec]:
    """The registered functions, in the order of their registration."""
    return [spec for spec, _ in _functions.values()]


def lookup(name: str) -> Callable[..., Any] | None:
    """The registered function of that name, or None. The table is all that is asked: nothing is imported."""
    entry = _functions.get(name)
    return entry[1] if entry else None


def spec_of(function: Callable[..., Any] | None) -> FunctionSpec | None:
    """What `@job` was told about this very function; None if it is none."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    spec, known = _functions.get(name, (None, None))
    return spec if function is not None and known is function else None


class Context:
    """What a running job can ask about itself: `from jobrunner import context`.

    Outside a job every attribute raises RuntimeError.
    """

    def __init__(self) -> None:
        self._facts: dict[str, Any] | None = None

    def _fact(self, name: str) -> Any:
        if self._facts is None:
            raise RuntimeError(f"context.{name} is known only inside a running job")
        return self._facts[name]

    @property
    def id(self) -> str:
        """The job's id, 16 characters; the same in every attempt."""
        return str(self._fact("id"))

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""
        return int(self._fact("attempt"))

    @property
    def max_attempts(self) -> int:
        """How often it may be tried in all."""
        return int(self._fact("max_attempts"))

    @property
    def idempotency_key(self) -> str:
        """The same in every run of this job: give it to APIs that accept one, and a second run does no harm."""
        return str(self._fact("id"))

    @property
    def queue(self) -> str:
        """The queue that the job came from."""
        return str(self._fact("queue"))

    @property
    def worker(self) -> str:
        """The name of the worker that runs it."""
        return str(self._fact("worker"))

    @property
    def after(self) -> tuple[str, ...]:
        """The ids of the jobs that this one waited for, in the order given. See `Client.result`."""
        return tuple(self._fact("after"))

    @property
    def after_run(self) -> str | None:
        """The run whose end this job waited for. See `Client.results`."""
        value = self._fact("after_run")
        return None if value is None else str(value)

    @property
    def deadline(self) -> float | None:
        """When the timeout strikes, as seconds of `time.time()`; None without a timeout."""
        value = self._fact("deadline")
        return None if value is None else float(value)

    def progress(self, fraction: float | None = None, text: str | None = None) -> None:
        """Say how far this job is: `list` and `show` tell it. It is stored once a second at most.

        fraction: 0 to 1, None where it is unknown. text: at most 512 characters. Call it as often as you like: the
        newest counts. Raises: ValueError for a fraction outside of 0 to 1.
        """
        if self._facts is None:
            raise RuntimeError("context.progress() tells something only inside a running job")
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"context.progress({fraction!r}): a fraction is 0 to 1")
        tell = self._facts.get("tell")
        if tell is not None:
            tell(None if fraction is None else float(fraction), text)


context = Context()
"""The one context of this process: a worker's child runs one job at a time."""


def enter_context(facts: dict[str, Any]) -> None:
    """Make `context` answer for a job. facts: id, attempt, max_attempts, queue, worker, deadline; tell: a function that
    takes the fraction and the text of `context.progress`.
    """
    context._facts = facts  # noqa: SLF001 - the setter lives beside the class to keep the public face read-only


def leave_context() -> None:
    """Make `context` raise again."""
    context._facts = None  # noqa: SLF001


@contextlib.contextmanager
def inside(facts: dict[str, Any]) -> Iterator[None]:
    """`context` answers for a job within the block, and afterwards as before: an inline job may run another."""
    before = context._facts  # noqa: SLF001
    enter_context(facts)
    try:
        yield
    finally:
        context._facts = before  # noqa: SLF001
