"""The local view for commands that look: opened, brought up to date, asked with the words that were typed."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from jobrunner.cli import out
from jobrunner.cli.command import option
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.view.filters import Filter
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

QUIET_S: Final = 0.5
"""So long reading goes on without a word."""
REDRAW_S: Final = 0.1
_ID_WORD = re.compile(r"[0-9a-hjkmnp-tv-z]{4,16}")


def no_sync_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--no-sync`, for all commands that look."""
    text = "Answer from what is known here; the ledger is not read."
    return option("--no-sync", is_flag=True, help=text)(command)


class Progress:
    """`reading the ledger … 62 %` on stderr, if that is a terminal, from half a second on; erased at the end."""

    def __init__(self, shared: Shared) -> None:
        self._is_shown = sys.stderr.isatty() and not shared.quiet and not shared.json
        self._next = time.monotonic() + QUIET_S
        self._has_drawn = False

    def __call__(self, records: int, fraction: float | None) -> None:
        """How far it is. fraction: None where the end is not known."""
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        self._next = now + REDRAW_S
        self._has_drawn = True
        how_far = f"{records:,} records" if fraction is None else f"{fraction * 100:.0f} %"
        sys.stderr.write("\r" + out.plain(f"reading the ledger … {how_far}", sys.stderr) + "\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave an empty line."""
        if self._has_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def opened(shared: Shared) -> Iterator["Store"]:
    """The view of the broker in force, as it is. Raises: the errors of configuration."""
    from jobrunner.view.recorder import open_view

    with open_view(shared.settings, on_notice=shared.warn) as store:
        yield store


async def catch_up(shared: Shared, store: "Store", *, no_sync: bool = False) -> None:
    """Bring the view up to date. Raises: the broker's errors."""
    if no_sync:
        return
    from jobrunner.cli.completing import remember
    from jobrunner.view.recorder import sync

    progress = Progress(shared)
    try:
        await sync(store, shared.settings.url, timeout_s=shared.settings.connect_timeout_s, on_progress=progress)
    finally:
        progress.end()
    remember(store)


@contextmanager
def current(shared: Shared, *, no_sync: bool) -> Iterator["Store"]:
    """The view, up to date unless `--no-sync` was typed."""
    import asyncio

    with opened(shared) as store:
        if not no_sync:
            asyncio.run(catch_up(shared, store))
        yield store


def is_id_word(word: str) -> bool:
    """Whether a word of a filter is an id or the beginning of one."""
    return _ID_WORD.fullmatch(word) is not None


def one_job(store: "Store", word: str | None) -> "JobRow":
    """The job of an id, of the beginning of one, or the newest of this user. Raises: NotFound, AmbiguousId."""
    from jobrunner.errors import NotFound

    if word is not None and is_id_word(word):
        row = store.job(store.resolve(word))
        if row is not None:
            return row
    rows = store.jobs(parsed([word or "last"], default="last"), limit=2)
    if not rows and word in (None, "last"):
        raise NotFound(message="No job of yours is known.", hint="jobrunner list")
    if len(rows) != 1:
        return _not_one(store, word or "last", len(rows))
    return rows[0]


def _not_one(store: "Store", word: str, count: int) -> "JobRow":
    """Raises: NotFound for a word that selects no job or several."""
    from jobrunner.errors import NotFound

    if not count and ":" not in word:
        store.resolve(word)
    what = "No job matches" if not count else "More than one job matches"
    raise NotFound(message=f"{what} {word}.", hint=f"jobrunner list {word}")


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
        raise NotFound(message=nothing(store, words) if words else "No job of yours is known.", hint="jobrunner list")
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
    sentence = f"No job matches {' '.join(words)}."
    if any("queue:" in word for word in words):
        queues = sorted(row.queue for row in store.counts(time.time()))
        sentence += f" Queues with jobs: {', '.join(queues)}" if queues else ""
    return sentence


def ids_from_stdin(words: Sequence[str]) -> list[str]:
    """The words, with `-` replaced by the ids on stdin: the first column of each line."""
    if "-" not in words:
        return list(words)
    if sys.stdin.isatty():
        out.say("reading; end with Ctrl-D")
    ids = [line.split()[0] for line in sys.stdin if line.strip()]
    return [each for word in words for each in (ids if word == "-" else [word])]
