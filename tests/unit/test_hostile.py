"""What must not get in, at the door: every file of tests/hostile/corpus, as anyone may send it and by a key's owner."""

import dataclasses
import sys
import time
from typing import Any

import msgspec
import pika
import pytest

from jobrunner.broker.amqp import UNREADABLE
from jobrunner.outcome import Dead, Park
from jobrunner.registry import FunctionSpec
from jobrunner.worker import admission, reading
from jobrunner.worker.policy import Policy
from jobrunner.worker.reading import Unreadable
from tests.support.hostile import Hostile, Keys, Place, corpus, signed

PLACE = Place(queue="task_queue")
KEYS = Keys()
FUNCTIONS = {name: FunctionSpec(name=name) for name in ("tasks:hopeless", "tasks:add")}
POLICY = Policy(worker="w1", apps=("tasks",), functions=FUNCTIONS)
WITH_KEY = msgspec.structs.replace(POLICY, ring=KEYS.ring, vhost=PLACE.vhost)
ALL = corpus(PLACE, KEYS)
FOR_THE_CHILD = {"malformed", "not_allowed", "succeeded"}
"""What the parent lets through, since arguments and variables are read where they can hurt nobody else."""


@dataclasses.dataclass
class Received:
    """The facts of a delivery that admission reads."""

    body: bytes
    message_id: str | None
    content_encoding: str | None
    headers: dict[Any, Any]
    priority: int | None = None
    redelivered: bool = False
    delivery_count: int | None = None
    queue: str = PLACE.queue


def received(message: Hostile) -> Received:
    """As the connection gives it: decoded by pika, or marked where pika cannot."""
    encoded = b"".join(message.properties.encode())
    try:
        properties = pika.BasicProperties().decode(encoded)
    except (pika.exceptions.AMQPError, ArithmeticError, OSError, RecursionError, ValueError):
        properties = pika.BasicProperties(content_encoding=UNREADABLE)
    return Received(message.body, properties.message_id, properties.content_encoding, properties.headers or {})


def comes_of(message: Hostile, policy: Policy) -> str:
    """`runs`, `parked`, or the reason of its death."""
    it = received(message)
    got = reading.read(it, policy)
    if isinstance(got, Unreadable):
        return got.error.reason
    verdict = admission.admit(got, it, policy, time.time())
    assert verdict is None or isinstance(verdict, Dead | Park), verdict
    return "parked" if isinstance(verdict, Park) else verdict.error.reason if verdict else "runs"


@pytest.mark.parametrize("message", [one for one in ALL if not one.is_signed], ids=lambda one: one.name)
def test_what_is_hostile_is_refused_for_its_reason(message: Hostile) -> None:
    before = set(sys.modules)
    came = comes_of(message, POLICY)
    assert came == message.expect or (came == "runs" and message.expect in FOR_THE_CHILD)
    # with a key nothing of it is read
    assert comes_of(message, WITH_KEY) == ("too_large" if message.expect == "too_large" else "unsigned")
    # whoever has the key gets no further
    if message.message_id and received(message).content_encoding != UNREADABLE:
        with_key = comes_of(signed(message, PLACE, KEYS), WITH_KEY)
        assert with_key in (came, "bad_signature")
    assert set(sys.modules) <= before


@pytest.mark.parametrize("message", [one for one in ALL if one.is_signed], ids=lambda one: one.name)
def test_what_was_not_signed_so_is_refused_unread(message: Hostile) -> None:
    assert comes_of(message, WITH_KEY) == message.expect
