"""What a worker refuses, it says in the words of docs/errors.md, and in no others."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jobrunner import envelope
from jobrunner.broker.delivery import Delivery
from jobrunner.envelope import Envelope
from jobrunner.outcome import Dead, Park
from jobrunner.registry import FunctionSpec
from jobrunner.worker import admission, reading
from jobrunner.worker.policy import Policy
from jobrunner.worker.reading import Unreadable
from tests.support.hostile import Keys, Place, corpus

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
PLACE = Place(queue="task_queue")
KEYS = Keys()
PLAIN = Policy(worker="w1", apps=("tasks",), functions={"tasks:hopeless": FunctionSpec(name="tasks:hopeless")})
KEYED = msgspec.structs.replace(PLAIN, ring=KEYS.ring, vhost=PLACE.vhost)


def documented() -> list[tuple[str, str]]:
    """Reason and text of each row."""
    section = PAGE.read_text(encoding="utf-8").partition("## What a worker refuses")[2]
    return re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", section, re.MULTILINE)


def comes_of(delivery: Delivery, policy: Policy) -> tuple[str, str] | None:
    """Reason and text of what is not run."""
    got = reading.read(delivery, policy)
    verdict = got if isinstance(got, Unreadable) else admission.admit(got, delivery, policy, time.time())
    return (verdict.error.reason, verdict.error.message) if isinstance(verdict, Unreadable | Dead | Park) else None


def delivery_of(sealed: Envelope) -> Delivery:
    return Delivery(1, 1, 1, sealed.body, sealed.job.id, queue=PLACE.queue)


def refusals() -> Iterator[tuple[str, str]]:
    """From all that is hostile, and from what is only wrong."""
    for one in corpus(PLACE, KEYS):
        encoding = one.other.get("content_encoding")
        it = Delivery(1, 1, 1, one.body, one.message_id, None, encoding, headers=one.headers, queue=PLACE.queue)
        for policy in (PLAIN, KEYED):
            if came := comes_of(it, policy):
                yield came
    listed = msgspec.structs.replace(PLAIN, allow_programs=("ffmpeg",))
    jobs = [{"task": "tasks:other"}, {"task": "tasks:_private"}, {"argv": ["ls"]}]
    for fields in (*jobs, {"argv": ["ffmpeg"], "env": {"LD_PRELOAD": "x"}}):
        job = delivery_of(envelope.seal(envelope.new_job(queue=PLACE.queue, **fields)))  # type: ignore[arg-type]
        if came := comes_of(job, listed):
            yield came
    killer = delivery_of(envelope.seal(envelope.new_job(queue=PLACE.queue, task="tasks:hopeless")))
    killer.redelivered, killer.delivery_count = True, 5
    if came := comes_of(killer, PLAIN):
        yield came


def test_every_refusal_is_word_for_word_that_of_the_page() -> None:
    rows = documented()
    said = set(refusals())
    patterns = {row: re.sub(r"\\{\w+\\}", "(.+)", re.escape(row[1])) for row in rows}
    # `malformed` says what is wrong in the words of whoever reads it
    unknown = [
        (reason, text)
        for reason, text in said
        if not any(row[0] == reason and re.fullmatch(pattern, text, re.DOTALL) for row, pattern in patterns.items())
    ]
    assert not unknown
    unsaid = [
        row
        for row, pattern in patterns.items()
        if not any(row[0] == reason and re.fullmatch(pattern, text, re.DOTALL) for reason, text in said)
    ]
    assert not unsaid
