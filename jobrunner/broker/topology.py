"""Everything that exists in the broker, as data: names, declarations, routes. No I/O.

Queue arguments can never be changed in RabbitMQ, hence `v1` in every name of ours: a new layout would stand beside it.
Milliseconds appear here only, where AMQP wants them.
"""

import math
import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from jobrunner.errors import BadValue, QueueNameTooLong

P: Final = "jobrunner.v1"
JOBS: Final = f"{P}.jobs"
DLX: Final = f"{P}.dlx"
DEAD: Final = f"{P}.dead"
EVENTS: Final = f"{P}.events"
LEDGER: Final = f"{P}.ledger"
CANCELS: Final = f"{P}.cancels"
CONTROL: Final = f"{P}.control"
UNROUTED: Final = f"{P}.unrouted"
WAITING: Final = f"{P}.waiting"
DEFAULT_QUEUE: Final = "task_queue"

UNIT_MS: Final = 100
LEVELS: Final = 28
MAX_UNITS: Final = 2**LEVELS - 1
MAX_DELAY_S: Final = MAX_UNITS * UNIT_MS / 1000
"""The longest delay of one pass through the ladder: 310.7 days."""

MAX_KEY_BYTES: Final = 255
MAX_QUEUE_BYTES: Final = MAX_KEY_BYTES - 2 * LEVELS
"""Of an encoded queue name: a routing key also holds one digit and one dot for each level."""

MAX_RUN_BYTES: Final = 200

_NOT_WORD = re.compile(rb"[^A-Za-z0-9_-]")


class Exchange(msgspec.Struct, frozen=True):
    """A durable exchange. kind: `topic` or `fanout`."""

    name: str
    kind: str
    arguments: dict[str, Any] = {}


class Queue(msgspec.Struct, frozen=True):
    """A durable queue or stream, with exactly these arguments."""

    name: str
    arguments: dict[str, Any]


class Binding(msgspec.Struct, frozen=True):
    """From an exchange to a queue, or to another exchange."""

    source: str
    destination: str
    key: str = ""
    to_exchange: bool = False


Declaration = Exchange | Queue | Binding


def encode_word(text: str) -> str:
    """`text` as one word of a topic key: bytes outside `[A-Za-z0-9_-]` become `%XX`.

    Unencoded, a binding for the queue `b` would also take the jobs of `a.b`.
    """
    return _NOT_WORD.sub(lambda match: b"%%%02X" % match[0][0], text.encode()).decode("ascii")


@lru_cache(maxsize=1024)
def check_queue_name(name: str, hint: str = f"--queue {DEFAULT_QUEUE}") -> None:
    """Raises: QueueNameTooLong over 199 bytes once encoded; BadValue for an empty name, one of RabbitMQ's or ours."""
    if not name:
        raise BadValue(problem="A queue needs a name.", hint=hint)
    if name.startswith(("amq.", f"{P}.")):
        owner = "RabbitMQ" if name.startswith("amq.") else "jobrunner"
        raise BadValue(problem=f"Queue names like '{name}' belong to {owner} itself.", hint=hint)
    if (size := len(encode_word(name))) > MAX_QUEUE_BYTES:
        raise QueueNameTooLong(name=name, size_bytes=size, limit_bytes=MAX_QUEUE_BYTES)


# --- what is declared -----------------------------------------------------------------------------------------------


def startup() -> list[Declaration]:
    """What a worker needs before its first job; targets before their sources."""
    return [
        Exchange(UNROUTED, "fanout"),
        Queue(UNROUTED, {"x-queue-type": "quorum"}),
        Binding(UNROUTED, UNROUTED),
        Exchange(DLX, "fanout"),
        # "no limit" is a large number: -1 discards at the first return up to RabbitMQ 3.13
        Queue(DEAD, {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}),
        Binding(DLX, DEAD),
        Exchange(EVENTS, "topic"),
        Queue(LEDGER, _stream("30D", 5_000_000_000, 50_000_000)),
        Binding(EVENTS, LEDGER, "#"),
        Queue(CANCELS, _stream("1Y", 200_000_000, 5_000_000)),
        Binding(EVENTS, CANCELS, "cancel.#"),
        Exchange(CONTROL, "topic"),
        Exchange(JOBS, "topic", {"alternate-exchange": UNROUTED}),
        *waiting(),
    ]


