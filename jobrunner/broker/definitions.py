"""What `topology` declares as a RabbitMQ definitions file, with the policies that we advise."""

import re
from typing import Any, Final

from jobrunner.broker import topology
from jobrunner.broker.topology import Binding, Exchange, Queue

ACK_TIMEOUT_MS: Final = 86_400_000
"""A day: the default of 30 min would give a long job to a second worker."""

_USER_QUEUES: Final = r"^(?!jobrunner\.v1\.|amq\.).+$"


def definitions(queues: list[str], *, vhost: str, broker_version: str) -> dict[str, Any]:
    """`topology.everything` with a virtual host and its policies, for `rabbitmqctl import_definitions`.

    broker_version: such as `3.10.8`.
    """
    declared = topology.everything(queues)
    common = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "vhosts": [vhost_row(vhost)],
        "exchanges": [
            {"name": d.name, "type": d.kind, "internal": False, "arguments": d.arguments, **common}
            for d in declared
            if isinstance(d, Exchange)
        ],
        "queues": [{"name": d.name, "arguments": d.arguments, **common} for d in declared if isinstance(d, Queue)],
        "bindings": [
            {
                "vhost": vhost,
                "source": d.source,
                "destination": d.destination,
                "destination_type": "exchange" if d.to_exchange else "queue",
                "routing_key": d.key,
                "arguments": {},
            }
            for d in declared
            if isinstance(d, Binding)
        ],
        "policies": policies(vhost, broker_version),
    }


def vhost_row(name: str) -> dict[str, Any]:
    """A virtual host for quorum queues. Up to 3.11 the default queue type is read from `metadata` only."""
    quorum = {"default_queue_type": "quorum"}
    return {"name": name, **quorum, "metadata": quorum}


def policies(vhost: str, broker_version: str) -> list[dict[str, Any]]:
    """Those of user queues. 3.12 and later know the key of the ack timeout, earlier ones refuse it."""
    numbers = [int(number) for number in re.findall(r"\d+", broker_version)[:2]]
    timeout = {"consumer-timeout": ACK_TIMEOUT_MS} if numbers >= [3, 12] else {}
    quorum = {
        "dead-letter-exchange": topology.DLX,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
        "delivery-limit": 20,
    }
    # a policy with one key that a queue type lacks is skipped whole: the first falls on quorum queues, the second on
    # classic ones
    rows: list[tuple[str, int, dict[str, Any]]] = [
        ("jobrunner-work", 5, quorum),
        ("jobrunner-classic", 4, {"dead-letter-exchange": topology.DLX}),
    ]
    return [
        {
            "vhost": vhost,
            "name": name,
            "pattern": _USER_QUEUES,
            "apply-to": "queues",
            "priority": priority,
            "definition": {**definition, **timeout},
        }
        for name, priority, definition in rows
    ]
