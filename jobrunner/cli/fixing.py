"""What the commands that change jobs share: which jobs, whether they may, where."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from jobrunner.cli.command import option
from jobrunner.cli.phrases import plural
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

NO_QUESTION: Final = 10
"""So many jobs are changed without asking."""


def sure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--dry-run` and `--yes`."""
    with_yes = option("-y", "--yes", is_flag=True, help="Do not ask.")(command)
    return option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")(with_yes)


def are_ids(words: Sequence[str]) -> bool:
    """Whether each word is an id or the beginning of one: then exactly these jobs are meant."""
    from jobrunner.cli.selecting import is_id_word

    return all(is_id_word(word) for word in words)


def refuse_none(words: Sequence[str]) -> None:
    """Raises: UsageError without a word."""
    from jobrunner.errors import UsageError

    if not words:
        raise UsageError(message="Which jobs?", hint="an id, or a filter, be it 'all'")


def typed(words: Sequence[str]) -> list[str]:
    """The words, with `-` replaced by the ids on stdin, which may be none. Raises: UsageError without a word."""
    from jobrunner.cli.selecting import ids_from_stdin

    refuse_none(words)
    return ids_from_stdin(words)


def chosen(store: "Store", words: Sequence[str], states: Sequence[str]) -> list["JobRow"]:
    """The jobs of these words, oldest first: of ids whatever their state, of filters those in one of `states`.

    None without a word, as of an empty stdin. Raises: NotFound, AmbiguousId, the usage errors of filters.
    """
    from jobrunner.cli.selecting import parsed, some_jobs

    if not words:
        return []
    if are_ids(words):
        return some_jobs(store, words, default="all")
    where = parsed([*words, f"state:{','.join(states)}"], default="all")
    return store.jobs(where, limit=None, sort="created", reverse=True)


def place(shared: Shared) -> str:
    """Which broker, for questions: `prod (rabbit.prod/jobs)`."""
    url, profile = shared.settings.url, shared.settings.profile
    where = f"{url.host if url.port in (5671, 5672) else url.address}/{url.vhost}"
    return f"{profile} ({where})" if profile else where


def confirm(shared: Shared, what: str, count: int, *, yes: bool) -> None:
    """Ask whether to do it, if it is about more than ten jobs. what: `retry 312 jobs`.

    Raises: ConfirmNeeded when nobody is there to ask; click.Abort for a no.
    """
    from jobrunner.errors import ConfirmNeeded

    if yes or count <= NO_QUESTION:
        return
    if not shared.may_ask:
        raise ConfirmNeeded(action=what, target=place(shared))
    with ctrl_c_ends_it():
        if not click.confirm(f"{what[0].upper()}{what[1:]} on {place(shared)}?", default=False, err=True):
            raise click.Abort


def confirm_typed(question: str, wanted: str) -> None:
    """Let somebody type what will be lost. Raises: click.Abort for anything else."""
    with ctrl_c_ends_it():
        answer = click.prompt(question, err=True, default="", show_default=False)
    if answer.strip() != wanted:
        raise click.Abort


@contextmanager
def ctrl_c_ends_it() -> Iterator[None]:
    """Let Ctrl-C end a question that is asked from within the loop.

    asyncio takes the first one to cancel its task, which does not get to run before the question is answered.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def by_state(rows: Sequence["JobRow"]) -> str:
    """`12 jobs`, or where they differ `12 jobs (9 dead, 3 expired)`."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    parts = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    return plural(len(rows), "job") + (f" ({parts})" if len(counts) > 1 else "")