def waiting() -> list[Declaration]:
    """Where a job waits for other jobs, under the routing key of its own queue.

    One worker at a time consumes it, and holds what waits unacked. A job that may run is rejected: then the broker
    itself moves it to the jobs exchange, so that it is at every moment in one of the two places and never in both.
    """
    arguments = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        # each change of that worker counts as a delivery; "no limit" as above
        "x-delivery-limit": 1_000_000,
        "x-dead-letter-exchange": JOBS,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    return [Exchange(WAITING, "fanout"), Queue(WAITING, arguments), Binding(WAITING, WAITING)]


def _stream(max_age: str, max_bytes: int, segment_bytes: int) -> dict[str, Any]:
    # retention drops whole segments, so they must be small against the limits
    return {
        "x-queue-type": "stream",
        "x-max-age": max_age,
        "x-max-length-bytes": max_bytes,
        "x-stream-max-segment-size-bytes": segment_bytes,
    }


def level(number: int) -> str:
    """The exchange and the queue of one level of the delay ladder, 0 to 27."""
    return f"{P}.delay.{number:02d}"


def ladder() -> list[Declaration]:
    """The delay ladder: level n holds a message for 2^n * 100 ms, then passes it to the exchange one level lower.

    A message enters at the highest bit of its delay. Each exchange is bound straight to the queue of every lower
    level, so zeros in between cost nothing, and to the jobs exchange for "all other bits are zero".
    """
    declared: list[Declaration] = []
    for n in range(LEVELS):
        name = level(n)
        head = "*." * (LEVELS - 1 - n)
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": UNIT_MS << n,
            "x-dead-letter-exchange": level(n - 1) if n else JOBS,
            # with both of these, and only then, the broker waits for a confirm before it drops an expired message
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        # what no binding takes must go somewhere, or it holds one of the few slots of the level above for ever
        declared += [Exchange(name, "topic", {"alternate-exchange": UNROUTED}), Queue(name, arguments)]
        declared += [Binding(name, level(m), f"{head}{'0.' * (n - m)}1.#") for m in range(n + 1)]
        declared.append(Binding(name, JOBS, f"{head}{'0.' * (n + 1)}#", to_exchange=True))
    return declared


def user_queue(name: str) -> Queue:
    """A queue for jobs, as we create it. One that exists is used as it is."""
    return Queue(name, {"x-queue-type": "quorum"})


def jobs_binding(queue: str) -> Binding:
    """How delayed and handed-back jobs find their queue: any number of words, then the queue's own."""
    return Binding(JOBS, queue, f"#.{encode_word(queue)}")


def everything(queues: list[str]) -> list[Declaration]:
    """All that is ever declared, for these user queues."""
    declared = [*startup(), *ladder()]
    for name in queues:
        declared += [user_queue(name), jobs_binding(name)]
    return declared


# --- where messages go ----------------------------------------------------------------------------------------------


def _units(delay_s: float) -> int:
    """A delay in units of 100 ms, rounded up: never early."""
    if delay_s >= MAX_DELAY_S:
        return MAX_UNITS
    # rounding off what binary fractions add: 1.1 s are 1100.0000000000002 ms
    return max(0, math.ceil(math.ceil(round(delay_s * 1000, 3)) / UNIT_MS))


def route(delay_s: float, queue: str) -> tuple[str, str]:
    """Exchange and routing key by which a job reaches `queue` after `delay_s` seconds, never early.

    At once for 0 and less; at most 310.7 days.
    """
    units = _units(delay_s)
    if not units:
        return JOBS, encode_word(queue)
    return level(units.bit_length() - 1), f"{'.'.join(f'{units:0{LEVELS}b}')}.{encode_word(queue)}"


def coarse(delay_s: float, bits: int = 3) -> float:
    """A delay near `delay_s` that costs at most so many hops: its highest bits. Never longer; at least 0.1 s.

    For backoff, where nobody minds an eighth less, or at most a quarter with three bits.
    """
    units = max(1, _units(delay_s))
    low = max(units.bit_length() - bits, 0)
    return (units >> low << low) * UNIT_MS / 1000


def event_key(kind: str, run: str | None, job_id: str) -> str:
    """The routing key of an event: `<kind>.<encoded run or ->.<job id>`.

    A run's name that would not fit into a key is left out of it: the event itself still names the run.
    """
    word = encode_word(run) if run else "-"
    return f"{kind}.{word if len(word) <= MAX_RUN_BYTES else '-'}.{job_id}"
