"""Questions to live workers and their answers: verbs and ids over the control exchange, never code.

Nothing here is stored: who does not listen now does not answer. What must reach workers that come later goes through
the ledger as well (`events.Cancel`).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

import msgspec

from jobrunner import events
from jobrunner.broker import topology
from jobrunner.broker.connection import Connection
from jobrunner.broker.declare import Missing
from jobrunner.broker.inbound import Inbound
from jobrunner.broker.publisher import Message, Publisher, Stored
from jobrunner.ids import new_id

T = TypeVar("T")

CONTROL_TYPE = "jobrunner.control"
VALID_S = 60.0
"""An older question is not answered: it lay in a queue, and who asked is gone."""

AMONG_WORKERS = ("hello", "bye", "owner", "ended", "returned")
"""Verbs that workers use among themselves. A worker of an older version answers them like a ping."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question. verb: ping, cancel, stack or follow. jobs: id -> chain. nonce: where the replies go.

    follow: for the next 15 seconds, output of these jobs beyond what the ledger keeps is sent to `log.<id>`.
    Between workers, with the nonce of the worker itself, jobs: id -> copy. `hello` and `bye`; `owner`: who has these
    runs? `ended`: they have ended, though their messages are still there. `returned`: nobody has them, they go back to
    their queue; counts: id -> how often that message will have been returned when it is delivered again.
    """

    v: int = 1
    verb: str
    nonce: str
    at: float
    jobs: dict[str, int] = {}
    run: str | None = None
    reason: str = ""
    signal: str | None = None
    by: str | None = None
    counts: dict[str, int] = {}


class RunningJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job that runs on the worker that answers. slot: from 1."""

    id: str
    attempt: int
    started_at: float
    pid: int
    slot: int


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one worker answered.

    jobs: of a cancel, id -> `running` (being killed now), `ended` (settled here before) or `noted` (not here; it will
    not start here); of `owner`, `<id>.<copy>` -> `running`, `ended` or `free`. stack: of the job asked for, as text.
    at: the clock of the worker's machine; 0: it did not say.
    member: the nonce of the worker that answers another worker. returned: `<id>.<copy>` -> how often the broker has
    taken that message back from it, though it lived. waiting: jobs looked after here that wait for others. paused: its
    queues that it does not consume now. held: further jobs that are here: not started yet, or ended and not confirmed.
    """

    v: int = 1
    worker: str
    host: str
    pid: int
    version: str
    slots: int
    busy: int
    queues: list[str]
    started_at: float
    functions: list[str] = []
    allow_commands: bool = False
    allow_programs: list[str] = []
    allow_import: list[str] = []
    running: list[RunningJob] = []
    jobs: dict[str, str] = {}
    stack: str | None = None
    member: str = ""
    returned: dict[str, int] = {}
    at: float = 0.0
    waiting: int = 0
    paused: list[events.Pause] = []
    held: list[str] = []

    @property
    def here(self) -> set[str]:
        """The jobs that this worker has, those aside that wait for others."""
        return {*(one.id for one in self.running), *self.held}


def _read(body: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError):
        return None


def keys_of(worker: str, host: str, queues: tuple[str, ...]) -> list[str]:
    """The routing keys that a worker listens to."""
    word = topology.encode_word
    return ["all", f"worker.{word(worker)}", f"host.{word(host)}", *(f"queue.{word(queue)}" for queue in queues)]


class ControlPort:
    """A worker's ear: requests of the last minute, each as it comes. What cannot be read is dropped.

    nonce, on_reply: of a worker that asks others itself. Their clocks may differ, so how old a question is does not
    matter there: what is not heard in time is asked again.
    """

    def __init__(
        self,
        connection: Connection,
        keys: list[str],
        on_request: Callable[[Request], None],
        *,
        nonce: str = "",
        on_reply: Callable[[Reply], None] | None = None,
    ) -> None:
        self._on_request = on_request
        self._on_reply = on_reply
        self._inbound = Inbound(connection, [*keys, f"reply.{nonce}"] if nonce else keys, self._take)

    def _take(self, body: bytes) -> None:
        request = _read(body, Request)
        if request is None:
            reply = _read(body, Reply) if self._on_reply is not None else None
            if reply is not None and self._on_reply is not None:
                self._on_reply(reply)
        elif request.verb in AMONG_WORKERS or abs(time.time() - request.at) <= VALID_S:
            self._on_request(request)

    def close(self) -> None:
        """Hear no more."""
        self._inbound.close()


def reply_message(request: Request, reply: Reply) -> Message:
    """The answer to a request. It comes back as unroutable when the asker is gone, and that is fine."""
    return Message(
        exchange=topology.CONTROL,
        key=f"reply.{request.nonce}",
        body=msgspec.json.encode(reply),
        message_id=f"{request.nonce}.{reply.worker}",
        type=CONTROL_TYPE,
        persistent=False,
    )


def request_message(key: str, request: Request) -> Message:
    """The question itself. key: `all`, or `worker.`, `host.` or `queue.` with an encoded name."""
    return Message(
        exchange=topology.CONTROL,
        key=key,
        body=msgspec.json.encode(request),
        message_id=f"{request.nonce}.{request.verb}.{request.at:.6f}",
        type=CONTROL_TYPE,
        persistent=False,
    )


class Asker:
    """Asks live workers. Use as an async context manager on an open connection."""

    def __init__(self, connection: Connection, publisher: Publisher) -> None:
        self._publisher = publisher
        self._nonce = new_id()
        self._replies: list[Reply] = []
        self._arrived = asyncio.Event()
        self._inbound = Inbound(connection, [f"reply.{self._nonce}"], self._take)

    async def __aenter__(self) -> Self:
        try:
            await self._inbound.ready
        except BaseException:
            self._inbound.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._inbound.close()

    def _take(self, body: bytes) -> None:
        reply = _read(body, Reply)
        if reply is not None:
            self._replies.append(reply)
            self._arrived.set()

    async def ask(self, key: str, request: Request, *, timeout_s: float, expected: int | None = None) -> list[Reply]:
        """The replies that came within `timeout_s`, sooner when `expected` have come; none when nobody listens.

        key: `all`, or `worker.`, `host.` or `queue.` with an encoded name.
        """
        request = msgspec.structs.replace(request, nonce=self._nonce, at=time.time())
        self._replies.clear()
        answer = await self._publisher.publish_confirmed(request_message(key, request))
        if not isinstance(answer, Stored):  # returned: nobody listens
            return []
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if expected is not None and len(self._replies) >= expected:
                break
            self._arrived.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()
            except TimeoutError:
                break
        return list(self._replies)


async def ask(
    connection: Connection,
    key: str,
    verb: str,
    *,
    timeout_s: float,
    expected: int | None = None,
    **fields: Any,
) -> list[Reply]:
    """One question. fields: of `Request`, such as jobs. Gives [] where no worker ever started."""
    publisher = Publisher(connection, confirm_timeout_s=timeout_s)
    try:
        async with Asker(connection, publisher) as asker:
            request = Request(verb=verb, nonce="", at=0.0, **fields)
            return await asker.ask(key, request, timeout_s=timeout_s, expected=expected)
    except Missing:
        return []
    finally:
        publisher.close()
