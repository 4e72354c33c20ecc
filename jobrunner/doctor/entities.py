"""Whether everything of ours exists in the broker, with the settings that it must have; and making what is missing."""

from typing import Final

from jobrunner.broker import declare, places, topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.publisher import Publisher
from jobrunner.broker.topology import Binding, Exchange, Queue
from jobrunner.doctor.check import Check, error, ok
from jobrunner.errors import EntityDiffers

SHOWN: Final = 3


class Entities:
    """missing: names. differ: sentences. is_new: nothing of ours exists at all. has_ladder: for delays and retries."""

    def __init__(self, connection: Connection) -> None:
        self.missing: list[str] = []
        self.differ: list[str] = []
        self.is_new = False
        self.has_ladder = False
        self._connection = connection

    async def look(self, *, may_create: bool) -> None:
        """may_create: then settings can be compared, by declaring again what exists. Raises: JobrunnerError."""
        base, ladder = _entities(topology.startup()), _entities(topology.ladder())
        base_missing = await self._absent(base)
        self.is_new = len(base_missing) == len(base)
        ladder_missing = [] if self.is_new else await self._absent(ladder)
        self.has_ladder = not self.is_new and not ladder_missing
        lacks_ladder = len(ladder_missing) == len(ladder)  # it is made when the first job is delayed
        self.missing = [] if self.is_new else [*base_missing, *([] if lacks_ladder else ladder_missing)]
        if may_create and not self.is_new:
            gone = {*base_missing, *ladder_missing}
            await self._compare([each for each in (*base, *ladder) if each.name not in gone])

    async def _absent(self, entities: list[Exchange | Queue]) -> list[str]:
        if await declare.exists(self._connection, entities):
            return []
        return [each.name for each in entities if not await declare.exists(self._connection, [each])]

    async def _compare(self, present: list[Exchange | Queue]) -> None:
        try:
            await declare.declare(self._connection, present)
        except EntityDiffers:
            for each in present:
                try:
                    await declare.declare(self._connection, [each])
                except EntityDiffers as exc:
                    self.differ.append(exc.message)

    def check(self, *, may_create: bool, user: str) -> Check:
        """The finding."""
        fix = "jobrunner doctor --fix" if may_create else "an administrator runs  jobrunner queues declare"
        if self.differ:
            return error("entities", " ".join(self.differ[:SHOWN]), "jobrunner queues declare --replace NAME")
        if self.is_new and not may_create:
            return error("entities", f"{user} may not create '{topology.P}.*', and nothing is there", fix)
        if self.is_new:
            return ok(
                "entities", "nothing is declared yet; the first worker or job does it, or  jobrunner queues declare"
            )
        if self.missing:
            few = ", ".join(self.missing[:SHOWN]) + (", …" if len(self.missing) > SHOWN else "")
            return error("entities", f"{len(self.missing)} missing: {few}", fix)
        if not self.has_ladder:
            if may_create:
                return ok("entities", "all there; the delay ladder is made with the first delay or retry")
            return error("entities", f"{user} may not create the delay ladder, and it is not there", fix)
        return ok("entities", "all there, delay ladder included" + (", with the right settings" if may_create else ""))


def _entities(declared: list[topology.Declaration]) -> list[Exchange | Queue]:
    return [each for each in declared if not isinstance(each, Binding)]


async def create(connection: Connection, queue: str) -> None:
    """Make what is missing, and that queue. Nothing is replaced or removed. Raises: JobrunnerError."""
    has_ledger = await declare.exists(connection, [Queue(topology.LEDGER, {})])
    await declare.declare(connection, [*topology.startup(), *topology.ladder()])
    await places.ensure_user_queue(connection, queue)
    await declare.declare(connection, [topology.jobs_binding(queue)])
    if not has_ledger:
        publisher = Publisher(connection, confirm_timeout_s=declare.DECLARE_TIMEOUT_S)
        try:
            await declare.publish_genesis(publisher)
        finally:
            publisher.close()
