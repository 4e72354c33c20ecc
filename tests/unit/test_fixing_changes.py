"""What `retry --set` makes of a job, and the envelope that goes out again."""

import time

import msgspec
import pytest

from jobrunner.envelope import State, decode, new_job, seal
from jobrunner.errors import JobrunnerError
from jobrunner.fixing.changes import COPY_STEP, Changes, again, from_ledger, parse_changes
from jobrunner.view.rows import JobRow


def test_without_changes_the_body_is_byte_for_byte_the_same() -> None:
    was = seal(new_job(queue="a", task="tasks:add"), priority=7)
    was = msgspec.structs.replace(was, state=State(attempt=3, copy=5, chain=1, crashes=2, parked_since_ms=9))
    now = again(was, Changes())
    assert now.body == was.body
    assert (now.state, now.priority) == (State(copy=6, chain=2), 7)


def test_fields_that_this_version_does_not_know_survive_a_change() -> None:
    job = new_job(queue="a", task="tasks:add", args=msgspec.Raw(b"[1.0,2]"))
    body = msgspec.json.encode({**msgspec.json.decode(msgspec.json.encode(job)), "later": {"x": [1]}})
    was = msgspec.structs.replace(seal(job), body=body)
    now = again(was, parse_changes(["queue=b"]))
    assert msgspec.json.decode(now.body)["later"] == {"x": [1]}
    assert (now.job.queue, bytes(now.job.args), now.job.id) == ("b", b"[1.0,2]", job.id)


def test_a_time_to_expire_that_has_passed_is_dropped_and_one_to_come_stays() -> None:
    for expires_at, kept in ((time.time() - 1, None), (9e9, 9e9)):
        was = seal(new_job(queue="a", task="tasks:add", expires_at=expires_at))
        now = again(was, Changes())
        assert decode(now.body, was.job.id).expires_at == kept


def test_a_delay_is_a_time_before_which_it_does_not_start() -> None:
    now = again(seal(new_job(queue="a", task="tasks:add")), Changes(), delay_s=60)
    assert abs(now.state.not_before_ms / 1000 - time.time() - 60) < 5


@pytest.mark.parametrize(
    ("word", "fields", "priority"),
    [
        ("retries=0", {"max_attempts": 1}, None),
        ("retries=", {"max_attempts": None}, None),
        ("timeout=5m", {"timeout_s": 300.0}, None),
        ("timeout=", {"timeout_s": None}, None),
        ("backoff=1s..5s", {"backoff_s": 1.0, "backoff_max_s": 5.0}, None),
        ("priority=low", {}, 1),
        ("priority=9", {}, 9),
    ],
)
def test_each_key_is_read(word: str, fields: dict[str, object], priority: int | None) -> None:
    assert parse_changes([word]) == Changes(fields=fields, priority=priority)


@pytest.mark.parametrize(
    "word", ["speed=9", "queue", "queue=", "retries=-1", "retries=x", "timeout=0", "timeout=soon", "priority=11"]
)
def test_what_cannot_be_set_is_refused(word: str) -> None:
    with pytest.raises(JobrunnerError):
        parse_changes([word])


def test_a_key_that_is_unknown_is_named() -> None:
    with pytest.raises(JobrunnerError, match="--set does not know 'foo'"):
        parse_changes(["foo=1"])
    with pytest.raises(JobrunnerError, match="--set queue: it takes KEY=VALUE"):
        parse_changes(["queue"])


def test_from_the_ledger_a_job_has_the_newest_chain_and_copy() -> None:
    was = seal(new_job(queue="a", task="tasks:add"))
    row = JobRow(id=was.job.id, state="cancelled", state_at=1.0, chain=2, copy=7, priority=9, body=was.body)
    found = from_ledger(row)
    assert not isinstance(found, JobrunnerError)
    now = again(found, Changes(), copy_step=COPY_STEP)
    assert (now.state.chain, now.state.copy, now.priority) == (3, 7 + COPY_STEP, 9)


def test_what_the_ledger_does_not_have_cannot_be_queued() -> None:
    for body in (None, b"not a job"):
        row = JobRow(id="0" * 16, state="dead", state_at=1.0, body=body)
        assert isinstance(from_ledger(row), JobrunnerError)
