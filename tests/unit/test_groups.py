"""Several events in one message: what goes in comes out, and nobody smuggles in what its routing key does not say."""

import json

import msgspec
import pytest

from jobrunner import attempts, events
from jobrunner.broker import topology
from jobrunner.broker.groups import MOST_BYTES, MOST_EVENTS, group, parts
from jobrunner.broker.message import Message, Refused, Stored, Unknown, event_message, properties_of
from jobrunner.broker.publisher import Answer, OnAnswer
from jobrunner.ids import new_id
from jobrunner.outcome import Error
from jobrunner.worker.gathering import Gathering, Key
from tests.broker.lab import in_loop
from tests.support.eventually import eventually_async

RAN = attempts.Run(worker="w", host="h", pid=1, started_at=1.0, ended_at=2.0)


def success(run: str | None = None, result: bytes = b"5") -> Message:
    return event_message(events.Succeeded(at=2.0, id=new_id(), run=run, result=msgspec.Raw(result), ran=RAN))


def dead() -> Message:
    error = Error(reason="error", message="x")
    return event_message(events.Dead(at=2.0, id=new_id(), error=error, queue="q"))


def test_one_alone_stays_as_it_is() -> None:
    one = success()
    assert group([one]) is one
    assert parts(one.key, one.body) == [(one.key, one.body)]


@pytest.mark.parametrize("run", [None, "nightly", "a.b ä", "x" * 300])
def test_what_goes_into_a_group_comes_out_of_it(run: str | None) -> None:
    told = [success(run), success(), success(run, b'["]","}"]')]
    made = group(told)
    assert (made.exchange, made.key, made.also) == (topology.EVENTS, told[0].key, (told[1].key, told[2].key))
    assert made.message_id not in {one.message_id for one in told}
    assert [one["id"] for one in json.loads(made.body)] == [json.loads(one.body)["id"] for one in told]
    assert parts(made.key, made.body) == [(one.key, one.body) for one in told]


def test_a_group_has_the_routing_keys_of_all_as_rabbitmq_wants_them() -> None:
    told = [success() for _ in range(3)]
    properties = properties_of(group(told))
    assert properties.headers == {"CC": [told[1].key, told[2].key]}
    assert (properties.type, properties.content_type, properties.delivery_mode) == (
        "jobrunner.events",
        "application/json",
        2,
    )


def test_the_largest_group_of_the_longest_keys_can_be_sent() -> None:
    told = [success("x" * topology.MAX_RUN_BYTES) for _ in range(MOST_EVENTS)]
    assert properties_of(group(told)).headers


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[]",
        b"[1]",
        b"[[]]",
        b'[{"kind":"succeeded"}]',
        b'[{"id":"x"}]',
        b"[" * 100_000,
        b"[%b]" % b",".join([success().body] * (MOST_EVENTS + 1)),
        b"[%b,%b]" % (success().body, dead().body),
        b"[%b]" % dead().body,
        b"\xff[",
    ],
)
def test_what_is_no_group_stays_whole_and_is_no_event(body: bytes) -> None:
    assert parts("succeeded.-.x", body) == [("succeeded.-.x", body)]
    with pytest.raises((ValueError, RecursionError)):
        events.decode(body)


class Wire:
    """Stands where the publisher is."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.open: list[OnAnswer] = []
        self.answers: list[tuple[Key, Answer]] = []
        self.down = False
        self.gathering = Gathering(self.publish, lambda key, answer: self.answers.append((key, answer)))

    def publish(self, message: Message, on_answer: OnAnswer) -> None:
        if self.down:
            on_answer(Unknown("not connected"))
            return
        self.sent.append(message)
        self.open.append(on_answer)

    def add(self, *numbers: int, result: bytes = b"5") -> None:
        for number in numbers:
            self.gathering.add((f"job {number}", 0), success(result=result))

    def answer(self, answer: Answer) -> None:
        self.open.pop(0)(answer)

    def sizes(self) -> list[int]:
        return [len(parts(message.key, message.body)) for message in self.sent]


@in_loop
async def test_the_first_leaves_at_once_and_what_comes_before_its_answer_leaves_together_after_it() -> None:
    wire = Wire()
    wire.add(1)
    assert wire.sizes() == [1]
    wire.add(2, 3, 4)
    assert wire.sizes() == [1]
    wire.answer(Stored())
    assert (wire.sizes(), wire.answers) == ([1, 3], [(("job 1", 0), Stored())])
    wire.add(5)
    wire.answer(Refused("full"))
    assert wire.answers[1:] == [((f"job {number}", 0), Refused("full")) for number in (2, 3, 4)]
    assert wire.sizes() == [1, 3, 1]
    wire.answer(Stored())
    wire.add(6)
    assert wire.sizes() == [1, 3, 1, 1]


@in_loop
async def test_no_event_waits_long_for_an_answer_that_does_not_come() -> None:
    wire = Wire()
    wire.add(1, 2, 3)

    async def all_left() -> None:
        assert wire.sizes() == [1, 2]

    await eventually_async(all_left)
    wire.add(4)
    wire.answer(Stored())  # another one is on its way still: it does not wait for that one either
    assert wire.sizes() == [1, 2, 1]
    wire.answer(Stored())
    wire.answer(Stored())
    assert [key for key, _ in wire.answers] == [(f"job {number}", 0) for number in (1, 2, 3, 4)]


@in_loop
async def test_a_group_is_bounded_in_number_and_size() -> None:
    wire = Wire()
    wire.add(*range(MOST_EVENTS + 1))
    assert wire.sizes() == [1, MOST_EVENTS]
    wire = Wire()
    wire.add(*range(25), result=b'"%b"' % (b"x" * 7000))
    assert max(len(message.body) for message in wire.sent) < MOST_BYTES + 100
    while wire.open:
        wire.answer(Stored())
    assert sum(wire.sizes()) == len(wire.answers) == 25


@in_loop
async def test_without_a_connection_each_is_answered_once_and_later_ones_go_on() -> None:
    wire = Wire()
    wire.add(1)
    wire.add(2, 3)
    wire.down = True
    wire.answer(Unknown("connection lost"))
    wire.add(4)
    assert [key for key, _ in wire.answers] == [(f"job {number}", 0) for number in (1, 2, 3, 4)]
    wire.down = False
    wire.add(5)
    assert wire.sizes() == [1, 1]
