"""`enqueue --from`: many jobs, a JSON object a line, answered in the order of the input."""

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from jobrunner.cli import out
from jobrunner.cli.enqueue_after import Earlier
from jobrunner.cli.enqueue_lines import LineReader
from jobrunner.cli.enqueue_one import describe, show_dry_run
from jobrunner.cli.enqueue_plan import wishes_of
from jobrunner.cli.enqueue_report import Report
from jobrunner.cli.lines import chunks_of_lines, opened
from jobrunner.cli.shared import Shared
from jobrunner.client import Client
from jobrunner.durations import format_about
from jobrunner.envelope import Envelope
from jobrunner.errors import JobrunnerError, WaitTimeout
from jobrunner.watch import Watch


def enqueue_many(shared: Shared, options: Mapping[str, Any]) -> int:
    """Queue every line that is a job. Gives the exit code: 0, 1 (`--wait`), 5 if some were not queued.

    Raises: the broker's errors when not even the first could be queued, InputCutShort, WaitTimeout.
    """
    wishes = wishes_of(options)
    if options["wait"]:
        wishes = replace(wishes, run=f"batch-{secrets.token_hex(4)}")
    report = Report(shared, is_waiting=options["wait"], is_strict=options["strict"])
    with opened(options["from"]) as handle, Earlier(shared) as earlier:
        batch = _Batch(shared, LineReader(wishes, earlier), report, earlier)
        if options["dry_run"]:
            asyncio.run(batch.dry_run(handle))
            return report.conclude()
        try:
            if wishes.run:
                asyncio.run(batch.and_wait(handle, wishes.run, options["wait_timeout"]))
            else:
                asyncio.run(batch.alone(handle))
        except KeyboardInterrupt as exc:
            exc.args = (f"{report.summary()}; the rest may be queued or not.",)
            raise
        except WaitTimeout:
            raise
        except JobrunnerError as exc:
            if report.queued:
                shared.talk(report.summary())
            raise report.cut_short(exc) from exc
    return report.conclude()


class _Batch:
    """Reads chunks of lines and queues each chunk before it reads on: memory is flat, a slow pipe is never held up."""

    def __init__(self, shared: Shared, reader: LineReader, report: Report, earlier: Earlier) -> None:
        self._shared = shared
        self._reader = reader
        self._report = report
        self._earlier = earlier
        self._number = 0
        self._held: Envelope | None = None  # read, and it waits for a job that is still on its way

    async def alone(self, handle: int) -> None:
        """Queue them all."""
        settings = self._shared.settings
        async with Client(settings.url, timeout_s=settings.connect_timeout_s) as client:
            await self._enqueue(client, handle)

    async def and_wait(self, handle: int, run: str, timeout_s: float | None) -> None:
        """Queue them all, and show the ends as they come, in the order of the input. Raises: WaitTimeout."""
        settings = self._shared.settings
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        client = Client(settings.url, timeout_s=settings.connect_timeout_s)
        async with client, client.watch(run=run) as watch:
            collecting = asyncio.create_task(self._collect(watch))
            try:
                await self._enqueue(client, handle)
            finally:
                collecting.cancel()
                await asyncio.gather(collecting, return_exceptions=True)
            while self._report.waiting:
                end = await watch.next(None if deadline is None else max(0.0, deadline - time.monotonic()))
                if end is None:
                    jobs = f"{self._report.waiting} of {self._report.queued} jobs"
                    raise WaitTimeout(
                        after=format_about(timeout_s or 0.0), job_id=jobs, prefix="", hint="jobrunner list state:active"
                    )
                self._report.ended(end)

    async def dry_run(self, handle: int) -> None:
        """Check every line and show what would be published."""
        async for lines in chunks_of_lines(handle):
            await self._earlier.catch_up(lines)
            for text in lines:
                self._number += 1
                if not text.strip():
                    continue
                try:
                    plan = self._reader.read(text)
                except JobrunnerError as exc:
                    self._report.skipped(self._number, exc)
                    if self._report.is_stopped:
                        return
                    continue
                self._report.planned()
                if self._shared.json:
                    show_dry_run(self._shared, plan)
                else:
                    facts = describe(plan)
                    columns = (facts["id"], facts["queue"], facts["not_before"] or "", str(plan.shown))
                    out.emit("\t".join(out.cell(column) for column in columns))

    async def _collect(self, watch: Watch) -> None:
        while (end := await watch.next(None)) is not None:
            self._report.ended(end)

    async def _enqueue(self, client: Client, handle: int) -> None:
        async for lines in chunks_of_lines(handle):
            await self._earlier.catch_up(lines)
            left = iter(lines)
            # more than once only where a line waits for one right before it: whether that is there must be known first
            while True:
                await client.enqueue_many(self._envelopes(left), self._answered)
                if self._held is None:
                    break
            self._report.flush()
            if self._report.is_stopped:
                return

    def _answered(self, envelope: Envelope, error: JobrunnerError | None) -> None:
        self._earlier.answered(envelope, error)
        self._report.answered(envelope, error)

    def _envelopes(self, lines: Iterator[bytes]) -> Iterator[Envelope]:
        while (envelope := self._held or self._next(lines)) is not None:
            self._held = None if self._earlier.is_ready(envelope) else envelope
            if self._held is not None:
                return
            try:
                self._earlier.check(envelope)
            except JobrunnerError as exc:
                self._earlier.answered(envelope, exc)
                self._report.skipped(self._number, exc)
            else:
                self._report.expect(self._number)
                yield envelope
            if self._report.is_stopped:
                return

    def _next(self, lines: Iterator[bytes]) -> Envelope | None:
        """The job of the next line that is one; None: there is none, or `--strict` stops here."""
        for text in lines:
            self._number += 1
            if not text.strip():
                continue
            try:
                return self._reader.read(text).envelope
            except JobrunnerError as exc:
                self._report.skipped(self._number, exc)
                if self._report.is_stopped:
                    break
        return None
