"""`jobrunner queues list`: what the broker counts, beside what the ledger tells."""

import asyncio
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobrunner.broker import topology
from jobrunner.cli import out, phrases
from jobrunner.cli.asking import connected, depths, policies, types
from jobrunner.cli.queues_pause import pause_document
from jobrunner.cli.shared import Shared
from jobrunner.cli.status_facts import QueueFacts
from jobrunner.cli.viewing import catch_up, opened
from jobrunner.errors import BadValue, NotFound, PermissionRefused
from jobrunner.view.live import paused_queues
from jobrunner.view.pausing import pause_words, resume_command
from jobrunner.view.rows import Counts

if TYPE_CHECKING:
    from jobrunner.view.store import Store

OURS = (topology.DEAD, topology.UNROUTED)


def list_all(shared: Shared, names: Sequence[str], *, no_sync: bool) -> int:
    """Ask and write. Raises: BadValue for an empty name, NotFound for a queue that was named and does not exist."""
    if "" in names:
        raise BadValue(problem="A queue needs a name.", hint="jobrunner queues list")
    with opened(shared) as store:
        rows = asyncio.run(_gather(shared, store, names, no_sync=no_sync))
    now = time.time()
    found = [row for row in rows if row.ready is not None]
    if shared.json:
        out.emit_json({"queues": [_document(row, now) for row in found]})
    elif sys.stdout.isatty():
        if found:
            _draw(found, now, shared)
    else:
        for row in found:
            out.emit(_piped(row, now))
    missing = [row.name for row in rows if row.ready is None]
    if names and missing:
        shown = ", ".join(f"'{name}'" for name in missing)
        raise NotFound(
            message=f"There is no queue {shown}.", hint=shlex.join(["jobrunner", "queues", "declare", missing[0]])
        )
    return 0


async def _gather(shared: Shared, store: "Store", names: Sequence[str], *, no_sync: bool) -> list[QueueFacts]:
    try:
        await catch_up(shared, store, no_sync=no_sync)
    except PermissionRefused as exc:  # who may look at a queue need not be one who may read the ledger
        shared.warn(f"{exc.message} Only what the broker counts is current.")
    counts = {row.queue: row for row in store.counts(time.time()) if row.queue}
    wanted = list(dict.fromkeys(names)) or [*sorted({topology.DEFAULT_QUEUE, *counts}), *OURS]
    async with connected(shared.settings, "queues") as connection:
        found = await depths(connection, wanted)
        kinds = await types(connection, [name for name in wanted if found[name] is not None])
    named = await policies(shared.settings)
    rows = [QueueFacts(name, counts.get(name) or Counts(queue=name)) for name in wanted]
    paused = paused_queues(store, (), time.time())
    for row in rows:
        row.ready, row.consumers = found[row.name] or (None, None)
        row.paused = paused.get(row.name)
        row.type, row.policy = kinds.get(row.name), named.get(row.name)
    return rows


def _document(row: QueueFacts, now: float) -> dict[str, object]:
    counts = row.counts
    return {
        "name": row.name,
        "ready": row.ready,
        "consumers": row.consumers,
        "running": counts.running,
        "later": counts.later,
        "dead": counts.dead,
        "oldest_s": row.oldest_s(now),
        "type": row.type,
        "policy": row.policy,
        "paused": pause_document(row.paused),
    }


def _piped(row: QueueFacts, now: float) -> str:
    counts, oldest_s = row.counts, row.oldest_s(now)
    numbers = [row.ready, row.consumers, counts.running, counts.later, counts.dead]
    oldest = "" if oldest_s is None else f"{oldest_s:.1f}"
    words = ["" if number is None else str(number) for number in numbers]
    last = (row.type or "", row.policy or "", pause_words(row.paused, now) if row.paused else "")
    return "\t".join([out.cell(row.name), *words, oldest, *map(out.cell, last)])


def _draw(rows: Sequence[QueueFacts], now: float, shared: Shared) -> None:
    from jobrunner.cli.draw import Cell, Column, table

    spare = {"OLDEST": 1, "LATER": 2}
    titles = ("READY", "RUNNING", "LATER", "DEAD", "OLDEST", "CONSUMERS")
    has_policy = any(row.policy for row in rows)

    def cells(row: QueueFacts) -> list[Cell]:
        counts, oldest_s = row.counts, row.oldest_s(now)
        numbers = (row.ready, counts.running, counts.later, counts.dead)
        shown: list[Cell] = [out.printable(row.name), *(f"{number or 0:,}" for number in numbers)]
        if row.name in OURS:
            shown[2:] = [phrases.NOTHING] * 3
        oldest = phrases.NOTHING if oldest_s is None else phrases.took(round(oldest_s))
        policy = [out.printable(row.policy or phrases.NOTHING)] if has_policy else []
        return [*shown, oldest, f"{row.consumers or 0:,}", row.type or phrases.NOTHING, *policy]

    columns = [Column("QUEUE", flexible=True)]
    columns += [Column(title, right=True, spare=spare.get(title, 0)) for title in titles]
    columns += [Column("TYPE", spare=4)] + ([Column("POLICY", spare=3)] if has_policy else [])
    out.emit(table(columns, map(cells, rows), shared.color))
    for row in rows:
        if row.paused:
            words = out.printable(f"{row.name} is {pause_words(row.paused, now)}.  {resume_command(row.name)}")
            out.emit(f"{shared.mark('!')} {words}")
