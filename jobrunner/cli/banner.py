"""The first lines of a worker: who it is, where it listens, what it runs."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobrunner.cli import out

if TYPE_CHECKING:
    import ast

    from jobrunner.sources import Module

_THINGS: Final = ("path", "file", "dir", "folder", "url", "uri", "host", "id")
"""A parameter that is called so names something that is there: no word of ours would be right."""


def worker_banner(record: logging.LogRecord) -> list[str]:
    """The three lines of `jobrunner worker`."""
    facts: Any = record
    procs = f"{facts.procs} process{'' if facts.procs == 1 else 'es'}"
    return [
        f"jobrunner {facts.version}  worker {facts.worker}  pid {facts.pid}  {procs}",
        f"broker  {facts.broker}  {_product(facts.server_version)}",
        f"queues  {', '.join(facts.queues)}    runs  {_runs(facts)}    signed  {'yes' if facts.signed else 'no'}",
    ]


def _product(version: str) -> str:
    return version if version.startswith("RabbitMQ") else f"RabbitMQ {version}"


def _runs(facts: Any) -> str:
    functions = f"{facts.functions} function{'' if facts.functions == 1 else 's'}"
    what = [f"{functions} in {', '.join(facts.apps)}" if facts.apps else ""]
    if "*" in facts.allow_import:
        what.append("any function")
    elif facts.allow_import:
        what.append(f"functions under {', '.join(facts.allow_import)}")
    programs = ", ".join(facts.allow_programs)
    what.append("any command" if facts.allow_commands else f"commands {programs}" if programs else "no commands")
    return ", ".join(word for word in what if word)


def dev_banner(broker_note: str, apps: Sequence[str]) -> Callable[[logging.LogRecord], list[str]]:
    """The lines of `jobrunner dev`. broker_note: what becomes of the broker afterwards; apps: modules."""

    def banner(record: logging.LogRecord) -> list[str]:
        facts: Any = record
        shown = [line for app in apps if (line := _functions_of(app))]
        example = next((call for app in apps for call in _calls(app)), "-- echo hello")
        procs = f"{facts.procs} process{'' if facts.procs == 1 else 'es'}"
        return [
            "jobrunner dev: for trying things out. Runs any function or command it receives.",
            f"broker  {facts.broker}  {_product(facts.server_version)}{broker_note}",
            "  ".join([f"worker  {facts.worker}", procs, "reloads on *.py", *shown]),
            f"Try, in another terminal:  jobrunner enqueue {example}",
        ]

    return banner


def _functions_of(app: str) -> str:
    path = _source(app)
    if path is None:
        return ""
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return out.printable(f"{shown}: {', '.join(_names(app)) or 'no functions yet'}")


def _names(app: str) -> list[str]:
    module = _module(app)
    return module.names if module else []


def _calls(app: str) -> Iterator[str]:
    """Calls that can be typed as they stand, `tasks:add 2 3`: of functions that take numbers, texts and yes or no."""
    module = _module(app)
    for name in module.names if module else ():
        function = module.functions.get(name) if module else None
        words = _arguments(function.node.args) if function else None
        if words is not None:
            yield " ".join([f"{app}:{name}", *words])


def _arguments(spec: "ast.arguments") -> list[str] | None:
    """Words for what has no default; None if one of it takes something else, or names a thing that must be there."""
    numbers = itertools.count(2)
    positional = [*spec.posonlyargs, *spec.args]
    needed = positional[: len(positional) - len(spec.defaults)]
    named = [argument for argument, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if default is None]
    words = []
    for argument in [*needed, *named]:
        kind = getattr(argument.annotation, "id", None) if argument.annotation else "str"
        if kind in ("int", "float"):
            word = str(next(numbers))
        elif kind == "str" and not any(part in argument.arg for part in _THINGS):
            word = "you"
        else:
            return None
        words.append(f"{argument.arg}={word}" if argument in named else word)
    return words


def _module(app: str) -> "Module | None":
    from jobrunner.sources import read_module

    path = _source(app)
    return read_module(path) if path else None


def _source(app: str) -> Path | None:
    from jobrunner.sources import find_module

    return find_module(app, Path.cwd())
