"""What `--after` names, from words to ids: jobs by their ids or beginnings of them, and runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.envelope import After
    from jobrunner.view.store import Store

WHEN: Final = ("success", "failure", "end")
_RUN: Final = "run:"


def after_of(shared: Shared, words: Sequence[str], when: str) -> "After":
    """What a job is to wait for; looked up in the ledger, so that a job that is not there is found out now.

    Raises: NotFound, AmbiguousId, BadValue, the broker's errors.
    """
    import asyncio

    from jobrunner.cli.viewing import catch_up, opened

    names = [name for word in words for name in word.split(",") if name]
    with opened(shared) as store:
        asyncio.run(catch_up(shared, store))
        return _after(store, names, when)


def _after(store: "Store", names: Sequence[str], when: str) -> "After":
    from jobrunner.cli.selecting import one_job
    from jobrunner.envelope import After
    from jobrunner.errors import BadValue

    runs = [name.removeprefix(_RUN) for name in names if name.startswith(_RUN)]
    if len(runs) > 1:
        raise BadValue(problem="A job waits for one run at most.", hint="--after run:NAME")
    rows = [one_job(store, name) for name in names if not name.startswith(_RUN)]
    since = [row.created_at or row.state_at for row in rows] + [_begin_of(store, run) for run in runs]
    if not since:
        raise BadValue(problem="--after names no job.", hint="--after k7f2m9xq · --after run:NAME")
    fields = {"jobs": {row.id: row.chain for row in rows}, "run": runs[0] if runs else None, "when": when}
    return After(since=min(since), **fields)  # type: ignore[arg-type]  # click has checked `when`


def _begin_of(store: "Store", run: str) -> float:
    """When the first job of a run was made. Raises: NotFound."""
    from jobrunner.cli.selecting import parsed
    from jobrunner.errors import NotFound

    rows = store.jobs(parsed([f"run:{run}"], default="all"), limit=1, reverse=True)
    if not rows:
        raise NotFound(message=f"There is no run '{run}'.", hint="jobrunner list")
    return rows[0].created_at or rows[0].state_at


def shown(after: "After") -> str:
    """`after k7f2m9xq`, and when it matters, after which end."""
    from jobrunner.view.rows import SHORT_ID_CHARS

    names = [job_id[:SHORT_ID_CHARS] for job_id in after.jobs] + ([f"run {after.run}"] if after.run else [])
    how = {"success": "", "failure": ", if one fails", "end": ", whatever comes of it"}[after.when]
    return f"after {', '.join(names)}{how}"
