"""The rights of the broker's users as expressions: anchored, for encoded names, and the same in both forms."""

import re
import subprocess

import pytest

from jobrunner import events
from jobrunner.broker import topology, users

QUEUES = ["task_queue", "e.mails", "a|b"]


def _role(name: str) -> users.Role:
    return next(role for role in users.roles(QUEUES) if role.name == name)


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_of_any_name_can_be_read_and_published_to(queue: str) -> None:
    worker = _role("worker")
    assert re.search(users.anchored(worker.read), queue)
    topics = {exchange: write for exchange, write, _ in worker.topics}
    for delay_s in (0.0, 0.1, 1.6, 86_400.0, topology.MAX_DELAY_S):
        exchange, key = topology.route(delay_s, queue)
        assert re.search(users.anchored(worker.write), exchange)
        assert re.search(users.anchored(topics[exchange]), key), key


@pytest.mark.parametrize("name", ["e_mails", "eXmails", "a", "b", "task_queue2", "evil_task_queue", "xtask_queue|x"])
def test_a_name_that_looks_alike_cannot(name: str) -> None:
    for role in users.roles(QUEUES):
        for expression in (role.configure, role.write, role.read):
            assert not re.search(users.anchored(expression) or "^$", name)
        for exchange, write, _ in role.topics:
            assert exchange in (topology.EVENTS, topology.CONTROL) or not re.search(users.anchored(write), name)


def test_every_kind_of_event_is_written_by_somebody() -> None:
    written = {*users.PRODUCERS_KINDS, *users.OPERATORS_KINDS, *users.workers_kinds(), "genesis"}
    # a pause travels under the word of cancels: who may cancel may pause
    assert written | {"pause"} == {*events.KINDS, "probe"}
    assert not {"queued", "cancel", "pause", "genesis"} & set(users.workers_kinds())


def test_every_user_of_the_commands_is_in_the_definitions_with_the_same_rights() -> None:
    lines = list(users.commands(QUEUES, vhost="jobs"))
    document = users.definitions(QUEUES, vhost="jobs")
    for row in document["permissions"]:
        assert f"p {row['user']} '{row['configure']}' '{row['write']}' '{row['read']}'" in lines
    for row in document["topic_permissions"]:
        if not row["exchange"].startswith(topology.level(0)[:-2]):
            assert f"t {row['user']} {row['exchange']} '{row['write']}' '{row['read']}'" in lines
    levels = [
        row for row in document["topic_permissions"] if row["user"] == "jr_worker" and ".delay." in row["exchange"]
    ]
    assert len(levels) == topology.LEVELS


def test_only_setup_creates_what_is_ours_and_only_monitor_has_a_tag() -> None:
    creators = [
        role.name for role in users.roles(QUEUES) if re.search(users.anchored(role.configure) or "^$", topology.DEAD)
    ]
    assert creators == ["setup"]
    assert {role.name: role.tags for role in users.roles(QUEUES) if role.tags} == {"monitor": ("monitoring",)}


def test_a_shell_makes_of_the_commands_what_is_in_the_definitions() -> None:
    """With a stand-in for rabbitmqctl that writes down its words."""
    stand_in = "rabbitmqctl() { printf '%s\\t' \"$@\"; echo; }"
    script = "\n".join([stand_in, *users.commands(QUEUES, vhost="jobs")])
    done = subprocess.run(["/bin/sh", "-eu", "-c", script], capture_output=True, text=True, check=True)
    typed = {tuple(line.split("\t")[:-1]) for line in done.stdout.splitlines()}
    document = users.definitions(QUEUES, vhost="jobs")
    for user in document["users"]:
        assert ("add_user", user["name"]) in typed
    permissions = [words[3:] for words in typed if words[0] == "set_permissions"]
    assert sorted(permissions) == sorted(
        (row["user"], row["configure"], row["write"], row["read"]) for row in document["permissions"]
    )
    topics = [words[3:] for words in typed if words[0] == "set_topic_permissions"]
    assert sorted(topics) == sorted(
        (row["user"], row["exchange"], row["write"], row["read"]) for row in document["topic_permissions"]
    )
