"""What `jobrunner queues` asks of the broker."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobrunner.broker import declare, topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.publisher import Publisher
from jobrunner.broker.topology import Binding, Exchange, Queue
from jobrunner.cli.asking import connected
from jobrunner.config import Settings
from jobrunner.errors import BadValue, EntityDiffers, NotFound, QueueNotEmpty


@dataclass
class Report:
    """created: names. present: how many were there as they must be. differ: a sentence for each that is not."""

    created: list[str] = field(default_factory=list)
    present: int = 0
    differ: list[str] = field(default_factory=list)


async def depths(settings: Settings, names: Sequence[str]) -> dict[str, tuple[int, int] | None]:
    """Ready messages and consumers of each queue; None: there is no such queue."""
    async with connected(settings, "queues") as connection:
        return {name: await declare.queue_depth(connection, name) for name in names}


async def declare_all(settings: Settings, names: Sequence[str]) -> Report:
    """Everything of ours and the user's queues of these names: created, found right, or found different."""
    report = Report()
    user_queues = {topology.user_queue(name).name for name in names}
    async with connected(settings, "queues") as connection:
        has_ledger = await declare.exists(connection, [Queue(topology.LEDGER, {})])
        declared = topology.everything(list(names))
        for entity in declared:
            if isinstance(entity, Exchange | Queue):
                await _one(connection, entity, report, is_users=entity.name in user_queues)
        if report.differ:
            return report
        await declare.declare(connection, [each for each in declared if isinstance(each, Binding)])
        if not has_ledger:
            await declare.publish_genesis(Publisher(connection, confirm_timeout_s=settings.connect_timeout_s))
    return report


async def _one(connection: Connection, entity: Exchange | Queue, report: Report, *, is_users: bool) -> None:
    was_there = await declare.exists(connection, [entity])
    try:
        await declare.declare(connection, [entity])
    except EntityDiffers as exc:
        if is_users:  # somebody made it with settings of their own: it is used as it is
            report.present += 1
        else:
            report.differ.append(f"{exc.message} {exc.hint}")
        return
    if was_there:
        report.present += 1
    else:
        report.created.append(entity.name)


async def replace_queue(settings: Settings, name: str) -> None:
    """Delete one of our queues so that it is made anew. Raises: BadValue, NotFound, QueueNotEmpty."""
    ours = {each.name for each in topology.everything([]) if isinstance(each, Queue)}
    if name not in ours:
        raise BadValue(problem=f"'{name}' is not one of jobrunner's own queues.", hint="jobrunner queues declare")
    if name in (topology.LEDGER, topology.CANCELS):
        raise BadValue(problem=f"'{name}' is the history itself; it is never thrown away.", hint="another vhost")
    async with connected(settings, "queues") as connection:
        for _ in range(3):  # more than once: a queue's leader may not have answered in time, and then it counts 0
            depth = await declare.queue_depth(connection, name)
            if depth is None:
                raise NotFound(message=f"There is no queue '{name}'.", hint="jobrunner queues declare")
            if depth[0]:
                raise QueueNotEmpty(name=name, count=depth[0])
            await asyncio.sleep(0.2)
        await declare.delete_queue(connection, name)
