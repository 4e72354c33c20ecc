"""What `jobrunner status` knows: from the view and from the broker, and what is wrong with it."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobrunner.broker import topology
from jobrunner.broker.control import Reply
from jobrunner.broker.settings import limit_reached
from jobrunner.cli import phrases
from jobrunner.cli.asking import PING_S, connected, depths, ping, types
from jobrunner.cli.shared import Shared
from jobrunner.errors import KeyCannotSign, PermissionRefused
from jobrunner.events import Pause
from jobrunner.view.live import paused_queues
from jobrunner.view.pausing import pause_words, resume_command
from jobrunner.view.rows import Counts, WorkerRow

if TYPE_CHECKING:
    from jobrunner.view.store import Store

GROWS_PER_S: Final = 0.5
"""A queue that grows by less does not make a problem."""
DEPTHS_AT_MOST: Final = 100
"""Queues that are asked for their depth."""


@dataclass(frozen=True)
class Problem:
    """level: warning or error. fix: a command, or nothing."""

    level: str
    code: str
    text: str
    fix: str


@dataclass
class QueueFacts:
    """One queue. ready, consumers: as the broker counts now; None where it was not asked or has no such queue.

    full: how many messages it may hold, where it holds them and refuses more. paused: the word that pauses it now.
    type: quorum, classic or stream; policy: the one in force. Both None where they were not asked, or cannot be told.
    """

    name: str
    counts: Counts
    ready: int | None = None
    consumers: int | None = None
    full: int | None = None
    paused: Pause | None = None
    type: str | None = None
    policy: str | None = None

    def oldest_s(self, now: float) -> float | None:
        """How long the oldest job that is due has waited."""
        return None if self.counts.oldest_at is None else max(0.0, now - self.counts.oldest_at)


@dataclass
class Facts:
    """replies: None when workers were not asked. unrouted: messages that no queue took."""

    now: float
    queues: list[QueueFacts]
    known: list[WorkerRow]
    causes: int = 0
    newest_dead: float | None = None
    product: str | None = None
    version: str | None = None
    blocked: str | None = None
    replies: list[Reply] | None = None
    unrouted: int = 0
    behind_s: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    @property
    def live(self) -> list[WorkerRow]:
        """Workers that have started and not stopped."""
        return [row for row in self.known if row.phase != "offline" and self.now - row.seen_at < VANISHED_S]

    @property
    def silent(self) -> list[WorkerRow]:
        """Those of them that did not answer."""
        answered = {reply.worker for reply in self.replies or ()}
        return [] if self.replies is None else [row for row in self.live if row.name not in answered]

    @property
    def expected(self) -> int:
        """How many workers should answer."""
        return len({row.name for row in self.live} | {reply.worker for reply in self.replies or ()})


VANISHED_S: Final = 600.0
"""A worker that never said that it stops is missed for so long."""


def names_of(store: "Store", counts: Mapping[str, Counts], words: Sequence[str]) -> list[str]:
    """The queues to show: those typed, else those with jobs or with a worker, else the default one."""
    if words:
        return list(dict.fromkeys(words))
    now = time.time()
    listened = {name for row in store.workers() if not row.gone(now) for name in row.queues}
    return sorted(set(counts) | listened) or [topology.DEFAULT_QUEUE]


async def gather(shared: Shared, store: "Store", words: Sequence[str], *, no_sync: bool) -> Facts:
    """All of it. no_sync: only what the view has; the broker is not asked at all."""
    from jobrunner.cli.selecting import parsed

    now = time.time()
    counts = {row.queue: row for row in store.counts(now) if row.queue}
    names = names_of(store, counts, words)
    queues = [QueueFacts(name, counts.get(name) or Counts(queue=name)) for name in names]
    of_queues = [f"queue:{','.join(words)}"] if words else []
    causes = store.causes(parsed(["state:dead", *of_queues], default="all"))
    facts = Facts(now=now, queues=queues, known=store.workers(), causes=len(causes))
    facts.newest_dead = max((row.newest for row in causes), default=None)
    if no_sync:
        facts.behind_s = _age_s(store.path, now)
    else:
        await _ask(shared, facts)
    paused = paused_queues(store, facts.replies or (), now)
    for row in facts.queues:
        row.paused = paused.get(row.name)
    facts.problems = list(problems_of(facts))
    return facts


def _age_s(path: Path, now: float) -> float:
    """How long ago a view was written to: its file, or the journal beside it."""
    files = [each for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()]
    return max(0.0, now - max((each.stat().st_mtime for each in files), default=now))


async def _ask(shared: Shared, facts: Facts) -> None:
    async with connected(shared.settings, "status") as connection:
        product = connection.server_properties.get("product", "RabbitMQ")
        facts.product, facts.version = str(product), connection.server_version
        asked = [row.name for row in facts.queues][:DEPTHS_AT_MOST]
        found = await depths(connection, [*asked, topology.UNROUTED])
        for row in facts.queues:
            row.ready, row.consumers = found.get(row.name) or (None, None)
            row.full = await limit_reached(connection, row.name, row.ready)
        if shared.json:
            kinds = await types(connection, [name for name in asked if found[name] is not None])
            for row in facts.queues:
                row.type = kinds.get(row.name)
        facts.unrouted = (found[topology.UNROUTED] or (0, 0))[0]
        with contextlib.suppress(PermissionRefused, KeyCannotSign):  # who may only look may not ask workers
            facts.replies = await ping(connection, timeout_s=PING_S, expected=len(facts.live) or None)
        facts.blocked = connection.blocked


def missing(facts: Facts, words: Sequence[str]) -> list[str]:
    """Queues that were typed and of which nobody knows: the broker has none, the ledger no job, no worker listens."""
    if facts.version is None:
        return []
    listened = {name for reply in facts.replies or () for name in reply.queues}
    return [
        row.name
        for row in facts.queues[:DEPTHS_AT_MOST]
        if row.name in words and row.ready is None and row.counts == Counts(queue=row.name) and row.name not in listened
    ]


def problems_of(facts: Facts) -> Iterator[Problem]:
    """What a person should look at, worst last."""
    yield from _of_queues(facts)
    if facts.silent:
        shown = ", ".join(f"{row.name} (seen {phrases.age(facts.now - row.seen_at)} ago)" for row in facts.silent[:4])
        more = f" and {len(facts.silent) - 4} more" if len(facts.silent) > 4 else ""
        verb = "does" if len(facts.silent) == 1 else "do"
        text = f"{phrases.plural(len(facts.silent), 'worker')} {verb} not answer: {shown}{more}."
        yield Problem("warning", "workers_silent", text, "jobrunner workers list")
    if facts.unrouted:
        text = f"{phrases.plural(facts.unrouted, 'message')} found no queue ({topology.UNROUTED})."
        yield Problem("warning", "unrouted", text, "jobrunner audit")
    if facts.blocked is not None:
        text = f"RabbitMQ takes no new jobs ({facts.blocked}). Queued jobs are safe."
        yield Problem("error", "broker_blocked", text, "rabbitmq-diagnostics alarms")
    dead = sum(row.counts.dead for row in facts.queues)
    if dead:
        groups = f" in {phrases.plural(facts.causes, 'group')}" if facts.causes else ""
        newest = f", newest {phrases.age(facts.now - facts.newest_dead)} ago" if facts.newest_dead else ""
        yield Problem("error", "dead", f"{dead:,} dead{groups}{newest}.", "jobrunner dead")


def _of_queues(facts: Facts) -> Iterator[Problem]:
    for row in facts.queues:
        if row.full is not None:
            text = f"'{row.name}' is full ({row.ready:,} of at most {row.full:,} messages): new jobs are refused."
            yield Problem("error", "queue_full", text, _worker_on(row.name))
        if row.paused is not None:
            jobs = f"; {phrases.plural(row.ready, 'job')} wait{'s' * (row.ready == 1)}" if row.ready else ""
            text = f"{row.name} is {pause_words(row.paused, facts.now)}{jobs}."
            yield Problem("warning", "queue_paused", text, resume_command(row.name))
    for row in facts.queues:
        if row.paused is not None or facts.replies is None:
            continue
        mine = [reply for reply in facts.replies if row.name in reply.queues]
        waiting = row.ready or 0
        grows_per_s = row.counts.in_per_s - row.counts.out_per_s
        if waiting and not row.consumers and not mine:
            text = f"No worker listens on '{row.name}'; {phrases.plural(waiting, 'job')} wait{'s' * (waiting == 1)}."
            yield Problem("warning", "no_worker", text, _worker_on(row.name))
        elif waiting and grows_per_s >= GROWS_PER_S and mine and all(each.busy >= each.slots for each in mine):
            text = f"{row.name} grows by {grows_per_s:.1f}/s; every slot on it is busy."
            yield Problem("warning", "grows", text, "")


def _worker_on(queue: str) -> str:
    return "jobrunner worker" if queue == topology.DEFAULT_QUEUE else f"jobrunner worker -q {queue}"
