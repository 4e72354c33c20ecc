"""Several events of one kind in one message: the ledger keeps one record of them, and each is told on its own.

The body is a JSON array of the events' bodies; the message has the routing keys of all, the first as its own, the rest
in the header `CC`, by which RabbitMQ routes as well (RabbitMQ docs "Sender-Selected Distribution"). Whoever reads gives
them on one by one, so that nobody behind it knows of groups.
"""

from collections.abc import Sequence

import msgspec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.message import Message

MOST_EVENTS = 32
MOST_BYTES = 64 * 1024
"""Of the bodies together. The keys need no bound of their own: 32 of the longest are less than `MAX_HEADER_BYTES`."""


class _Head(msgspec.Struct):
    kind: str
    id: str
    run: str | None = None


_bodies = msgspec.json.Decoder(list[msgspec.Raw])
_heads = msgspec.json.Decoder(list[_Head])


def group(messages: Sequence[Message]) -> Message:
    """One message of several events of jobs, all of one kind; a single one stays as it is."""
    first = messages[0]
    if len(messages) == 1:
        return first
    return Message(
        exchange=first.exchange,
        key=first.key,
        body=b"[%b]" % b",".join([message.body for message in messages]),
        message_id=f"{first.message_id}+{len(messages) - 1}",
        type=events.GROUP_TYPE,
        also=tuple([message.key for message in messages[1:]]),
    )


def parts(key: str, body: bytes) -> list[tuple[str, bytes]]:
    """Routing key and body of each event in a message that has come. What is no group of ours stays as it is.

    The key of each is made of what it says itself: a broker's federation may have dropped the others.
    """
    if not body.startswith(b"["):
        return [(key, body)]
    try:
        bodies, heads = _bodies.decode(body), _heads.decode(body)
    except (ValueError, RecursionError, MemoryError):
        return [(key, body)]
    kind = key.partition(".")[0]
    if not 0 < len(heads) <= MOST_EVENTS or any(head.kind != kind for head in heads):
        # rights go by the routing key: nobody says more in a group than its key allows
        return [(key, body)]
    return [(topology.event_key(kind, head.run, head.id), bytes(one)) for head, one in zip(heads, bodies, strict=True)]
