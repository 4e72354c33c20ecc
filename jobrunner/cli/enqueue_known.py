"""`enqueue --id` of a job that is known: nothing is published, and it is shown, waited for or followed as it is."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from jobrunner.cli import out
from jobrunner.cli.enqueue_plan import Plan
from jobrunner.cli.enqueue_result import finish, shows_of
from jobrunner.cli.phrases import prefix
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import catch_up, opened
from jobrunner.cli.waiting import until
from jobrunner.durations import format_about
from jobrunner.errors import PermissionRefused, WaitTimeout
from jobrunner.view.rows import JobRow
from jobrunner.view.store import Store
from jobrunner.watch import End, end_in

_FOLLOWED = {"lines": None, "since": None, "timestamps": False, "stream": None, "attempt": None, "no_sync": True}


def enqueue_known(shared: Shared, plan: Plan, options: Mapping[str, Any]) -> int | None:
    """Gives the exit code; None for an id that nobody knows, which is to be queued.

    Raises: the broker's errors, ViewUnusable, WaitTimeout, KeyboardInterrupt with a sentence.
    """
    job_id = plan.envelope.job.id
    with opened(shared) as store:
        try:
            return asyncio.run(_known(shared, store, plan, options))
        except KeyboardInterrupt as exc:
            if options["wait"] or options["follow"]:
                exc.args = (f"Stopped waiting. jobrunner wait {prefix(job_id)}",)
            raise


async def _known(shared: Shared, store: Store, plan: Plan, options: Mapping[str, Any]) -> int | None:
    try:
        await catch_up(shared, store)
    except PermissionRefused as exc:
        shared.warn(f"{exc.message} Whether the id is known already cannot be told.")
    row = store.job(plan.envelope.job.id)
    if row is None:
        return None
    one = _Known(shared, store, row)
    if not _is_same(plan, row):
        one.warn_of_another()
    if not (options["wait"] or options["follow"]):
        one.echo()
        return 0
    try:
        async with asyncio.timeout(options["wait_timeout"]):
            end = await (one.follow() if options["follow"] else one.end())
    except TimeoutError as exc:
        after = format_about(options["wait_timeout"] or 0.0)
        row = store.job(row.id) or row
        raise WaitTimeout(state=row.state, after=after, job_id=row.short_id, prefix=prefix(row.id)) from exc
    is_command = row.argv is not None
    shows = shows_of(options)
    return finish(shared, end, one.document(), is_command=is_command, exit_code=options["exit_code"], shows=shows)


def _is_same(plan: Plan, row: JobRow) -> bool:
    """Whether it is the job that was typed, as far as that is known."""
    job = plan.envelope.job
    if row.task is None and row.argv is None:
        return True
    typed = (job.task, _value(job.args), _value(job.kwargs)) if job.task is not None else job.argv
    known = (row.task, _value(row.args), _value(row.kwargs)) if row.task is not None else row.argv
    return typed == known


def _value(data: msgspec.Raw | None) -> Any:
    return msgspec.json.decode(data) if data else None


class _Known:
    """A job that was queued before."""

    def __init__(self, shared: Shared, store: Store, row: JobRow) -> None:
        self._shared = shared
        self._store = store
        self._row = row
        self._warnings: list[dict[str, Any]] = []

    def warn_of_another(self) -> None:
        """It is not the job that was typed."""
        text = f"{self._row.short_id} is another job: {self._row.name}. Nothing was queued."
        self._warnings.append({"code": "id_differs", "text": text, "fix": f"jobrunner show {prefix(self._row.id)}"})
        self._shared.warn(out.printable(text))

    def echo(self) -> None:
        """Its id; on a terminal also what it is and where it stands."""
        row, shared = self._row, self._shared
        if shared.json:
            out.emit_json(self.document())
        elif shared.quiet or not sys.stdout.isatty():
            out.emit(row.id)
        else:
            arrow = out.plain("→", sys.stdout)
            call = f"  {out.printable(row.name)}" if row.name else ""
            where = f"{arrow} {out.printable(row.queue)}"
            out.emit(f"{shared.mark('✓')} {row.short_id}{call}  {where}, known already: {row.state}")
            shared.talk(f"  Nothing was queued. Look:  jobrunner show {prefix(row.id)}")

    async def end(self) -> End:
        """Its end, once it has ended."""
        row = self._row
        if not row.is_ended:
            async for ended in until(self._shared, self._store, [row.id], lambda each: each.is_ended):
                row = ended
        attempts = self._store.attempts(row.id)
        streams = {"stdout": attempts[-1].stdout, "stderr": attempts[-1].stderr} if attempts else {}
        return msgspec.structs.replace(end_in(row), **streams)

    async def follow(self) -> End:
        """The same, its output shown meanwhile."""
        from jobrunner.cli.output_work import Output

        output = Output(self._shared, self._store, dict(_FOLLOWED))
        return (await output.to_the_end([self._row.id])).ends[self._row.id]

    def document(self) -> dict[str, Any]:
        """The job as `--json` shows it."""
        row = self._row
        return {
            "id": row.id,
            "queue": row.queue,
            "task": row.task,
            "argv": row.argv,
            "not_before": None if row.not_before is None else out.iso(row.not_before),
            "duplicate": True,
            "consumers": None,
            "warnings": self._warnings,
            "state": row.state,
        }
