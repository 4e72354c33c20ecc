"""What `--after` names, from words to ids: jobs by their ids or beginnings of them, and runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.envelope import After
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

WHEN: Final = ("success", "failure", "end")
_RUN: Final = "run:"


def after_of(shared: Shared, words: Sequence[str], when: str) -> "After":
    """What a job is to wait for; looked up in the ledger, so that a job that is not there is found out now.

    Raises: NotFound, AmbiguousId, BadValue, the broker's errors.
    """
    import asyncio

    from jobrunner.cli.viewing import catch_up, opened

    names = names_in(words)
    with opened(shared) as store:
        asyncio.run(catch_up(shared, store))
        return wish(store, names, when)


def names_in(words: Sequence[str]) -> list[str]:
    """Each of them, where commas may stand between."""
    return [name for word in words for name in word.split(",") if name]


def wish(store: "Store | None", names: Sequence[str], when: str, made: Mapping[str, float] | None = None) -> "After":
    """What these name. made: id -> when it was made, of jobs that are not in the ledger yet.

    Raises: NotFound, AmbiguousId, BadValue.
    """
    from jobrunner.envelope import After
    from jobrunner.errors import BadValue

    runs = [name.removeprefix(_RUN) for name in names if name.startswith(_RUN)]
    if len(runs) > 1:
        raise BadValue(problem="A job waits for one run at most.", hint="--after run:NAME")
    new = {name: made[name] for name in names if made and name in made}
    rows = [_row(store, name) for name in names if not name.startswith(_RUN) and name not in new]
    since = [row.created_at or row.state_at for row in rows] + [_begin_of(store, run) for run in runs]
    since += new.values()
    if not since:
        raise BadValue(problem="--after names no job.", hint="--after k7f2m9xq · --after run:NAME")
    jobs = dict.fromkeys(new, 0) | {row.id: row.chain for row in rows}
    fields = {"jobs": jobs, "run": runs[0] if runs else None, "when": when}
    return After(since=min(since), **fields)  # type: ignore[arg-type]  # click, or the type of a line, has checked it


def _row(store: "Store | None", name: str) -> "JobRow":
    """Raises: NotFound, AmbiguousId."""
    from jobrunner.cli.selecting import one_job
    from jobrunner.errors import NotFound

    if store is None:
        raise NotFound(message=f"No job starts with '{name}'.", hint="jobrunner list")
    return one_job(store, name)


def _begin_of(store: "Store | None", run: str) -> float:
    """When the first job of a run was made. Raises: NotFound."""
    from jobrunner.cli.selecting import parsed
    from jobrunner.errors import NotFound

    where = parsed([f"run:{run}"], default="all")
    rows = store.jobs(where, limit=1, reverse=True) if store is not None else []
    if not rows:
        raise NotFound(message=f"There is no run '{run}'.", hint="jobrunner list")
    return rows[0].created_at or rows[0].state_at


def shown(after: "After") -> str:
    """`after k7f2m9xq`, and when it matters, after which end."""
    from jobrunner.view.rows import SHORT_ID_CHARS

    names = [job_id[:SHORT_ID_CHARS] for job_id in after.jobs] + ([f"run {after.run}"] if after.run else [])
    how = {"success": "", "failure": ", if one fails", "end": ", whatever comes of it"}[after.when]
    return f"after {', '.join(names)}{how}"
