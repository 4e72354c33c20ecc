"""A call that is not queued yet: a function, or a name, or a command, with its arguments as JSON and its options."""

import functools
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from jobrunner import registry
from jobrunner.api.arguments import check_call, to_json
from jobrunner.api.options import NONE_GIVEN, Options
from jobrunner.calls import parse_target, show_command
from jobrunner.envelope import Envelope, check_size
from jobrunner.errors import BadValue, NotACall
from jobrunner.wishes import Mold

if TYPE_CHECKING:
    from typing import Unpack

    from jobrunner.api.options import OptionArguments

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Target = Callable[..., Any] | str | Sequence[str]
"""A function, the name of one (`tasks:resize`), or a command as a list of words."""

_SHOWN = 60


class Call(msgspec.Struct, Generic[T_co], frozen=True, kw_only=True):
    """One job to be: made by `call(...)` or `function.call(...)`. The arguments are as they were then.

    fields: of the envelope's `Job`. own_queue: the function's. shown: for people, without values.
    """

    fields: dict[str, Any]
    shown: str
    own_queue: str | None = None
    given: Options = NONE_GIVEN

    def __repr__(self) -> str:
        # arguments may be secrets; they never reach a log line by accident
        return f"<Call {self.shown}>"

    def options(self, **options: "Unpack[OptionArguments]") -> "Call[T_co]":
        """The same call, to be run so."""
        return msgspec.structs.replace(self, given=self.given.changed(**options))

    def seal(self, base: Options, run: str, user: str, seq: int | None = None) -> Envelope:
        """Its envelope. base: options of the client. Raises: MessageTooLarge, QueueNameTooLong, BadValue."""
        return self.seal_in(Mold(self.given.over(base).wishes(run=run), user), seq)

    def seal_in(self, mold: Mold, seq: int | None) -> Envelope:
        """The same where many calls share their wishes. Raises: MessageTooLarge, QueueNameTooLong, BadValue."""
        envelope = mold.envelope(self.fields, self.own_queue, seq=seq)
        check_size(envelope)
        return envelope


@overload
def call(target: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Call[T]: ...
@overload
def call(target: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Call[T]: ...
@overload
def call(target: str, /, *args: Any, **kwargs: Any) -> Call[Any]: ...
@overload
def call(target: Sequence[str], /) -> Call[Any]: ...
def call(target: Any, /, *args: Any, **kwargs: Any) -> Call[Any]:
    """A call of a function, of a function's name, or of a command, with its arguments; nothing is published yet.

    Raises: BadArguments when they do not fit the signature; NotJson, naming the argument; NotACall for what no worker
    could find by its name; BadTarget.
    """
    if isinstance(target, functools.partial):
        return call(target.func, *target.args, *args, **(target.keywords | kwargs))
    if isinstance(target, str):
        name = parse_target(target)
        function = registry.lookup(name)
    elif callable(target):
        name, function = _known_name(target) if type(target) is FunctionType else name_of(target), target
    else:
        return _command(target, args, kwargs)
    if function is not None:
        check_call(name, function, args, kwargs)
    raw_args, raw_kwargs = to_json(name, function, args, kwargs)
    spec = registry.spec_of(function)
    fields = {"task": name, "args": msgspec.Raw(raw_args), "kwargs": msgspec.Raw(raw_kwargs)}
    return Call(fields=fields, shown=f"{name}()", own_queue=spec.queue if spec else None)


def _command(argv: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Call[Any]:
    if not isinstance(argv, Sequence) or isinstance(argv, bytes) or not all(isinstance(word, str) for word in argv):
        raise NotACall(what=repr(argv)[:_SHOWN], reason="it is neither a function nor a list of words.")
    if not argv:
        raise NotACall(what="an empty list", reason="a command has at least one word.")
    if args or kwargs:
        raise NotACall(what=show_command(argv)[:_SHOWN], reason="all arguments of a command stand in its list.")
    if any("\0" in word for word in argv):
        raise BadValue(problem="A command's words cannot hold a NUL character.", hint="pass a path")
    return Call(fields={"argv": list(argv)}, shown=argv[0])


def name_of(function: Callable[..., Any]) -> str:
    """`module:function`. What is defined in the program that runs has the name under which a worker would import it.

    Raises: NotACall.
    """
    module = getattr(function, "__module__", None) or ""
    qualname = getattr(function, "__qualname__", "")
    if module == "__main__":
        module = _name_of_main()
    name = f"{module}:{qualname}"
    if not module or not registry.is_task_name(name):
        what = str(getattr(function, "__name__", type(function).__name__))
        raise NotACall(
            what=what, reason="workers find functions by name, and this one stands in no module's top level."
        )
    return name


_known_name = functools.lru_cache(maxsize=1024)(name_of)


def _name_of_main() -> str:
    """The module that runs as `__main__`, under its own name; empty where it has none, as at a prompt."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else ""
