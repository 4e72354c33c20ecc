import msgspec
import pytest

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.message import MAX_HEADER_BYTES, Message, event_message, job_message, properties_of
from jobrunner.envelope import Envelope, new_job, seal, state_of


def a_job(**fields: object) -> Envelope:
    return seal(new_job(queue="task_queue", job_id="0123456789abcdef", task="tasks:add", **fields), priority=7)


def test_a_job_is_persistent_and_has_a_priority_and_only_its_own_headers() -> None:
    envelope = a_job().with_state(attempt=2)
    properties = properties_of(job_message(envelope, "", "task_queue"))
    assert (properties.delivery_mode, properties.priority, properties.message_id) == (2, 7, "0123456789abcdef")
    assert (properties.type, properties.content_type) == ("jobrunner.job", "application/json")
    assert properties.headers == {"jr-attempt": 2, "jr-copy": 1}
    assert properties.timestamp is not None
    unset = ("content_encoding", "correlation_id", "reply_to", "expiration", "user_id", "app_id", "cluster_id")
    assert [getattr(properties, name) for name in unset] == [None] * len(unset)


def test_headers_do_not_grow_with_retries() -> None:
    envelope = a_job()
    sizes = set()
    for attempt in range(1, 51):
        envelope = envelope.with_state(attempt=attempt)
        properties = properties_of(job_message(envelope, *topology.route(1.0, "task_queue")))
        sizes.add(sum(len(piece) for piece in properties.encode()))
        envelope = msgspec.structs.replace(envelope, state=state_of(properties.headers))
    assert len(sizes) == 1


def test_headers_over_the_limit_are_not_sent() -> None:
    fits = job_message(a_job(), topology.DLX, "error", {"jr-error": "x" * (MAX_HEADER_BYTES - 100)})
    assert properties_of(fits).headers == fits.headers
    with pytest.raises(ValueError, match="its headers have"):
        properties_of(job_message(a_job(), topology.DLX, "error", {"jr-error": "é" * (MAX_HEADER_BYTES // 2)}))


@pytest.mark.parametrize(
    ("event", "key", "message_id"),
    [
        (events.Genesis(at=1.0, id="g"), "genesis.-.-", "g.0.genesis"),
        (
            events.Queued(at=1.0, jobs=[events.QueuedJob(job=msgspec.Raw(a_job().body))]),
            "queued.-.0123456789abcdef",
            "0123456789abcdef.0.queued",
        ),
        (
            events.Queued(at=1.0, run="r.1", jobs=[events.QueuedJob(job=msgspec.Raw(a_job().body))] * 2),
            "queued.r%2E1.-",
            "0123456789abcdef.0.queued",
        ),
        (events.Expired(at=1.0, id="x", copy=3, expires_at=1.0), "expired.-.x", "x.3.expired"),
    ],
)
def test_an_event_is_keyed_by_kind_run_and_id(event: events.Event, key: str, message_id: str) -> None:
    message = event_message(event)
    assert (message.exchange, message.key, message.message_id) == (topology.EVENTS, key, message_id)
    assert events.decode(message.body) == event


def test_what_is_no_json_of_ours_does_not_claim_to_be() -> None:
    assert properties_of(Message(topology.DLX, "malformed", b"\xff", "x", "jobrunner.unreadable")).content_type is None
    assert properties_of(Message(topology.CONTROL, "all", b"{}", "x", "t", persistent=False)).delivery_mode == 1
