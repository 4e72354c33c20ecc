"""What this user may do, found out without doing it.

Each probe is something that RabbitMQ refuses or answers before anything changes: a binding that does not exist is
removed (needs write on its target), a queue that does not exist is deleted (needs configure), a consumer with a broken
argument is asked for (needs read).
"""

from typing import Any, Final

import msgspec

from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.doctor.check import Check, error, ok, refusal

_NOBODY: Final = f"{topology.P}.doctor-probe"
_SOURCE: Final = "amq.fanout"


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """create: what is ours. own_queue: one for answers. write, read: names of ours on which this user has the right."""

    create: bool
    own_queue: bool
    write: frozenset[str]
    read: frozenset[str]

    @property
    def abilities(self) -> dict[str, bool]:
        """What can be done with them."""
        publishes = {topology.EVENTS} <= self.write
        to_all = {topology.JOBS, topology.EVENTS} <= self.write
        return {
            "create": self.create,
            "enqueue": publishes and (self.own_queue or topology.JOBS in self.write),
            "run jobs": self.own_queue and to_all and topology.DLX in self.write and topology.CANCELS in self.read,
            "look": topology.LEDGER in self.read,
            "retry and cancel": to_all and topology.DEAD in self.read and topology.LEDGER in self.read,
        }


async def probe(connection: Connection) -> Rights:
    """Raises: TimeoutError; BrokerLost."""
    exchanges = (topology.JOBS, topology.EVENTS, topology.DLX, topology.CONTROL)
    queues = (topology.LEDGER, topology.CANCELS, topology.DEAD)
    return Rights(
        create=await refusal(connection, lambda ch, done: ch.queue_delete(_NOBODY, if_empty=True, callback=done))
        is None,
        own_queue=await refusal(connection, _own_queue) is None,
        write=frozenset([name for name in exchanges if await _may_write(connection, name)]),
        read=frozenset([name for name in queues if await _may_read(connection, name)]),
    )


def _own_queue(channel: Any, done: Any) -> None:
    channel.queue_declare("", exclusive=True, auto_delete=True, callback=done)


async def _may_write(connection: Connection, exchange: str) -> bool:
    # the right to write the target is looked up before the right to read the source
    def unbind(channel: Any, done: Any) -> None:
        channel.exchange_unbind(exchange, _SOURCE, routing_key=_NOBODY, callback=done)

    return await refusal(connection, unbind) in (None, _SOURCE)


async def _may_read(connection: Connection, queue: str) -> bool:
    def consume(channel: Any, done: Any) -> None:
        channel.basic_qos(prefetch_count=1)
        # a priority that is no number is refused, but only to who may consume at all
        channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": "none"}, callback=done)

    return await refusal(connection, consume) is None


def check(rights: Rights, *, user: str, vhost: str) -> Check:
    """The finding."""
    may = [name for name, allowed in rights.abilities.items() if allowed]
    may_not = [name for name, allowed in rights.abilities.items() if not allowed]
    if not may:
        fix = f"rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'  · fewer rights: docs/how-to/secure.md"
        return error("rights", f"{user} may do nothing in virtual host '{vhost}'", fix)
    text = f"{user} may {', '.join(may)}"
    return ok("rights", f"{text}; not {', '.join(may_not)}" if may_not else text)
