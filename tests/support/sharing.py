"""How a parallel run shares out its tests: what one process runs, and which process runs it.

A broker takes five seconds of CPU to start, and each process starts its own ones. So the tests of a file stay together,
with what they share, and those on RabbitMQ 4 go to half of the processes while there is other work. What xdist has for
that, `loadgroup`, shares out one by one with pytest 9.2 (pytest-xdist issue 1386).
"""

import re
from pathlib import PurePath
from typing import Any

from xdist.scheduler import LoadScopeScheduling

SLOW = {
    "test_broker_command": 200,
    "test_sessions": 180,
    "test_looking_live": 170,
    "test_view_recorder": 160,
    "test_looking": 150,
    "test_promises": 130,
    "test_declaring": 130,
    "test_demo": 120,
    "test_enqueue": 100,
    "test_map": 90,
    "test_bench": 90,
    "test_waiting": 80,
    "test_compose": 80,
    "test_fixing_audit": 80,
    "test_matrix": 80,
    "test_ten_thousand": 70,
    "test_doctor": 70,
    "test_users": 60,
    "test_hostile": 60,
    "test_owner": 60,
    "test_hard_cases": 60,
}
"""Seconds that the tests of a file took beside others on a busy machine. What takes longest begins first, so that in
the end no process is left with one alone."""

_KIND = re.compile(r"[\[-](local|rabbitmq-4|url)(?=[\]-])")


def unit_of(nodeid: str) -> str:
    """What one process runs: the tests of a file, in tests/broker those of a file on one kind of broker."""
    path, _, name = nodeid.partition("::")
    kind = _KIND.search(name) if path.startswith("tests/broker/") else None
    return f"{path}@{kind[1]}" if kind else path


class ByUnit(LoadScopeScheduling):
    """xdist's scheduler by scope, where a scope is a unit, and with a choice which process takes which."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        """The longest unit that suits the process, else the longest of all."""
        index = int(node.gateway.id.removeprefix("gw"))
        takes_containers = index < max(1, self.numnodes // 2)

        def merit(unit: str) -> tuple[bool, int]:
            return unit.endswith("@rabbitmq-4") == takes_containers, SLOW.get(_stem(unit), 0)

        self.workqueue.move_to_end(max(self.workqueue, key=merit), last=False)
        super()._assign_work_unit(node)


def _stem(unit: str) -> str:
    return PurePath(unit.partition("@")[0]).stem
