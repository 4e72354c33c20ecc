"""Valid messages, changed at random, at the worker's door: each is refused, or is what it was."""

import random
import sys
from typing import Any, Final

import msgspec

from jobrunner import envelope
from jobrunner.broker.delivery import Delivery
from jobrunner.broker.message import job_message, properties_of
from jobrunner.brokerurl import parse_url
from jobrunner.envelope import After, Envelope
from jobrunner.outcome import Dead, Expired, Park, Redelay
from jobrunner.registry import FunctionSpec, is_task_name
from jobrunner.retry import limits_of
from jobrunner.worker import admission, reading, settlement
from jobrunner.worker.delivered import Run
from jobrunner.worker.policy import Policy
from jobrunner.worker.reading import Unreadable
from tests.support.hostile import Keys

QUEUE: Final = "task_queue"
NOW: Final = 1_800_000_000.0
KEYS: Final = Keys()
URL: Final = msgspec.structs.replace(parse_url("amqp://u:p@rabbit.prod/jobs"), ring=KEYS.only("good"))
PLAIN: Final = Policy(worker="w1", apps=("tasks",), functions={"tasks:add": FunctionSpec(name="tasks:add")})
KEYED: Final = msgspec.structs.replace(PLAIN, ring=KEYS.ring, vhost="jobs")
WORDS: Final = (
    *(b"null", b"true", b"NaN", b"-0", b"1e400", b"-1", b"18446744073709551616", b"[]", b"{}", b'""', b"[" * 1500),
    *(b'"\\ud800"', b'"os:system"', b'"tasks:__import__"', b'"jobrunner.v1.dead"', b'"v":2', b'"argv":["touch"]'),
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\\u0000", b'"', b",", b":", b"}", b"]", b'"task":"subprocess:run",'),
)
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1, 2**53, 2**53 + 1, 2**63 - 1, "", "1", "x" * 300, b"\xff", [1], {"a": {"b": [None]}}),
    *("expired", "jobrunner.v1.delay.03", "\x1b[2J", 1.5),
)
NAMES: Final[tuple[Any, ...]] = (
    *("jr-attempt", "jr-copy", "jr-chain", "jr-crashes", "jr-not-before", "jr-parked-since", "jr-submitted-by"),
    *("jr-lease", "jr-kid", "jr-alg", "jr-exp", "jr-sig", "jr-state-kid", "jr-state-alg", "jr-state-sig"),
    *("jr-other", "x-delivery-count", "x-first-death-queue", "x-first-death-reason", "x-death", "other", b"jr-\xff"),
)


def seeds() -> list[Delivery]:
    """Jobs as clients make them, signed."""
    after = After(jobs={"0123456789abcdef": 0}, run="r", since=1.0)
    jobs = [
        envelope.new_job(queue=QUEUE, task="tasks:add", args=msgspec.Raw(b'[2,{"a":[1.5,null]}]'), tags=["a", "b"]),
        envelope.new_job(queue=QUEUE, argv=["ffmpeg", "-i", "a.mov"], stdin=b"abc", env={"A": "b"}, cwd="/tmp"),
        envelope.new_job(queue=QUEUE, task="tasks:add", batch=msgspec.Raw(b"[[[1],{}],[[2],{}]]"), items=["a", "b"]),
        envelope.new_job(
            queue=QUEUE,
            task="tasks:other",
            max_attempts=3,
            backoff_s=1.0,
            backoff_max_s=60.0,
            timeout_s=5.0,
            expires_at=NOW + 60.0,
            run="nightly",
            seq=7,
            input="x",
            template="{}",
            label="l",
            user="me@here",
            after=after,
        ),
    ]
    return [_delivery(envelope.seal(job, not_before_s=NOW + 30.0 if job.timeout_s else None)) for job in jobs]


def _delivery(sealed: Envelope) -> Delivery:
    headers = properties_of(job_message(sealed, "", QUEUE), URL).headers or {}
    return Delivery(1, 1, 1, sealed.body, sealed.job.id, headers=headers, queue=QUEUE)


