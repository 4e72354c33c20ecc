"""From the words that were typed to jobs: ids, beginnings of ids, filters, ids on stdin."""

import re
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from jobrunner.cli import out

if TYPE_CHECKING:
    from jobrunner.view.filters import Filter
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

NONE_OF_YOURS: Final = "No job of yours is known."
_ID_WORD = re.compile(r"[0-9a-hjkmnp-tv-z]{4,16}")


def is_id_word(word: str) -> bool:
    """Whether a word of a filter is an id or the beginning of one."""
    return _ID_WORD.fullmatch(word.lower()) is not None


def one_job(store: "Store", word: str | None) -> "JobRow":
    """The job of an id, of the beginning of one, or of a filter that selects one; without a word this user's newest.

    Raises: NotFound, AmbiguousId, the usage errors of filters.
    """
    from jobrunner.errors import NotFound

    if word is not None and is_id_word(word):
        job_id = store.resolve(word)
    else:
        rows = store.jobs(parsed(["last" if word is None else word], default="last"), limit=2)
        if not rows and word in (None, "last"):
            raise NotFound(message=NONE_OF_YOURS, hint="jobrunner list")
        if len(rows) != 1:
            what = "No job matches" if not rows else "More than one job matches"
            raise NotFound(message=f"{what} {word}.", hint=shlex.join(["jobrunner", "list", word or "last"]))
        job_id = rows[0].id
    row = store.job(job_id)
    if row is None:
        raise NotFound(message=f"No job starts with '{job_id}'.", hint="jobrunner list")
    return row


def parsed(words: Sequence[str], *, default: str) -> "Filter":
    """The filter that these words mean, now and for this user. Raises: the usage errors of filters."""
    from jobrunner.client import whoami
    from jobrunner.view.filters import parse

    return parse(list(words), now=time.time(), user=whoami(), default=default)


def some_jobs(store: "Store", words: Sequence[str], *, default: str) -> list["JobRow"]:
    """The jobs that these words select, oldest first; several ids select all of them.

    Raises: NotFound for an id that is not known and where nothing matches, AmbiguousId, the usage errors of filters.
    """
    from jobrunner.errors import NotFound

    ids = [store.resolve(word) for word in words if is_id_word(word)]
    others = [word for word in words if not is_id_word(word)]
    if ids and not others:
        return [row for job_id in dict.fromkeys(ids) if (row := store.job(job_id)) is not None]
    where = parsed([*others, ",".join(dict.fromkeys(ids))] if ids else others, default=default)
    rows = store.jobs(where, limit=None, sort="created", reverse=True)
    if not rows:
        raise NotFound(message=nothing(store, words) if words else NONE_OF_YOURS, hint="jobrunner list")
    return rows


_LONE: Final = {
    "succeeded": "Nothing has succeeded.",
    "expired": "Nothing has expired.",
    "failed": "Nothing has failed.",
    "cancelled": "Nothing was cancelled.",
    "active": "Nothing is queued or running.",
}


def nothing(store: "Store", words: Sequence[str]) -> str:
    """What to say where no job matches."""
    if not words or list(words) == ["all"]:
        return "There are no jobs."
    if len(words) == 1 and words[0].startswith("state:") and "," not in words[0]:
        state = words[0].removeprefix("state:")
        return _LONE.get(state, f"Nothing is {state}.")
    sentence = f"No job matches {out.printable(' '.join(words))}."
    if any("queue:" in word for word in words):
        queues = sorted(row.queue for row in store.counts(time.time()) if row.queue)
        sentence += f" Queues with jobs: {out.printable(', '.join(queues))}" if queues else ""
    return sentence


def ids_from_stdin(words: Sequence[str]) -> list[str]:
    """The words, with `-` replaced by the ids on stdin: the first column of each line."""
    if "-" not in words:
        return list(words)
    if sys.stdin.isatty():
        out.say("reading; end with Ctrl-D")
    ids = [line.split()[0] for line in sys.stdin if line.strip()]
    return [each for word in words for each in (ids if word == "-" else [word])]
