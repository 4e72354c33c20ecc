"""Output of running jobs beyond what the ledger keeps: workers send it to those who keep asking for it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Self

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.control import Request, request_message
from jobrunner.broker.inbound import Inbound
from jobrunner.broker.message import message_id_of
from jobrunner.broker.publisher import Message, Publisher
from jobrunner.errors import KeyCannotSign
from jobrunner.ids import new_id

AGAIN_S = 5.0
"""Between two requests: workers send for 15 seconds after each."""


def live_message(event: events.Log) -> Message:
    """Output of a followed run that the ledger does not keep; unroutable, and gone, once nobody follows."""
    return Message(
        exchange=topology.CONTROL,
        key=f"log.{event.id}",
        body=events.encode(event),
        message_id=message_id_of(event),
        type=events.EVENT_TYPE,
        persistent=False,
    )


class Follower:
    """The output of these jobs beyond the first 64 KiB of a stream, from `async with` on, with gaps where it floods.

    jobs: id -> chain. on_log: called from the loop with each event. Entering raises `declare.Missing` where no worker
    ever started, and the broker's errors.
    """

    def __init__(
        self,
        connection: Connection,
        publisher: Publisher,
        jobs: dict[str, int],
        on_log: Callable[[events.Log], None],
    ) -> None:
        self._publisher = publisher
        self._jobs = jobs
        self._on_log = on_log
        self._asking: asyncio.Task[None] | None = None
        self._inbound = Inbound(connection, [f"log.{job_id}" for job_id in jobs], self._take)

    async def __aenter__(self) -> Self:
        try:
            await self._inbound.ready
        except BaseException:
            self._inbound.close()
            raise
        self._asking = asyncio.create_task(self._ask_again())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        self._inbound.close()

    def _take(self, body: bytes) -> None:
        try:
            event = events.decode(body)
        except (ValueError, RecursionError):
            return
        if isinstance(event, events.Log) and event.id in self._jobs:
            self._on_log(event)

    async def _ask_again(self) -> None:
        nonce = new_id()
        while True:
            request = Request(verb="follow", nonce=nonce, at=time.time(), jobs=self._jobs)
            with contextlib.suppress(KeyCannotSign):  # then what the ledger keeps has to do
                await self._publisher.publish_confirmed(request_message("all", request))  # lost ones are asked again
            await asyncio.sleep(AGAIN_S)
