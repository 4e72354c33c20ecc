"""Functions for the tests of the Python API."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobrunner import Permanent, context, job

ran: list[str] = []


@job
def add(a: int, b: int = 0) -> int:
    return a + b


@job(queue="media", retries=5)
def resize(path: str, /, width: int, *, sharp: bool = False) -> str:
    return f"{path} {width} {sharp}"


@job
async def double(number: int) -> int:
    return 2 * number


@job
def back(value: object) -> object:
    return value


@job
def fails(kind: str) -> None:
    ran.append(f"{kind} {context.attempt} of {context.max_attempts}")
    if kind == "permanent":
        raise Permanent("never")
    raise KeyError(kind)


@job
def calls_another(number: int) -> Sequence[object]:
    before = context.id
    inner = add.delay(number, 1)
    return [inner.result(), before == context.id, inner.id != before]


@dataclass
class Point:
    x: int
    y: int


@job
def point() -> Point:
    return Point(1, 2)


def plain(a: int) -> int:
    return a


class Holder:
    def method(self) -> None: ...


@job
def gives_a_complex() -> complex:
    return 1j


@job
def note(text: str) -> dict[str, object]:
    return {"text": text, "after": list(context.after), "run": context.after_run}
