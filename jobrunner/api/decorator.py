"""`@job`: registers a function, and gives it ways to be run elsewhere. The function itself stays what it is.

Imported by every module of jobs, also in the worker's children, so nothing heavy is imported before it is used.
"""

import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

from jobrunner import registry

if TYPE_CHECKING:
    from typing import Unpack

    from jobrunner.api.call import Call
    from jobrunner.api.handle import JobHandle
    from jobrunner.api.options import OptionArguments

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Runnable(Generic[P, T_co]):
    """A function as jobs of this process's own client, with the options given so far."""

    def __init__(self, function: Callable[..., Any], given: "OptionArguments | None" = None) -> None:
        self._function = function
        self._given = given or {}

    def call(self, *args: P.args, **kwargs: P.kwargs) -> "Call[T_co]":
        """The call, not queued yet: for `enqueue_many`. Raises: BadArguments, NotJson, NotACall."""
        from jobrunner.api.call import call

        made: Call[Any] = call(self._function, *args, **kwargs)
        return made.options(**self._given) if self._given else made

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> "JobHandle[T_co]":
        """Queue this call. Returns once it is confirmed. Raises: as `Client.enqueue`."""
        from jobrunner.api.shared import client

        return client().enqueue(self.call(*args, **kwargs))

    delay = enqueue

    def map(self, *inputs: Iterable[Any], ordered: bool = True, max_in_flight: int = 1000) -> "Iterator[T_co]":
        """A job for each input, and their results as they come: see `Client.map`."""
        from jobrunner.api.shared import client

        found = client().options(**self._given) if self._given else client()
        results: Iterator[T_co] = found.map(self._function, *inputs, ordered=ordered, max_in_flight=max_in_flight)
        return results

    def options(self, **options: "Unpack[OptionArguments]") -> "Runnable[P, T_co]":
        """The same function, to be run so: `resize.options(queue="video", retries=5).delay("a.mov")`."""
        from jobrunner.api.options import Options

        given: OptionArguments = {**self._given, **options}
        Options().changed(**given)
        return Runnable(self._function, given)


class JobFunction(Protocol[P, R_co, T_co]):
    """A function marked with `@job`: called, it runs here, as ever; its methods queue it.

    They use one client for the whole process, found as the command line finds the broker. In a coroutine they would
    hold up the loop: `await AsyncClient().enqueue(function, ...)` does not.
    """

    __name__: str
    __qualname__: str
    __module__: str
    __doc__: str | None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run it here."""

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> "JobHandle[T_co]":
        """Queue a call. Returns once it is confirmed. Raises: as `Client.enqueue`."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> "JobHandle[T_co]":
        """The same as `enqueue`, under the name that it has elsewhere."""

    def call(self, *args: P.args, **kwargs: P.kwargs) -> "Call[T_co]":
        """A call, not queued yet: for `Client.enqueue_many`. Raises: BadArguments, NotJson, NotACall."""

    def map(self, *inputs: Iterable[Any], ordered: bool = True, max_in_flight: int = 1000) -> "Iterator[T_co]":
        """A job for each input, and their results as they come: see `Client.map`."""

    def options(self, **options: "Unpack[OptionArguments]") -> "Runnable[P, T_co]":
        """The same function, to be run so: `resize.options(queue="video", retries=5).delay("a.mov")`."""


class _Mark(Protocol):
    """What `@job(...)` gives."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> JobFunction[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R, R]: ...


@overload
def job(function: Callable[P, Coroutine[Any, Any, T]], /) -> JobFunction[P, Coroutine[Any, Any, T], T]: ...
@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R, R]: ...
@overload
def job(
    *,
    retries: int | None = None,
    backoff: str | float | None = None,
    timeout: str | float | None = None,
    queue: str | None = None,
) -> _Mark: ...
def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retries: int | None = None,
    backoff: str | float | None = None,
    timeout: str | float | None = None,
    queue: str | None = None,
) -> Any:
    """Register a function, `def` or `async def`, as one that a worker may run, and give it `enqueue`, `delay`, `map`,
    `call` and `options`. What is returned is the function itself.

    retries: attempts after the first, >= 0.
    backoff: `"10s..1h"`, or the first wait in seconds; it doubles, with full jitter.
    timeout: `"5m"` or seconds; none by default.
    queue: where it is sent when nothing else is said.
    What a job was enqueued with goes before these. Raises: ValueError for a function that no worker could look up by
    name (a lambda, a method, a function within a function); BadDuration.
    """
    if function is None:
        return lambda function: _equip(
            registry.job(retries=retries, backoff=backoff, timeout=timeout, queue=queue)(function)
        )
    return _equip(registry.job(function))


def _equip(function: Callable[..., Any]) -> Callable[..., Any]:
    runnable: Runnable[..., Any] = Runnable(function)
    with contextlib.suppress(AttributeError, TypeError):  # a function in C takes no attributes
        for name in ("enqueue", "delay", "call", "map", "options"):
            setattr(function, name, getattr(runnable, name))
    return function
