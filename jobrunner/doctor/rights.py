"""What this user may do, found out without doing it.

Each probe is something that RabbitMQ refuses or answers before anything changes: a binding that does not exist is
removed (needs write on its target), a queue that does not exist is deleted (needs configure), a consumer with a broken
argument is asked for (needs read), a message with a broken expiration is published (needs write on the exchange; up to
RabbitMQ 4.0.2 also for its key).
"""

from typing import Any, Final

import msgspec

from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.probing import publish_invalid
from jobrunner.doctor.check import GIVE_RIGHTS, Check, error, ok, refusal

_NOBODY: Final = f"{topology.P}.doctor-probe"
_SOURCE: Final = "amq.fanout"


_ID: Final = "0000000000000000"
_BY_NAME: Final = ("", topology.DEFAULT_QUEUE)
_TO_JOBS: Final = (topology.JOBS, topology.DEFAULT_QUEUE)
_QUEUED: Final = (topology.EVENTS, f"queued.-.{_ID}")
_ENDED: Final = (topology.EVENTS, f"succeeded.-.{_ID}")
_CANCEL: Final = (topology.EVENTS, f"cancel.-.{_ID}")
KEYS: Final = (_BY_NAME, _TO_JOBS, _QUEUED, _ENDED, _CANCEL)


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """create: what is ours. own_queue: one for answers. write, read: names of ours on which this user has the right."""

    create: bool
    own_queue: bool
    write: frozenset[str]
    read: frozenset[str]
    keys: frozenset[tuple[str, str]] | None = None
    """(exchange, key) of `KEYS` to which it may publish; None: not asked, because the broker takes no messages."""

    def _may_publish(self, exchange: str, key: str) -> bool:
        return exchange in self.write and (self.keys is None or (exchange, key) in self.keys)

    @property
    def abilities(self) -> dict[str, bool]:
        """What can be done with them."""
        by_name = self.keys is None or _BY_NAME in self.keys
        to_jobs = self._may_publish(*_TO_JOBS)
        return {
            "create": self.create,
            "enqueue": (by_name or to_jobs) and self._may_publish(*_QUEUED),
            "run jobs": self.own_queue
            and to_jobs
            and self._may_publish(*_ENDED)
            and topology.DLX in self.write
            and topology.CANCELS in self.read,
            "look": topology.LEDGER in self.read,
            "retry and cancel": to_jobs
            and self._may_publish(*_QUEUED)
            and self._may_publish(*_CANCEL)
            and topology.DEAD in self.read
            and topology.LEDGER in self.read,
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


async def with_keys(rights: Rights, publishing: Connection) -> Rights:
    """The same, with what is allowed of `KEYS`. publishing: a connection on which the broker takes messages now.

    Raises: TimeoutError; BrokerLost.
    """
    allowed = []
    for exchange, key in KEYS:

        def publish(channel: Any, _done: Any, exchange: str = exchange, key: str = key) -> None:
            # refused for its expiration, after the rights were looked up and before it goes anywhere
            publish_invalid(channel, exchange, key)

        if await refusal(publishing, publish) is None:
            allowed.append((exchange, key))
    return msgspec.structs.replace(rights, keys=frozenset(allowed))


def check(rights: Rights, *, user: str, vhost: str) -> Check:
    """The finding."""
    may = [name for name, allowed in rights.abilities.items() if allowed]
    may_not = [name for name, allowed in rights.abilities.items() if not allowed]
    if not may:
        nothing = f"{user} may do nothing in virtual host '{vhost}'"
        return error("rights", nothing, GIVE_RIGHTS.format(user=user, vhost=vhost))
    text = f"{user} may {', '.join(may)}"
    return ok("rights", f"{text}; not {', '.join(may_not)}" if may_not else text)
