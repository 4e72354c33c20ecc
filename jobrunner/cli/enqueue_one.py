"""One job: publish it, say so, and with `--wait` print what comes of it."""

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec

from jobrunner.cli import out
from jobrunner.cli.after import shown as shown_after
from jobrunner.cli.enqueue_plan import Plan, route_of
from jobrunner.cli.enqueue_result import finish, shows_of
from jobrunner.cli.enqueue_warnings import LABELS, Warnings, priority_warnings, worker_warnings
from jobrunner.cli.phrases import prefix
from jobrunner.cli.shared import Shared
from jobrunner.client import Client
from jobrunner.durations import format_about
from jobrunner.envelope import check_size
from jobrunner.errors import WaitTimeout
from jobrunner.instants import show_instant
from jobrunner.watch import End


def enqueue_one(shared: Shared, plan: Plan, options: Mapping[str, Any]) -> int:
    """Do it. Gives the exit code. Raises: the broker's errors, WaitTimeout, KeyboardInterrupt with a sentence."""
    check_size(plan.envelope)
    if options["dry_run"]:
        show_dry_run(shared, plan)
        return 0
    if options["id"] is not None:
        from jobrunner.cli.enqueue_known import enqueue_known

        code = enqueue_known(shared, plan, options)
        if code is not None:
            return code
    task = _One(shared, plan)
    work: Coroutine[Any, Any, End | None]
    if options["follow"]:
        work = task.and_follow(options["wait_timeout"])
    else:
        work = task.and_wait(options["wait_timeout"]) if options["wait"] else task.alone()
    try:
        end = asyncio.run(work)
    except KeyboardInterrupt as exc:
        exc.args = (task.interrupted(),)
        raise
    if end is None:
        return 0
    shows, is_command = shows_of(options), plan.needs_commands
    return finish(shared, end, task.document(), is_command=is_command, exit_code=options["exit_code"], shows=shows)


class _One:
    """The way of one job to the broker and back."""

    def __init__(self, shared: Shared, plan: Plan) -> None:
        settings = shared.settings
        self._shared = shared
        self._plan = plan
        self._consumers: int | None = None
        self._warnings: Warnings = []
        self._is_queued = False
        self._client = Client(settings.url, timeout_s=settings.connect_timeout_s)

    async def alone(self) -> None:
        """Queue it and say so."""
        async with self._client as client:
            await self._publish(client)
        self._echo()

    async def and_wait(self, timeout_s: float | None) -> End:
        """Queue it and give its end. Raises: WaitTimeout."""
        job_id = self._plan.envelope.job.id
        async with self._client as client, client.watch(ids=[job_id]) as watch:
            await self._publish(client)
            self._warn()
            end = await watch.next(timeout_s)
        if end is None:
            raise self._too_long(timeout_s)
        return end

    async def and_follow(self, timeout_s: float | None) -> End:
        """Queue it, show what it writes and give its end. Raises: WaitTimeout."""
        from jobrunner.cli.following import Following
        from jobrunner.cli.live import Live
        from jobrunner.cli.output_print import Printer
        from jobrunner.cli.pieces import Unfold

        job_id = self._plan.envelope.job.id
        printer = Printer(self._shared, splits=True)
        following = Following(printer, {job_id: Unfold(job_id)})
        async with self._client as client, Live(self._shared.settings, {job_id: 0}) as live:
            await self._publish(client)
            self._warn()
            try:
                async with asyncio.timeout(timeout_s):
                    await following.to_the_end(live)
            except TimeoutError as exc:
                raise self._too_long(timeout_s) from exc
            finally:
                printer.close()
        return following.ends[job_id]

    def _too_long(self, timeout_s: float | None) -> WaitTimeout:
        job_id = self._plan.envelope.job.id
        return WaitTimeout(after=format_about(timeout_s or 0.0), job_id=job_id[:8], prefix=prefix(job_id))

    async def _publish(self, client: Client) -> None:
        await client.enqueue(self._plan.envelope)
        self._is_queued = True
        if self._shared.json or ((sys.stdout.isatty() or sys.stderr.isatty()) and not self._shared.quiet):
            depth = await client.depth(self._plan.envelope.job.queue)
            self._consumers = depth[1] if depth else None
            self._warnings = await worker_warnings(client, self._plan, self._consumers)
            self._warnings += await priority_warnings(client, self._plan)

    def interrupted(self) -> str:
        """How it stands at Ctrl-C."""
        job_id = self._plan.envelope.job.id
        if self._is_queued:
            return f"{job_id[:8]} goes on. jobrunner wait {prefix(job_id)}"
        return f"{job_id[:8]} may be queued or not. Again with --id {job_id}"

    def _echo(self) -> None:
        job = self._plan.envelope.job
        if self._shared.json:
            out.emit_json(self.document())
        elif self._shared.quiet or not sys.stdout.isatty():
            out.emit(job.id)
        else:
            note = "" if self._plan.is_checked else "  (arguments not checked)"
            due = f", {show_instant(due_s)}" if (due_s := self._due_s()) else ""
            due = f", {shown_after(job.after)}" if job.after is not None else due
            shown = out.printable(self._plan.shown)
            arrow = out.plain("→", sys.stdout)
            out.emit(f"{self._shared.mark('✓')} {job.id[:8]}  {shown}  {arrow} {out.printable(job.queue)}{due}{note}")
            if self._consumers != 0:
                self._shared.talk(f"  Follow it:  jobrunner logs -f {prefix(job.id)}")
        self._warn()

    def _warn(self) -> None:
        for warning in self._warnings:
            self._shared.warn(warning["text"])
            if warning["fix"]:
                self._shared.talk(f"  {LABELS[warning['code']]}:  {warning['fix']}")

    def _due_s(self) -> float:
        return self._plan.envelope.state.not_before_ms / 1000

    def document(self) -> dict[str, Any]:
        """The job as `--json` shows it."""
        return describe(self._plan) | {
            "duplicate": False,
            "consumers": self._consumers,
            "warnings": self._warnings,
        }


def describe(plan: Plan) -> dict[str, Any]:
    """What a job is and where it goes."""
    job = plan.envelope.job
    due_ms = plan.envelope.state.not_before_ms
    return {
        "id": job.id,
        "queue": job.queue,
        "task": job.task,
        "argv": job.argv,
        "not_before": out.iso(due_ms / 1000) if due_ms else None,
    }


def show_dry_run(shared: Shared, plan: Plan) -> None:
    """Message and route, as they would be published."""
    exchange, key = route_of(plan.envelope, shared.settings.url.route)
    if shared.json:
        route = {"exchange": exchange, "routing_key": key}
        out.emit_json(describe(plan) | {"route": route, "message": msgspec.Raw(plan.envelope.body)})
        return
    headers = {**plan.envelope.state.headers(), "priority": plan.envelope.priority}
    rows = {
        "call" if plan.envelope.job.task else "command": plan.shown,
        "queue": plan.envelope.job.queue,
        "route": f"exchange '{exchange}' key '{key}'",
        "headers": "  ".join(f"{name}={value}" for name, value in headers.items()),
        "message": plan.envelope.body.decode(),
    }
    for name, value in rows.items():
        out.emit(f"{name:<8} {out.printable(value)}")
    shared.talk("Nothing was queued (--dry-run).")
