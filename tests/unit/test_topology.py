import json
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.broker import topology
from jobrunner.broker.definitions import definitions
from jobrunner.broker.topology import Binding, Exchange, Queue
from jobrunner.errors import BadValue, QueueNameTooLong

NAMES = ["b", "a.b", "0", "1", "weird*#q", "task_queue", "#", "*", "Zürich"]


def matches(pattern: list[str], words: list[str]) -> bool:
    """RabbitMQ's topic match: `*` is one word, `#` any number. Source: RabbitMQ docs "Topic exchanges"."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(matches(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


@dataclass
class Walk:
    """What happens to a message that enters the ladder, by the declarations alone."""

    ttl_ms: int = 0
    hops: int = 0
    targets: list[str] = field(default_factory=list)


def by_source() -> dict[str, list[Binding]]:
    bindings: dict[str, list[Binding]] = {}
    for each in topology.everything(NAMES):
        if isinstance(each, Binding):
            bindings.setdefault(each.source, []).append(each)
    return bindings


BINDINGS = by_source()
QUEUES = {each.name: each for each in topology.everything(NAMES) if isinstance(each, Queue)}


def walk(exchange: str, key: str) -> Walk:
    result = Walk()
    words = key.split(".")
    while exchange != topology.JOBS:
        found = [each for each in BINDINGS[exchange] if matches(each.key.split("."), words)]
        assert len(found) == 1, f"{key} at {exchange} goes to {found}"
        if found[0].to_exchange:
            exchange = found[0].destination
            continue
        arguments = QUEUES[found[0].destination].arguments
        result.ttl_ms += arguments["x-message-ttl"]
        result.hops += 1
        exchange = arguments["x-dead-letter-exchange"]
    result.targets = [each.destination for each in BINDINGS[exchange] if matches(each.key.split("."), words)]
    return result


@given(st.integers(1, topology.MAX_UNITS), st.sampled_from(NAMES))
def test_any_delay_reaches_its_queue_alone_after_exactly_its_time(units: int, queue: str) -> None:
    result = walk(*topology.route(units / 10, queue))
    assert result.targets == [queue]
    assert result.ttl_ms == units * 100
    assert result.hops == units.bit_count()


@pytest.mark.parametrize("queue", NAMES)
def test_without_delay_a_job_goes_straight_to_its_queue(queue: str) -> None:
    assert walk(*topology.route(0.0, queue)).targets == [queue]
    assert walk(*topology.route(-5.0, queue)).hops == 0


@given(st.floats(0.0001, topology.MAX_DELAY_S))
def test_a_delay_is_rounded_up_to_a_tenth_of_a_second(delay_s: float) -> None:
    ttl_s = walk(*topology.route(delay_s, "b")).ttl_ms / 1000
    assert -1e-6 <= ttl_s - delay_s < 0.1011  # whole milliseconds first


@pytest.mark.parametrize(("delay_s", "ttl_ms"), [(0.3, 300), (1.1, 1100), (1.7, 1700), (0.1004, 200), (12.7, 12700)])
def test_decimal_delays_are_exact(delay_s: float, ttl_ms: int) -> None:
    assert walk(*topology.route(delay_s, "b")).ttl_ms == ttl_ms


@pytest.mark.parametrize("delay_s", [topology.MAX_DELAY_S + 1, 1e12, float("inf")])
def test_longer_than_the_ladder_is_the_ladders_longest(delay_s: float) -> None:
    exchange, key = topology.route(delay_s, "b")
    assert exchange == topology.level(27)
    assert key == "1." * 28 + "b"


@given(st.floats(0, 3e7))
def test_coarse_delays_cost_three_hops_and_lose_less_than_a_quarter(delay_s: float) -> None:
    coarse = topology.coarse(delay_s)
    result = walk(*topology.route(coarse, "b"))
    assert result.hops <= 3
    assert coarse >= 0.1
    assert max(delay_s, 0.1) * 0.75 <= coarse <= max(delay_s, 0.1) + 0.1011


def test_counts_are_those_of_the_documents() -> None:
    declared = topology.everything([topology.DEFAULT_QUEUE])
    assert sum(isinstance(each, Exchange) for each in declared) == 34
    assert sum(isinstance(each, Queue) for each in declared) == 34
    assert sum(isinstance(each, Binding) for each in declared) == 440


def test_nothing_is_declared_before_what_it_refers_to() -> None:
    seen: set[str] = set()
    for each in topology.everything(["a.b"]):
        match each:
            case Binding(source=source, destination=destination):
                # a level is bound to the queues of lower levels, which come first
                assert {source, destination} <= seen
            case Exchange(name=name, arguments=arguments):
                assert set(arguments.values()) <= seen
                seen.add(name)
            case Queue(name=name, arguments=arguments):
                assert {arguments.get("x-dead-letter-exchange", topology.UNROUTED)} <= seen
                seen.add(name)


def test_every_level_is_at_least_once_and_has_somewhere_to_put_what_it_cannot_route() -> None:
    levels = {topology.level(n) for n in range(28)}
    for each in topology.ladder():
        if isinstance(each, Queue):
            assert each.name in levels
            assert each.arguments["x-queue-type"] == "quorum"
            assert each.arguments["x-dead-letter-strategy"] == "at-least-once"
            assert each.arguments["x-overflow"] == "reject-publish"
        if isinstance(each, Exchange):
            assert each.arguments == {"alternate-exchange": topology.UNROUTED}


@given(st.text(max_size=50), st.text(max_size=50))
def test_encoded_names_are_one_word_and_never_collide(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_%-]*", topology.encode_word(one))
    assert (topology.encode_word(one) == topology.encode_word(other)) == (one == other)


def test_the_longest_queue_name_still_fits_into_a_key() -> None:
    longest = "x" * topology.MAX_QUEUE_BYTES
    topology.check_queue_name(longest)
    assert len(topology.route(1e12, longest)[1]) == topology.MAX_KEY_BYTES
    with pytest.raises(QueueNameTooLong) as caught:
        topology.check_queue_name(longest + "x")
    assert caught.value.message.endswith("has 200 bytes once encoded; the limit is 199.")


@pytest.mark.parametrize("name", ["", "amq.gen-x", "jobrunner.v1.dead"])
def test_names_of_others_are_refused(name: str) -> None:
    with pytest.raises(BadValue):
        topology.check_queue_name(name)


def test_event_keys_have_three_words_and_always_fit() -> None:
    assert topology.event_key("succeeded", None, "abc") == "succeeded.-.abc"
    assert topology.event_key("dead", "nightly.2", "abc") == "dead.nightly%2E2.abc"
    assert topology.event_key("interrupted", "€" * 300, "a" * 16) == f"interrupted.-.{'a' * 16}"


@pytest.mark.parametrize(
    ("version", "has_timeout"), [("3.10.8", False), ("3.12.0", True), ("4.0.5", True), ("", False)]
)
def test_definitions_hold_the_same_as_the_declarations(version: str, *, has_timeout: bool) -> None:
    made = definitions(["task_queue"], vhost="v", broker_version=version)
    assert [len(made[key]) for key in ("vhosts", "exchanges", "queues", "bindings")] == [1, 34, 34, 440]
    assert json.loads(json.dumps(made)) == made
    names = [queue["name"] for queue in made["queues"]]
    for policy in made["policies"]:
        assert [name for name in names if re.search(policy["pattern"], name)] == ["task_queue"]
        assert ("consumer-timeout" in policy["definition"]) == has_timeout