class Mutants:
    """Draws changed messages. The same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._seeds = seeds()

    def draw(self) -> tuple[Delivery, bool]:
        """A message, and whether what is signed of it was changed."""
        was = self._draw.choice(self._seeds)
        body, message_id, headers = was.body, was.message_id, dict(was.headers)
        for _ in range(self._draw.choice((1, 1, 1, 2, 4))):
            kind = self._draw.random()
            if kind < 0.75:
                body = self._body(body)
            elif kind < 0.95:
                self._header(headers)
            else:
                message_id = self._id(was)
        made = msgspec.structs.replace(was, body=body, message_id=message_id, headers=headers)
        made.redelivered = self._draw.random() < 0.1
        made.delivery_count = self._draw.choice((None, 0, 4, 5)) if made.redelivered else None
        made.priority = self._draw.choice((None, 0, 9, 255))
        return made, body != was.body or message_id != was.message_id or _ours(headers) != _ours(was.headers)

    def _body(self, body: bytes) -> bytes:
        draw = self._draw
        at = draw.randrange(len(body) + 1)
        match draw.randrange(7):
            case 0:  # one bit
                at = min(at, len(body) - 1)
                return body[:at] + bytes([body[at] ^ 1 << draw.randrange(8)]) + body[at + 1 :] if body else b"\0"
            case 1:
                return body[:at] + draw.choice(WORDS) + body[at:]
            case 2:  # a value in place of another
                end = body.find(b",", at)
                start = body.rfind(b":", 0, at)
                return body[: start + 1] + draw.choice(WORDS) + body[end if end >= 0 else len(body) :]
            case 3:
                return body[:at]
            case 4:
                return body[:at] + body[at + draw.randrange(40) :]
            case 5:  # a part twice, or elsewhere
                part = body[at : at + draw.randrange(80)]
                to = draw.randrange(len(body) + 1)
                return body[:to] + part + body[to:]
            case _:  # a part of another message
                other = draw.choice(self._seeds).body
                start = draw.randrange(len(other))
                return body[:at] + other[start : start + draw.randrange(120)] + body[at:]

    def _header(self, headers: dict[Any, Any]) -> None:
        name = self._draw.choice(NAMES)
        if name in headers and self._draw.random() < 0.3:
            del headers[name]
        else:
            headers[name] = self._draw.choice(VALUES)

    def _id(self, was: Delivery) -> str | None:
        assert was.message_id is not None
        return self._draw.choice((None, "", was.message_id[:-1], was.message_id.upper(), "0" * 16, was.message_id))


def _ours(headers: Any) -> dict[str, Any]:
    return {
        name: (type(value), value)
        for name, value in headers.items()
        if isinstance(name, str) and name.startswith("jr-")
    }


def check(it: Delivery, is_changed: bool) -> str:
    """Assert that nothing gets in by this message, with a key and without; what came of it without."""
    with_key = reading.read(it, KEYED)
    assert isinstance(with_key, Unreadable) or not is_changed, it
    got = reading.read(it, PLAIN)
    run = Run(got, it, limits_of(got.job, None)) if isinstance(got, Envelope) else None
    if run is None:
        assert isinstance(got, Unreadable)
        messages, came = settlement.plan_unreadable(got, it, "w1", NOW), got.error.reason
    else:
        assert isinstance(got, Envelope)
        run.verdict = admission.admit(got, it, PLAIN, NOW)
        if run.verdict is None:
            assert got.job.task in PLAIN.functions
            return "runs"
        assert isinstance(run.verdict, Dead | Expired | Park | Redelay | settlement.RunAgain)
        assert not isinstance(run.verdict, Park) or got.job.v > 1 or is_task_name(got.job.task or "")
        messages, came = settlement.plan(run, "w1", NOW), type(run.verdict).__name__.lower()
    for message in messages:  # what follows can be sent
        properties_of(message, URL if came != "malformed" else None).encode()
    return came


def modules() -> frozenset[str]:
    """What is imported, which no message changes."""
    return frozenset(sys.modules)
