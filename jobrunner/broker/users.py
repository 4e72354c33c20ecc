"""Least privilege as data: the users of a broker, each with the rights that its work needs and no others. No I/O.

A permission is a regular expression over names, in three kinds: configure (create, delete), write (publish, bind to a
queue), read (consume, purge, bind from an exchange). A topic permission is one over the routing keys of one exchange.
Source: RabbitMQ docs "Access Control". All of them are anchored: `task_queue` alone also fits `evil_task_queue2`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.topology import P, encode_word

PREFIX: Final = "jr_"
PRODUCERS_KINDS: Final = ("queued", "sealed", "probe")
OPERATORS_KINDS: Final = ("queued", "sealed", "cancel", "cancelled", "dead", "pause", "probe")
_NOT_WORKERS: Final = ("queued", "sealed", "cancel", "pause", "genesis")
"""Kinds of events by who may write them; `probe` is what `doctor` looks for in the ledger, no event of a job."""

ASK: Final = r"all|probe|(worker|host|queue)\..+"
ANSWER: Final = r"(reply|log)\.[0-9a-z]+"
"""Keys of the control exchange: questions to workers, and what they answer."""

WORKERS_ASK: Final = r"(worker|host|queue)\..+"
WORKERS_HEAR: Final = r"reply\.[0-9a-z]+"
"""Workers ask each other who runs a redelivered job (`worker/leases.py`) and whether their name is free; `workers ping
--self` asks those of its host. Who may say something to a queue's workers says it to no more with the other two."""

WAITED_FOR: Final = (*events.TERMINAL, "queued", "sealed")
"""Kinds of events that decide whether a job that waits for others may run; a worker that looks after it reads them."""

CONNECTIONS: Final = {"producer": 200, "worker": 100}

_J: Final = re.escape(P)
_OWN: Final = r"amq\.gen-.+"
_DELAY: Final = r"delay\.\d\d"
_KEY: Final = r"\.[^.]+\.[^.]+"


