"""Names of runs, and what came of one."""

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobrunner.api.ends import PREFIX, SHORT, value_of
from jobrunner.errors import NotFound, WaitTimeout
from jobrunner.watch import end_in

if TYPE_CHECKING:
    from jobrunner.view.rows import JobRow


def new_run() -> str:
    """The run of a client that was given none: `api-` and 8 hexadecimal digits."""
    return f"api-{secrets.token_hex(4)}"


def results_of(run: str, rows: Sequence["JobRow"]) -> list[Any]:
    """The results of these jobs of a run. Raises: NotFound without any; WaitTimeout for one that goes on; JobFailed
    and the like.
    """
    if not rows:
        raise NotFound(message=f"No job of the run '{run}' is known.", hint="jobrunner list")
    for row in rows:
        if not row.is_ended:
            raise WaitTimeout(after="0 s", job_id=row.id[:SHORT], prefix=row.id[:PREFIX], full_id=row.id)
    return [value_of(end_in(row)) for row in rows]
