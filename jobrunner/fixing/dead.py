"""Dead letters, in an audit: whose they are, held against what the ledger says of these jobs."""

import time
from contextlib import aclosing

import msgspec

from jobrunner.broker import declare, topology
from jobrunner.client import Client
from jobrunner.errors import LettersInUse
from jobrunner.fixing import census
from jobrunner.fixing.census import Job
from jobrunner.fixing.findings import Finding, Report, known
from jobrunner.fixing.letters import Letters
from jobrunner.view.filters import parse
from jobrunner.view.rows import ENDED
from jobrunner.view.store import Store


class Seen(msgspec.Struct, frozen=True):
    """A dead letter, without what is in it. is_ours: a worker made it, with a record."""

    id: str
    chain: int
    reason: str
    is_ours: bool


async def dead_letters(client: Client) -> list[Seen]:
    """All of them; they stay where they are. Raises: LettersInUse; the broker's errors."""
    found: list[Seen] = []
    async with (
        Letters(client.connection, wanted=1, timeout_s=client.timeout_s) as letters,
        aclosing(letters.batches(lambda _: True)) as batches,
    ):
        async for batch in batches:
            found += [Seen(one.id, one.state.chain, one.reason, one.is_ours) for one in batch]
    return found


async def report_letters(report: Report, store: Store, client: Client) -> None:
    """Count them, and look through them if they are not as many as the dead jobs. Raises: the broker's errors."""
    depth = await declare.queue_depth(client.connection, topology.DEAD)
    report.letters = 0 if depth is None else depth[0]
    if report.letters == report.ended["dead"]:
        return
    try:
        letters = await dead_letters(client)
    except LettersInUse as exc:
        report.notes.append(f"The dead letters were not looked through. {exc.message}")
        return
    rows = {row.id: row for row in store.jobs(parse(["state:dead"], now=time.time(), user=""), limit=None)}
    report.letters = len(letters)
    named = {finding.id for finding in report.findings}
    unknown = 0
    for letter in letters:
        row = rows.get(letter.id) or store.job(letter.id)
        if row is None:
            unknown += 1
        elif letter.chain < row.chain:
            report.stale_letters += 1
        elif row.state not in ENDED and letter.id not in named and not letter.is_ours:
            report.move(given_up(census.job_of(row), letter))
    without = len(rows.keys() - {letter.id for letter in letters})
    if without:
        report.notes.append(f"Dead jobs without a dead letter: {without}; `retry` queues them from the ledger.")
    if unknown:
        report.notes.append(f"Dead letters of jobs that the ledger does not know: {unknown}.")


def given_up(job: Job, letter: Seen) -> Finding:
    """A job that RabbitMQ itself made a dead letter of, which the ledger does not know."""
    text = f"{known(job)}; RabbitMQ put it among the dead letters: {letter.reason}"
    return Finding(id=job.id, kind="given_up", text=text)
