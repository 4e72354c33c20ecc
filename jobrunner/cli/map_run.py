"""`map` at work: the broker, the view for a run of before, Ctrl-C, and the exit code."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from jobrunner.cli import map_idle, out, viewing
from jobrunner.cli.map_bar import Bar
from jobrunner.cli.map_files import Results, opened_log
from jobrunner.cli.map_fix import cancel, discard_letters
from jobrunner.cli.map_past import ViewPast
from jobrunner.cli.map_plan import MapPlan
from jobrunner.cli.map_report import Report
from jobrunner.cli.map_show import show
from jobrunner.cli.map_source import Chunks
from jobrunner.cli.shared import Shared
from jobrunner.client import Client
from jobrunner.errors import JobrunnerError, PartlyDone
from jobrunner.mapping import queueing
from jobrunner.mapping.engine import Mapper
from jobrunner.mapping.line import Counts
from jobrunner.mapping.plan import Plan

INTERRUPTED = 130


def run_map(shared: Shared, plan: MapPlan) -> int:
    """Do it. Gives the exit code. Raises: the broker's errors, the errors of the run's name, KeyboardInterrupt."""
    if plan.options["dry_run"]:
        return asyncio.run(show(plan))
    work = _Map(shared, plan)
    try:
        return asyncio.run(work.run())
    except (KeyboardInterrupt, asyncio.CancelledError) as exc:
        sentence = work.left()
        if isinstance(exc, KeyboardInterrupt):
            exc.args = (sentence,)
            raise
        raise KeyboardInterrupt(sentence) from exc
    except JobrunnerError:
        if work.has_begun:
            shared.talk(work.left())
        raise


class _Map:
    """One map, from the connection to the exit code."""

    def __init__(self, shared: Shared, plan: MapPlan) -> None:
        self._shared = shared
        self._plan = plan
        self._run = plan.recipe.run
        self._report = Report(shared, is_command=plan.recipe.command is not None)
        self._mapper: Mapper | None = None
        self._total: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a job may have been queued."""
        return self._mapper is not None and self._mapper.counts.added > 0

    async def run(self) -> int:
        """Everything."""
        settings, options = self._shared.settings, self._plan.options
        has_bar = sys.stderr.isatty() and not self._shared.json and not self._shared.quiet
        client = Client(settings.url, timeout_s=settings.connect_timeout_s)
        with self._plan.source.opened(counts=has_bar) as (chunks, self._total), self._files():
            async with client, self._past() as past:
                plan = Plan(
                    limit=self._plan.limit,
                    ordered=options["ordered"] and not options["detach"],
                    halt=self._plan.halt,
                    past=past,
                    only_dead=options["retry_failed"],
                    waits=not options["detach"],
                    tells_running=has_bar,
                    seal=partial(self._seal, client, past),
                )
                if past is None:
                    await self._and_then(client, None)
                cancels = partial(cancel, self._shared, client)
                self._mapper = Mapper(client, self._plan.recipe, plan, self._report, cancels)
                if has_bar:
                    self._report.bar = Bar(self._run, self._state)
                await self._map(client, self._mapper, chunks)
                if self._mapper.requeued:
                    await discard_letters(client, self._mapper.requeued)
        return self._conclude(self._mapper)

    async def _seal(self, client: Client, past: ViewPast | None, total: int, failed: int, parts: bool) -> None:
        """All jobs are queued. Of a run that is taken up, what comes after it is queued only now: before, it might have
        been taken for ended.
        """
        if past is not None:
            await self._and_then(client, past)
        await client.seal(self._run, total, failed=failed, parts=parts)

    async def _and_then(self, client: Client, past: ViewPast | None) -> None:
        """Queue what runs once all have ended, unless that very job waits already."""
        if self._plan.then is not None:
            number, since_s = (0, time.time()) if past is None else await past.callbacks(self._plan.then.job_id)
            if number is not None:
                await queueing.queue(client, [self._plan.then.envelope(number, since_s)], self._report.trouble)

    async def _map(self, client: Client, mapper: Mapper, chunks: Chunks) -> None:
        bar, recipe = self._report.bar, self._plan.recipe
        besides = [asyncio.create_task(bar.keep())] if bar is not None else []
        if not self._plan.options["detach"]:
            idle = map_idle.watch(client, recipe, lambda: mapper.counts, self._report.warn)
            besides.append(asyncio.create_task(idle))
        try:
            with self._interruptible(mapper):
                await mapper.run(chunks)
            if self._plan.options["detach"] and mapper.counts.open:
                self._report.warn(await map_idle.look(client, recipe))
        finally:
            for task in besides:
                task.cancel()
            await asyncio.gather(*besides, return_exceptions=True)
            if bar is not None:
                bar.clear()
            self._report.close()

    def _state(self) -> tuple[Counts, int, int | None]:
        if self._mapper is None:
            return Counts(), 0, self._total
        counts = self._mapper.counts
        return counts, self._mapper.running, counts.added + counts.skipped if self._mapper.is_read else self._total

    @contextlib.contextmanager
    def _files(self) -> Iterator[None]:
        options = self._plan.options
        if options["results"] is not None:
            self._report.results = Results(options["results"], is_command=self._plan.recipe.command is not None)
        if options["joblog"] is None:
            yield
            return
        appends = options["resume"] or options["retry_failed"]
        with opened_log(options["joblog"], self._plan.recipe, appends=appends) as self._report.joblog:
            yield

    @contextlib.asynccontextmanager
    async def _past(self) -> AsyncIterator[ViewPast | None]:
        """What is known of the run, if it was named. Raises: RunExists, RunDiffers, NotFound."""
        if not self._plan.is_named:
            yield None
            return
        options = self._plan.options
        only_dead = options["retry_failed"]
        with viewing.opened(self._shared) as store:
            past = ViewPast(self._shared, store, self._run)
            resumes = options["resume"] or only_dead
            is_there = await past.open(self._plan.recipe.shown, resumes=resumes, needs_it=only_dead)
            yield past if is_there else None

    # --- Ctrl-C -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _interruptible(self, mapper: Mapper) -> Iterator[None]:
        """Once: nothing is added any more. Twice: leave; the jobs go on."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def interrupted() -> None:
            if mapper.stopped or self._plan.options["detach"]:
                mapper.stop()
                if task is not None:
                    task.cancel()
                return
            mapper.stop()
            to_stop = f"jobrunner cancel run:{self._run}"
            self._report.talk(f"Stopped adding jobs; {_go_on(mapper)}. Ctrl-C again to leave. To stop them: {to_stop}")

        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def left(self) -> str:
        """How it stands when the command ends before its jobs do."""
        if not self.has_begun or self._mapper is None:
            return "Stopped; nothing was queued."
        return f"{_go_on(self._mapper)}. To take it up again:  add  --run {self._run} --resume"

    # --- the end ----------------------------------------------------------------------------------------------------

    def _conclude(self, mapper: Mapper) -> int:
        counts = mapper.counts
        if self._plan.options["detach"]:
            self._detached(mapper)
        else:
            self._report.conclude(self._run, counts)
        if mapper.stopped and not mapper.is_read:
            return INTERRUPTED
        if mapper.halted:
            self._report.talk(f"Halted: {self._plan.options['halt']}. The rest:  add  --run {self._run} --resume")
            return PartlyDone.exit_code
        if counts.failed:
            return 1
        return PartlyDone.exit_code if counts.cut else 0

    def _detached(self, mapper: Mapper) -> None:
        counts = mapper.counts
        if self._shared.json:
            facts: dict[str, Any] = {"run": self._run, "total": counts.added + counts.skipped, "queued": counts.open}
            out.emit_json(facts | {"skipped": counts.skipped, "failed": counts.failed})
            return
        out.emit(self._run)
        if sys.stdout.isatty():
            self._shared.talk(f"  {counts.open:,} queued. Wait for them:  jobrunner wait run:{self._run}")


def _go_on(mapper: Mapper) -> str:
    """`8 go on`."""
    count = mapper.counts.open
    if not count:
        return "Nothing goes on"
    return f"{count:,} {'goes' if count == 1 else 'go'} on"