_Topics = tuple[tuple[str, str, str], ...]


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What one user may do. configure, write, read: expressions. topics: (exchange, write, read)."""

    name: str
    purpose: str
    configure: str = ""
    write: str = ""
    read: str = ""
    topics: tuple[tuple[str, str, str], ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def user(self) -> str:
        """Its name in the broker."""
        return PREFIX + self.name


def workers_kinds() -> list[str]:
    """The kinds of events that a worker writes: all that nobody else does."""
    return [*(kind for kind in events.KINDS if kind not in _NOT_WORKERS), "probe"]


def roles(queues: Sequence[str]) -> list[Role]:
    """The users of a virtual host whose jobs go to these queues."""
    names = "|".join(re.escape(name) for name in queues)
    keys = "|".join(re.escape(encode_word(name)) for name in queues)
    to_jobs = ((topology.JOBS, keys, ""),)
    later = tuple((topology.level(n), rf"([01]\.){{{topology.LEVELS}}}({keys})", "") for n in range(topology.LEVELS))
    ours = rf"{names}|{_J}\..+"
    return [
        Role(name="setup", purpose="jobrunner queues declare", configure=ours, write=ours, read=ours),
        *_enqueuers(to_jobs, later),
        *_runners(names, to_jobs, later),
        Role(name="monitor", purpose="the management API and metrics", tags=("monitoring",)),
    ]


def _enqueuers(to_jobs: _Topics, later: _Topics) -> list[Role]:
    """Those that queue jobs."""
    return [
        Role(
            name="submitter",
            purpose='enqueue with [broker] route = "jobs", and nothing else',
            write=rf"{_J}\.(jobs|events|control)",
            topics=(*to_jobs, (topology.EVENTS, _written(("queued",)), ""), (topology.CONTROL, "probe", "")),
        ),
        Role(
            name="producer",
            purpose="enqueue, map, wait",
            configure=_OWN,
            write=rf"{_OWN}|amq\.default|{_J}\.({_DELAY}|events|waiting)",
            read=rf"{_OWN}|{_J}\.events",
            topics=(*later, (topology.EVENTS, _written(PRODUCERS_KINDS), f"[a-z*]+{_KEY}")),
        ),
    ]


def _runners(names: str, to_jobs: _Topics, later: _Topics) -> list[Role]:
    """Those that run jobs, look at them and set them right. names: an expression for the queues."""
    return [
        Role(
            name="worker",
            purpose="run jobs",
            configure=_OWN,
            write=rf"{_OWN}|{_J}\.(jobs|{_DELAY}|dlx|events|control|waiting)",
            read=rf"{_OWN}|{names}|{_J}\.(control|cancels|waiting|events|ledger)",
            topics=(
                *to_jobs,
                *later,
                (topology.EVENTS, _written(workers_kinds()), _written(WAITED_FOR)),
                (topology.CONTROL, f"{ANSWER}|{WORKERS_ASK}", f"{ASK}|{WORKERS_HEAR}"),
            ),
        ),
        Role(name="viewer", purpose="look", read=rf"{_J}\.(ledger|cancels)"),
        Role(
            name="operator",
            purpose='retry, cancel, purge, audit; with [broker] route = "jobs"',
            configure=_OWN,
            write=rf"{_OWN}|{_J}\.(jobs|{_DELAY}|events|control|waiting)",
            read=rf"{_OWN}|{names}|{_J}\.(dead|unrouted|waiting|events|ledger|cancels|control)",
            topics=(
                *to_jobs,
                *later,
                (topology.EVENTS, _written(OPERATORS_KINDS), ".+"),
                (topology.CONTROL, ASK, ANSWER),
            ),
        ),
    ]


def _written(kinds: Sequence[str]) -> str:
    return f"({'|'.join(kinds)}){_KEY}"


def anchored(expression: str) -> str:
    """The expression as the broker gets it. An empty one fits nothing."""
    return f"^({expression})$" if expression else ""


def definitions(queues: Sequence[str], *, vhost: str, hashes: dict[str, str] | None = None) -> dict[str, Any]:
    """Users, permissions and topic permissions as parts of a definitions file.

    hashes: user -> its password as RabbitMQ stores it; without one nobody can log in as that user until
    `rabbitmqctl change_password` gives it a password.
    """
    found = roles(queues)
    hashes = hashes or {}
    return {
        "users": [_login(role, hashes.get(role.user, "")) for role in found],
        "permissions": [
            {
                "user": role.user,
                "vhost": vhost,
                "configure": anchored(role.configure),
                "write": anchored(role.write),
                "read": anchored(role.read),
            }
            for role in found
        ],
        "topic_permissions": [
            {
                "user": role.user,
                "vhost": vhost,
                "exchange": exchange,
                "write": anchored(write),
                "read": anchored(read),
            }
            for role in found
            for exchange, write, read in role.topics
        ],
    }


def _login(role: Role, password_hash: str) -> dict[str, Any]:
    return {
        "name": role.user,
        "password_hash": password_hash,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ",".join(role.tags),
        "limits": {"max-connections": CONNECTIONS[role.name]} if role.name in CONNECTIONS else {},
    }


def commands(queues: Sequence[str], *, vhost: str) -> Iterator[str]:
    """The same as lines for a shell of an administrator. `add_user` asks for the password."""
    yield f"vhost={vhost}"
    yield "rabbitmqctl add_vhost --default-queue-type quorum $vhost"
    yield 'p() { rabbitmqctl set_permissions -p $vhost "$@"; }          # user, configure, write, read'
    yield 't() { rabbitmqctl set_topic_permissions -p $vhost "$@"; }    # user, exchange, write, read'
    for role in roles(queues):
        yield ""
        yield f"rabbitmqctl add_user {role.user}    # {role.purpose}"
        rights = " ".join(f"'{anchored(one)}'" for one in (role.configure, role.write, role.read))
        yield f"p {role.user} {rights}"
        levels = [topic for topic in role.topics if topic[0].startswith(f"{P}.delay.")]
        for exchange, write, read in role.topics:
            if (exchange, write, read) not in levels:
                yield f"t {role.user} {exchange} '{anchored(write)}' '{anchored(read)}'"
        if levels:
            numbers = f"$(seq -w 0 {topology.LEVELS - 1})"
            line = f"t {role.user} \"{P}.delay.$n\" '{anchored(levels[0][1])}' ''"
            yield f"for n in {numbers}; do {line}; done"
        if role.tags:
            yield f"rabbitmqctl set_user_tags {role.user} {' '.join(role.tags)}"
        if role.name in CONNECTIONS:
            yield f"rabbitmqctl set_user_limits {role.user} '{{\"max-connections\": {CONNECTIONS[role.name]}}}'"
    yield ""
    yield "rabbitmqctl delete_user guest"
