"""What `doctor` makes of facts, without a broker."""

import asyncio
import os
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from jobrunner import __version__
from jobrunner.broker.control import Reply
from jobrunner.brokerurl import parse_url
from jobrunner.doctor import machine, releases, rights, told, workers
from jobrunner.doctor.management import Api
from jobrunner.errors import BadValue
from jobrunner.keyring import KeyRing, new_lines, parse


@pytest.mark.parametrize(
    ("version", "is_loopback", "level"),
    [
        ("3.10.8", True, "ok"),
        ("3.10.8", False, "warning"),  # no security updates
        ("3.9.29", True, "error"),
        ("3.12.14", False, "ok"),
        ("3.13.2", True, "error"),
        ("3.13.3", True, "ok"),
        ("4.0.5", False, "ok"),
        ("4.1.4", True, "error"),
        ("4.1.5", True, "ok"),
        ("4.2.6", True, "error"),
        ("4.2.7", True, "ok"),
        ("4.3.2", True, "error"),
        ("4.3.3", True, "ok"),
        ("4.3.0-rc.1", True, "error"),
        ("4.10.0", True, "ok"),
        ("main", True, "unknown"),
    ],
)
def test_releases_that_are_known_to_be_bad_are_named(version: str, is_loopback: bool, level: str) -> None:
    found = releases.release({"product": "RabbitMQ", "version": version}, is_loopback=is_loopback)
    assert found.level == level
    assert version in found.text
    assert (found.fix is None) == (level not in ("error", "warning"))


def test_another_product_is_not_taken_for_rabbitmq() -> None:
    found = releases.release({"product": "LavinMQ", "version": "2.0.0"}, is_loopback=True)
    assert (found.level, "LavinMQ 2.0.0 is not RabbitMQ" in found.text) == ("warning", True)


# --- this machine ---------------------------------------------------------------------------------------------------


def test_the_package_is_this_program() -> None:
    found = machine.package()
    assert (found.level, __version__ in found.text) == ("ok", True)


def test_another_distribution_of_that_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"jobrunner": ["jobrunner", "jobrunner-mq"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: both)
    found = machine.package()
    assert found.level == "error"
    assert "another distribution, 'jobrunner'," in found.text
    assert "pip uninstall jobrunner " in (found.fix or "")


