"""Why a job waits for others: which they are, and how they stand."""

from typing import Final

from jobrunner.view.filters import parse
from jobrunner.view.live import LiveFacts
from jobrunner.view.rows import ENDED, SHORT_ID_CHARS, JobRow
from jobrunner.view.store import Store
from jobrunner.view.why import Why

SHOWN: Final = 4
MANY: Final = 10**9


def explain_wait(store: Store, row: JobRow, *, now: float, live: LiveFacts) -> Why:
    """For a job in the state `waiting`. now: seconds since the epoch."""
    after = row.after
    if after is None:
        return Why(code="waits", text="it waits for other jobs.")
    parts = []
    fix, label = "", ""
    rows = {job_id: store.job(job_id) for job_id in after.jobs}
    going_on = [job_id for job_id, found in rows.items() if found is None or found.state not in ENDED]
    for job_id in going_on[:SHOWN]:
        found = rows[job_id]
        parts.append(f"{job_id[:SHORT_ID_CHARS]} ({found.state if found else 'not known any more'})")
        fix, label = fix or f"jobrunner show --why {job_id[:SHORT_ID_CHARS]}", "What that waits for"
    if len(going_on) > SHOWN:
        parts.append(f"{len(going_on) - SHOWN} more")
    if after.run is not None:
        text, run_fix, run_label = _run(store, after.run, now)
        parts.append(text)
        fix, label = (run_fix, run_label) if run_fix else (fix, label)
    if not parts:
        parts.append(f"{', '.join(job_id[:SHORT_ID_CHARS] for job_id in after.jobs)} (ended just now)")
    if not live.workers:
        told = "answers" if live.is_asked else "is known"
        text = f"it waits for {', '.join(parts)}; and no live worker {told}, so nobody looks after it."
        return Why(code="waits", text=text, fix="jobrunner worker", label="Start one")
    return Why(code="waits", text=f"it waits for {', '.join(parts)}.", fix=fix, label=label)


def _run(store: Store, run: str, now: float) -> tuple[str, str, str]:
    """How a run stands, and what helps if nobody has queued its last job."""
    jobs = parse([f"run:{run}"], now=now, user="")
    ended = parse([f"run:{run}", f"state:{','.join(ENDED)}"], now=now, user="")
    count, total = store.count(ended, MANY) or 0, store.run_total(run)
    if total is None:
        known = store.count(jobs, MANY) or 0
        text = f"the run {run}, whose last job is not queued yet ({count:,} of {known:,} so far have ended)"
        first = store.jobs(jobs, limit=1)
        if first and first[0].body is not None and b'"template":' in first[0].body:
            return text, f"jobrunner map --run {run} --resume …", "If whoever queued it is gone"
        return text, f'Client().group("{run}", resume=True).seal()', "If whoever queued it is gone, in Python"
    return (
        f"the run {run} ({count:,} of {total:,} have ended)",
        f"jobrunner list run:{run} state:active",
        "What goes on",
    )
