"""What a module of jobs holds, read from its source by `ast`: nothing of it is imported or run."""

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from jobrunner.errors import BadArguments, NoSuchFunction

_JOB: Final = ("job", "jobrunner.job")
_FEW = 8


@dataclass(frozen=True)
class Function:
    """A function of a source file.

    node: its definition. queue: that of `@job(queue="...")` where it is written out. is_plain: no decorator but `@job`,
    so that its signature is what it says.
    """

    node: ast.FunctionDef | ast.AsyncFunctionDef
    is_job: bool = False
    is_plain: bool = True
    queue: str | None = None

    @property
    def signature(self) -> str:
        """`resize(path: str, width: int = 1024)`."""
        return f"{self.node.name}({', '.join(_parameters(self.node.args))})"


@dataclass(frozen=True)
class Module:
    """A source file. others: names bound by other means than `def`; None: `from x import *` may bind any."""

    path: Path
    functions: dict[str, Function]
    others: frozenset[str] | None

    @property
    def names(self) -> list[str]:
        """Its jobs, or if it marks none as `@job`, its public functions."""
        jobs = [name for name, function in self.functions.items() if function.is_job]
        return jobs or [name for name in self.functions if not name.startswith("_")]


def find_module(name: str, folder: Path) -> Path | None:
    """The source of module `a.b` at or under `folder`, or None."""
    stem = folder.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def read_module(path: Path) -> Module | None:
    """What the file holds; None if it cannot be read or is not Python of this version."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    functions: dict[str, Function] = {}
    others: set[str] = set()
    has_star = False
    for node in _top_level(tree.body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions[node.name] = _function(node)
            case ast.ClassDef():
                others.add(node.name)
            case ast.Import() | ast.ImportFrom():
                has_star = has_star or any(alias.name == "*" for alias in node.names)
                others.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            case _:
                others.update(name.id for name in ast.walk(node) if isinstance(name, ast.Name) and _is_bound(name))
    return Module(path=path, functions=functions, others=None if has_star else frozenset(others))


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, also those within `if`, `try` and `with`."""
    for node in body:
        match node:
            case ast.If() | ast.Try() | ast.With():
                yield from (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr | ast.stmt))  # type: ignore[misc]
            case _:
                yield node


def _is_bound(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    is_job, is_plain, queue = False, True, None
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if ast.unparse(call.func if call else decorator) not in _JOB:
            is_plain = False
            continue
        is_job = True
        for word in call.keywords if call else ():
            if word.arg == "queue" and isinstance(word.value, ast.Constant) and isinstance(word.value.value, str):
                queue = word.value.value
    return Function(node=node, is_job=is_job, is_plain=is_plain, queue=queue)


def _parameters(spec: ast.arguments) -> Iterator[str]:
    positional = [*spec.posonlyargs, *spec.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(spec.defaults))
    for index, (argument, default) in enumerate(zip(positional, defaults + list(spec.defaults), strict=True)):
        yield _parameter(argument, default)
        if index + 1 == len(spec.posonlyargs):
            yield "/"
    if spec.vararg:
        yield f"*{_parameter(spec.vararg, None)}"
    elif spec.kwonlyargs:
        yield "*"
    for argument, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        yield _parameter(argument, default)
    if spec.kwarg:
        yield f"**{_parameter(spec.kwarg, None)}"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    text = f"{argument.arg}: {ast.unparse(argument.annotation)}" if argument.annotation else argument.arg
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if argument.annotation else f"{text}={ast.unparse(default)}"


def find_function(task: str, folder: Path) -> Function | None:
    """The function of a task whose source is under `folder`; None if it is not, or is bound by other means than `def`.

    Raises: NoSuchFunction.
    """
    name, _, function = task.partition(":")
    path = find_module(name, folder)
    module = read_module(path) if path else None
    if path is None or module is None or module.others is None or function in module.others - set(module.functions):
        return None
    found = module.functions.get(function)
    if found is None:
        names = module.names
        raise NoSuchFunction(
            file=path.relative_to(folder) if path.is_relative_to(folder) else path,
            function=function,
            suggestion=_nearest(function, module.functions),
            functions=", ".join(names),
            hint=None if 0 < len(names) <= _FEW else "",
        )
    return found


def check_arguments(task: str, function: Function, positional: int, keywords: Collection[str]) -> None:
    """Whether a call fits the signature. Raises: BadArguments: an unknown, a missing, a doubled or one too many."""
    if not function.is_plain:
        return
    spec = function.node.args
    shown = f"{task.replace(':', '.')}()"
    by_position = [argument.arg for argument in (*spec.posonlyargs, *spec.args)]
    by_name = [argument.arg for argument in (*spec.args, *spec.kwonlyargs)]
    given = by_position[:positional]
    for word in keywords:
        if word in given and word in by_name:
            raise BadArguments(problem=f"{shown} gets '{word}' twice.", signature=function.signature)
        if word not in by_name and spec.kwarg is None:
            problem = f"{shown} has no argument '{word}'.{_nearest(word, by_name)}"
            raise BadArguments(problem=problem, signature=function.signature)
    if positional > len(by_position) and spec.vararg is None:
        takes = f"{len(by_position)} argument{'' if len(by_position) == 1 else 's'}"
        raise BadArguments(problem=f"{shown} takes {takes}, not {positional}.", signature=function.signature)
    required = by_position[: len(by_position) - len(spec.defaults)]
    required += [arg.arg for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if default is None]
    missing = [name for name in required if name not in given and name not in keywords]
    if missing:
        raise BadArguments(problem=f"{shown} needs the argument '{missing[0]}'.", signature=function.signature)


def _nearest(word: str, known: Collection[str]) -> str:
    found = get_close_matches(word, known, n=1)
    return f" Did you mean '{found[0]}'?" if found else ""