@pytest.mark.parametrize("shadow", ["jobrunner.py", "jobrunner/__init__.py"])
def test_a_module_here_that_hides_the_package_is_told(
    shadow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(shadow).parent.mkdir(exist_ok=True)
    Path(shadow).touch()
    found = machine.package()
    assert (found.level, shadow in found.text) == ("warning", True)


@pytest.mark.parametrize(
    ("ends", "level", "text"),
    [
        ([""], "ok", "1 key in force of 1 from FILE; k0 signs"),
        (["", " until=2027-03-01", " revoked"], "ok", "2 keys in force of 3 from FILE; k0 signs"),
        ([" until=2026-12-01", ""], "warning", "2 keys in force of 2 from FILE; k0 signs, k0 only until"),
        ([" revoked", " until=2020-01-01"], "error", "none of the keys from FILE is in force"),
    ],
)
def test_keys_in_force_and_those_that_end_soon_are_told(ends: list[str], level: str, text: str) -> None:
    lines = [new_lines(f"k{number}", None, None, is_pair=False)[0] + end for number, end in enumerate(ends)]
    now = datetime(2026, 11, 29, tzinfo=UTC).timestamp()
    (found,) = machine.keys(KeyRing(parse("\n".join(lines), "FILE"), "FILE"), now)
    assert (found.level, found.text[: len(text)]) == (level, text)
    assert machine.keys(None, now) == []


def test_a_key_that_only_verifies_signs_nothing() -> None:
    public = new_lines("billing", "producer", None, is_pair=True)[1]
    (found,) = machine.keys(KeyRing(parse(str(public), "FILE"), "FILE"), time.time())
    assert found.text == "1 key in force of 1 from FILE; none of them signs"


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBRUNNER_STATE_DIR", str(tmp_path / "state"))
    assert machine.state().level == "ok"
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = machine.state()
    assert (found.level, "cannot be written" in found.text) == ("error", True)


# --- rights ---------------------------------------------------------------------------------------------------------


def _rights(**changed: Any) -> rights.Rights:
    none: dict[str, Any] = {"create": False, "own_queue": False, "write": frozenset(), "read": frozenset()}
    return rights.Rights(**(none | changed))


def test_a_user_without_rights_gets_the_command_that_gives_them() -> None:
    found = rights.check(_rights(), user="app", vhost="jobs")
    assert (found.level, found.text) == ("error", "app may do nothing in virtual host 'jobs'")
    assert (found.fix or "").startswith("rabbitmqctl set_permissions -p jobs app")


def test_what_a_user_may_and_may_not_do_is_said() -> None:
    found = rights.check(_rights(read=frozenset({"jobrunner.v1.ledger"})), user="jr_viewer", vhost="jobs")
    text = "jr_viewer may look; not create, enqueue, run jobs, retry and cancel"
    assert (found.level, found.text) == ("ok", text)


# --- what the management API tells ----------------------------------------------------------------------------------

URL = parse_url("amqp://app:secret@rabbit.prod/jobs")


def _told(*queues: dict[str, Any], nodes: tuple[dict[str, Any], ...] = (), offset_s: float | None = None) -> told.Told:
    api = Api(URL, None)
    api.offset_s = offset_s
    made = told.Told(api, is_private=False)
    made._queues, made._nodes = list(queues), list(nodes)
    made._jobs_queues = {"task_queue", "video"}
    return made


def _queue(name: str = "task_queue", **policy: Any) -> dict[str, Any]:
    names = {key.replace("_", "-"): value for key, value in policy.items()}
    return {"name": name, "type": "quorum", "policy": "p", "arguments": {}, "effective_policy_definition": names}


DLX = "jobrunner.v1.dlx"


@pytest.mark.parametrize(
    ("queue", "level"),
    [
        (_queue(dead_letter_exchange=DLX), "ok"),
        (_queue(), "warning"),  # what reaches the delivery limit would vanish
        (_queue(dead_letter_exchange=DLX, message_ttl=5), "error"),
        (_queue(dead_letter_exchange=DLX, expires=5), "error"),
        (_queue(dead_letter_exchange=DLX, max_length=5), "error"),
        (_queue(dead_letter_exchange=DLX, max_length=5, overflow="drop-head"), "error"),
        (_queue(dead_letter_exchange=DLX, max_length=5, overflow="reject-publish"), "ok"),
        (_queue("jobrunner.v1.dead", max_length=5, overflow="reject-publish"), "error"),
        (_queue("jobrunner.v1.delay.03", overflow="drop-head"), "error"),
        (_queue("jobrunner.v1.delay.03"), "ok"),
        (_queue("of_others", message_ttl=5), "ok"),
        ({**_queue("jobrunner.v1.ledger", max_length_bytes=5), "type": "stream"}, "ok"),
        ({"name": "task_queue", "type": "quorum", "arguments": {}}, "unknown"),  # created a moment ago
    ],
)
def test_policies_under_which_messages_vanish_are_errors(queue: dict[str, Any], level: str) -> None:
    found = _told(queue).policies()
    assert found.level == level, found.text
    if level in ("warning", "error"):
        assert queue["name"] in found.text


@pytest.mark.parametrize(
    ("policies", "level", "text"),
    [
        ([{"consumer_timeout": 86_400_000}], "ok", "jobs may run 24h before the broker takes them back"),
        ([{"consumer_timeout": 60_000}], "warning", "jobs may run 1m before the broker takes them back"),
        ([{}], "unknown", "jobs over 30 min may be taken back"),
        ([], "unknown", "jobs over 30 min may be taken back"),
        ([{"consumer_timeout": 86_400_000}, {}], "unknown", "jobs over 30 min may be taken back"),
    ],
)
def test_how_long_jobs_may_run_is_told_or_unknown(policies: list[dict[str, Any]], level: str, text: str) -> None:
    queues = [_queue(name, **policy) for name, policy in zip(("task_queue", "video"), policies, strict=False)]
    found = _told(*queues).timeouts()
    assert (found.level, text in found.text) == (level, True), found.text


GB = 10**9


@pytest.mark.parametrize(
    ("node", "level"),
    [
        ({"disk_free": 50 * GB, "disk_free_limit": 2 * GB}, "ok"),
        ({"disk_free": 3 * GB, "disk_free_limit": 2 * GB}, "warning"),
        ({"disk_free": 50 * GB, "disk_free_limit": 50_000_000}, "warning"),
        ({"disk_free": 50 * GB, "disk_free_limit": 2 * GB, "mem_alarm": True}, "error"),
        ({"disk_free": GB, "disk_free_limit": 2 * GB, "disk_free_alarm": True}, "error"),
    ],
)
def test_the_room_on_the_brokers_disk_is_told(node: dict[str, Any], level: str) -> None:
    (found,) = _told(nodes=({"name": "rabbit@a", **node},)).disk()
    assert (found.level, "rabbit@a" in found.text) == (level, True)


@pytest.mark.parametrize(("offset_s", "level"), [(0.4, "ok"), (-1.5, "ok"), (5.0, "warning"), (-90.0, "warning")])
def test_a_clock_that_is_off_is_told(offset_s: float, level: str) -> None:
    found = _told(offset_s=offset_s).clock()
    assert found is not None
    assert found.level == level
    if level == "warning":
        assert ("ahead" if offset_s > 0 else "behind") in found.text
    assert _told().clock() is None


@pytest.mark.parametrize(
    "address", ["", "ftp://host", "host:15672", "http://", "http://[::1", "http://h:99999", "amqp://a:canary@h"]
)
def test_what_is_no_url_of_a_management_api_is_refused(address: str) -> None:
    if address:
        with pytest.raises(BadValue) as caught:
            Api(URL, address)
        assert "canary" not in caught.value.message
    else:
        assert Api(URL, None).address == "rabbit.prod:15672"


def test_the_management_api_of_a_tls_broker_is_asked_by_tls() -> None:
    assert Api(parse_url("amqps://app:secret@rabbit.prod/jobs"), None).address == "rabbit.prod:15671"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n{}", "refuses 'app'"),
        (b"HTTP/1.1 200 OK\r\n\r\nnot json", "no management API"),
        (b"\x15\x03\x01", "no management API"),
        (b"", "no management API"),
    ],
)
def test_whatever_else_answers_there_is_no_error_of_ours(answer: bytes, why: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def ask() -> told.Told:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            made = told.Told(Api(URL, f"http://127.0.0.1:{port}"), is_private=False)
            check = await made.ask()
            assert check.level == "unknown"
            return made

    found = asyncio.run(ask())
    assert why in (found.why_not or "")
    assert found.policies().level == "unknown"


# --- workers --------------------------------------------------------------------------------------------------------


def _reply(at: float) -> Reply:
    return Reply(worker="web", host="h", pid=1, version="0", slots=1, busy=0, queues=[], started_at=0.0, at=at)


def test_a_workers_clock_is_off_only_by_what_the_way_cannot_explain() -> None:
    began = time.time() - 1.0
    assert workers._clocks([_reply(time.time() - 0.5), _reply(0.0)], began) == []
    (ahead,) = workers._clocks([_reply(time.time() + 30)], began)
    (behind,) = workers._clocks([_reply(began - 30)], began)
    assert "web's clock is 30" in ahead.text.replace("29.9", "30")
    assert ("ahead of" in ahead.text, "behind" in behind.text) == (True, True)
