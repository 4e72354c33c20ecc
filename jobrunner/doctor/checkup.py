"""All checks in their order, each given as soon as it is known. What a failed one makes pointless is left out."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.config import Settings
from jobrunner.doctor import entities, machine, reach, releases, rights, rounds
from jobrunner.doctor.check import Check, error, of_error, ok, one, unknown, within
from jobrunner.doctor.management import Api
from jobrunner.doctor.told import Told
from jobrunner.doctor.workers import workers
from jobrunner.errors import JobrunnerError, PermissionRefused

FIX_S: Final = 60.0
WHOLE_S: Final = 30.0
"""Bound of a check that has bounds of its own for each of its steps."""

_AFTER_LOGIN: Final = ["version", "entities", "alarms", "rights", "size", "round trip", "ladder", "ledger", "workers"]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """apps: modules to import. fix: create what is missing. management: URL of the API, None: the usual one."""

    apps: tuple[str, ...] = ()
    fix: bool = False
    management: str | None = None


async def checkup(settings: Settings, wishes: Wishes) -> AsyncIterator[Check]:
    """Every finding, in order. Nothing is changed but with `fix`, which only creates.

    Raises: BadValue for a management URL that is none.
    """
    api = Api(settings.url, wishes.management)
    for check in (machine.package(), machine.state(), *machine.keys(settings.url.ring, time.time())):
        yield check
    for check in await machine.tasks(wishes.apps):
        yield check
    way = await reach.to_nodes(settings)
    for check in way:
        yield check
    if failed := next((check for check in way if check.level == "error"), None):
        yield reach.skipped(["login", *_AFTER_LOGIN], f"{failed.name} failed")
        return
    check, connection = await reach.login(settings)
    yield check
    if connection is None:
        yield reach.skipped(_AFTER_LOGIN, "login failed")
        return
    try:
        async for check in _at_broker(settings, wishes, connection, api):
            yield check
    finally:
        await connection.close()


async def _at_broker(settings: Settings, wishes: Wishes, asking: Connection, api: Api) -> AsyncIterator[Check]:
    url = settings.url
    yield releases.release(asking.server_properties, is_loopback=url.is_loopback)
    patient = _Patient(settings, asking)
    for check in await within("rights", patient.probe()):
        yield check
    if wishes.fix:
        for check in await within("fix", patient.create(), FIX_S):
            yield check
    for check in await within("entities", patient.entities()):
        yield check
    async for check in _publishing(settings, patient):
        yield check
    told = Told(api, is_private=url.is_local_broker)
    yield await told.ask()
    for check in (told.timeouts(), told.policies(), *told.disk(), *([clock] if (clock := told.clock()) else [])):
        yield check


async def _publishing(settings: Settings, patient: "_Patient") -> AsyncIterator[Check]:
    """What needs a publish, on a connection of its own: an alarm stops it for good."""
    connection = Connection(
        settings.url, role="doctor", notify=lambda _: None, connect_timeout_s=settings.connect_timeout_s
    )
    try:
        await connection.connect_once()
    except JobrunnerError as exc:
        yield of_error("alarms", exc)
        return
    try:
        async for check in patient.publish(connection):
            yield check
    finally:
        await connection.close()


class _Patient:
    """What the checks at the broker learn from each other."""

    def __init__(self, settings: Settings, asking: Connection) -> None:
        self._url = settings.url
        self._asking = asking
        self._rights: rights.Rights | None = None
        self._entities: entities.Entities | None = None

    @property
    def _may_create(self) -> bool:
        return self._rights is not None and self._rights.create

    async def probe(self) -> list[Check]:
        """Rights without those that need a publish; told later."""
        self._rights = await rights.probe(self._asking)
        return []

    async def _rights_check(self, publishing: Connection | None) -> list[Check]:
        if self._rights is None:
            return []
        if publishing is not None:
            self._rights = await rights.with_keys(self._rights, publishing)
        return [rights.check(self._rights, user=self._url.user, vhost=self._url.vhost)]

    async def create(self) -> list[Check]:
        try:
            await entities.create(self._asking, topology.DEFAULT_QUEUE)
        except PermissionRefused as exc:
            return [error("fix", exc.message, "an administrator runs  jobrunner queues declare")]
        return [ok("fix", "created what was missing")]

    async def entities(self) -> list[Check]:
        self._entities = entities.Entities(self._asking)
        await self._entities.look(may_create=self._may_create)
        return [self._entities.check(may_create=self._may_create, user=self._url.user)]

    async def publish(self, publishing: Connection) -> AsyncIterator[Check]:
        """Everything that needs a publish, on a connection that an alarm may stop."""
        sent = rounds.Rounds(self._asking, publishing)
        try:
            yield await one("alarms", sent.alarms(), WHOLE_S)
            takes_messages = sent.blocked is None
            for check in await within("rights", self._rights_check(publishing if takes_messages else None)):
                yield check
            if sent.blocked is not None:
                yield unknown("rest", f"not tried while the broker takes nothing: {', '.join(_AFTER_LOGIN[4:])}")
                return
            yield await one("size", sent.size(), WHOLE_S)
            async for check in self._travel(sent):
                yield check
        finally:
            sent.close()
        for check in await within("workers", self._workers(publishing)):
            yield check

    async def _travel(self, sent: rounds.Rounds) -> AsyncIterator[Check]:
        found = self._entities
        if found is None or found.is_new:
            yield unknown("round trip", "not tried: nothing is declared yet")
            return
        refused = None
        with contextlib.suppress(TimeoutError):
            refused = await sent.open()
        if refused is not None:
            yield unknown("round trip", "not tried: this user may not read what comes through the jobs exchange")
        else:
            yield await one("round trip", sent.jobs(), WHOLE_S)
            if found.has_ladder:
                yield await one("ladder", sent.ladder(), WHOLE_S)
            else:
                yield unknown("ladder", "not tried: it is not there", "jobrunner doctor --fix")
        yield await one("ledger", sent.ledger(), WHOLE_S)

    async def _workers(self, publishing: Connection) -> list[Check]:
        found, _ = await workers(publishing)
        return found
