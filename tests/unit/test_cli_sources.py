"""The check of a call against its source, by `ast` alone."""

from pathlib import Path

import pytest

from jobrunner.errors import BadArguments, NoSuchFunction
from jobrunner.sources import check_arguments, find_function, read_module

SOURCE = """
from jobrunner import job
import functools
raise SystemExit("this module must never be imported")

@job(queue="media", retries=5)
def resize(path: str, width: int = 1024): ...

@job
async def hello(name, /, *, loud: bool = False, **rest): ...

@functools.cache
def cached(a): ...

def _hidden(): ...

def every(*args, key): ...

if True:
    @job
    def inner(): ...

later = job(lambda: 1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(SOURCE)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("def f(): ...")
    (tmp_path / "pack/star.py").write_text("from other import *")
    (tmp_path / "pack/broken.py").write_text("def f(:")
    return tmp_path


def test_a_function_is_found_with_its_queue_and_signature(folder: Path) -> None:
    found = find_function("tasks:resize", folder)
    assert found is not None
    assert (found.queue, found.is_job, found.signature) == ("media", True, "resize(path: str, width: int = 1024)")


def test_a_signature_is_shown_with_all_its_kinds_of_parameters(folder: Path) -> None:
    found = find_function("tasks:hello", folder)
    assert found is not None
    assert found.signature == "hello(name, /, *, loud: bool = False, **rest)"


@pytest.mark.parametrize(
    "task", ["elsewhere:f", "pack.star:anything", "pack.broken:f", "tasks:later", "tasks:functools"]
)
def test_what_cannot_be_told_from_the_source_is_not_checked(task: str, folder: Path) -> None:
    assert find_function(task, folder) is None


@pytest.mark.parametrize("task", ["pack:f", "tasks:inner", "tasks:_hidden"])
def test_packages_and_nested_statements_are_looked_into(task: str, folder: Path) -> None:
    assert find_function(task, folder) is not None


def test_a_function_that_is_not_there_is_answered_with_the_nearest_and_all(folder: Path) -> None:
    with pytest.raises(NoSuchFunction) as caught:
        find_function("tasks:rezise", folder)
    assert caught.value.message == "tasks.py has no function 'rezise'. Did you mean 'resize'?"
    assert caught.value.hint == "It has: resize, hello, inner"


def test_a_module_without_jobs_lists_its_public_functions(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def a(): ...\ndef _b(): ...\n")
    module = read_module(tmp_path / "m.py")
    assert module is not None
    assert module.names == ["a"]


@pytest.mark.parametrize(
    ("task", "positional", "keywords", "problem"),
    [
        ("tasks:resize", 1, ["widht"], "tasks.resize() has no argument 'widht'. Did you mean 'width'?"),
        ("tasks:resize", 3, [], "tasks.resize() takes 2 arguments, not 3."),
        ("tasks:resize", 0, ["width"], "tasks.resize() needs the argument 'path'."),
        ("tasks:resize", 1, ["path"], "tasks.resize() gets 'path' twice."),
        ("tasks:every", 5, [], "tasks.every() needs the argument 'key'."),
        ("pack:f", 1, [], "pack.f() takes 0 arguments, not 1."),
    ],
)
def test_a_call_that_cannot_fit_is_refused_with_the_signature(
    task: str, positional: int, keywords: list[str], problem: str, folder: Path
) -> None:
    function = find_function(task, folder)
    assert function is not None
    with pytest.raises(BadArguments) as caught:
        check_arguments(task, function, positional, keywords)
    assert caught.value.message == f"{problem} Nothing was queued."
    assert caught.value.hint == function.signature


@pytest.mark.parametrize(
    ("task", "positional", "keywords"),
    [
        ("tasks:resize", 2, []),
        ("tasks:resize", 0, ["path", "width"]),
        ("tasks:hello", 1, ["loud", "anything", "name"]),
        ("tasks:every", 9, ["key"]),
        ("tasks:cached", 7, ["whatever"]),
    ],
)
def test_a_call_that_fits_or_cannot_be_judged_passes(
    task: str, positional: int, keywords: list[str], folder: Path
) -> None:
    function = find_function(task, folder)
    assert function is not None
    check_arguments(task, function, positional, keywords)
