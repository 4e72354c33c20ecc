"""Values of `enqueue` that are read from here: the environment, the current folder, stdin."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from jobrunner.cli import out
from jobrunner.durations import format_size
from jobrunner.envelope import MAX_JOB_BYTES
from jobrunner.errors import BadValue, MessageTooLarge
from jobrunner.ids import is_id, new_id


def checked_id(job_id: str | None) -> str | None:
    """The id, if it has the form of one. Raises: BadValue."""
    if job_id is not None and not is_id(job_id):
        raise BadValue(problem=f"'{job_id}' is not a job id.", hint=f"16 characters such as {new_id()}")
    return job_id


def environment(words: Iterable[str]) -> dict[str, str]:
    """`K=V` as it is, `K` with its value from here. Raises: BadValue."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise BadValue(problem=f"'{word}' names no variable.", hint="--env NAME · --env NAME=VALUE")
        if not equals and name not in os.environ:
            raise BadValue(problem=f"The variable '{name}' is not set here.", hint=f"--env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def absolute(path: str) -> str:
    """A folder as seen from any other; symbolic links stay, they may differ at the worker."""
    return str(Path.cwd() / path)


def read_stdin() -> bytes:
    """All of stdin. Raises: MessageTooLarge."""
    if sys.stdin.isatty():
        out.say("reading; end with Ctrl-D")
    data = sys.stdin.buffer.read(MAX_JOB_BYTES + 1)
    if len(data) > MAX_JOB_BYTES:
        limit = format_size(MAX_JOB_BYTES)
        raise MessageTooLarge(size=f"more than {limit}", limit=limit, largest="stdin")
    return data
