"""One AMQP connection on the running asyncio loop, opened again for as long as it is wanted.

pika may be used from the loop only, and every callback here only passes a message on.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Callable
from typing import Any

from pika import exceptions

from jobrunner.broker import tls
from jobrunner.broker.amqp import AmqpChannel, AmqpConnection
from jobrunner.broker.backoff import jittered
from jobrunner.broker.changes import (
    ConnectionBlocked,
    ConnectionDown,
    ConnectionMessage,
    ConnectionUnblocked,
    ConnectionUp,
    ConnectionUser,
)
from jobrunner.broker.explain import explain
from jobrunner.broker.parameters import parameters
from jobrunner.broker.unavailable import Unavailable
from jobrunner.brokerurl import BrokerUrl
from jobrunner.errors import (
    BrokerLost,
    BrokerRefused,
    BrokerTimeout,
    BrokerUnknownHost,
    GuestRemote,
    JobrunnerError,
    LoginRefused,
    TlsRefused,
)

__all__ = [
    "Connection",
    "ConnectionBlocked",
    "ConnectionDown",
    "ConnectionMessage",
    "ConnectionUnblocked",
    "ConnectionUp",
    "ConnectionUser",
]

REFUSED_LOGIN_S = 30.0
"""Between tries while the login is refused: more often would lock accounts and fill the broker's log."""


class Connection:
    """One AMQP connection.

    role: its name in messages and in the broker's list of connections. notify: called from the loop with each
    `ConnectionMessage`; must not raise. heartbeat_s: both sides give up after about that many seconds of silence.
    connect_timeout_s: bound of one try, from the name look-up to the open virtual host; of a cluster each node has its
    share of it.

    epoch: how often it has been opened, from 1. blocked: why the broker takes no publishes, or None.
    url: of the node that it is connected to, or tries: of a cluster one after the other, beginning anywhere.
    known: what this process has seen to exist in the broker, so that it need not ask again. unavailable: queues that
    it cannot serve.
    """

    def __init__(
        self,
        url: BrokerUrl,
        *,
        role: str,
        notify: Callable[[ConnectionMessage], None],
        heartbeat_s: int = 20,
        connect_timeout_s: float = 10.0,
    ) -> None:
        # pika logs failures that are reported here in words, and at some levels the bodies of messages
        logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
        self._nodes = random.sample(url.nodes, len(url.nodes))
        self.url = self._nodes[0]
        self.role = role
        self.heartbeat_s = heartbeat_s
        self.connect_timeout_s = connect_timeout_s
        self.epoch = 0
        self.is_open = False
        self.blocked: str | None = None
        self.server_properties: dict[str, Any] = {}
        self.known: set[str] = set()
        self.unavailable = Unavailable()
        self._notify = notify
        self._users: list[ConnectionUser] = []
        self._amqp: AmqpConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._wanted = False
        self._tries = 0
        self._first: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.role} {self.url.masked} epoch={self.epoch}{' open' if self.is_open else ''}>"

    @property
    def server_version(self) -> str:
        """The broker's version, such as `3.10.8`; empty before the first connect."""
        version = self.server_properties.get("version", "")
        return version if isinstance(version, str) else ""

    def start(self) -> None:
        """Connect now, and again for ever: full jitter between 0.5 and 10 s, 30 s while the login is refused."""
        self._wanted = True
        if self._amqp is None and self._timer is None:
            self._connect()

    async def connect_once(self) -> None:
        """One try, of a cluster one for each node; from its success on, as after `start`.

        Raises: JobrunnerError, explained, within connect_timeout_s.
        """
        for _ in self._nodes[1:]:
            try:
                return await self._connect_once()
            except (BrokerLost, BrokerRefused, BrokerTimeout, BrokerUnknownHost):
                self._turn()
        return await self._connect_once()

    async def _connect_once(self) -> None:
        if self.is_open:
            return
        if self._amqp is None:
            self._cancel_timers()
            self._connect()
        self._first = asyncio.get_running_loop().create_future()
        try:
            await self._first
            self._wanted = True
        except TlsRefused as exc:
            await self.close()
            raise await tls.named(exc, self.url) from exc
        except BaseException:
            await self.close()
            raise
        finally:
            self._first = None

    def proven(self) -> None:
        """A channel works on it: the next loss is retried soon. Only connecting proves little: a broker that is
        starting or failing accepts and hangs up.
        """
        self._tries = 0

    def attach(self, user: ConnectionUser) -> None:
        """Tell `user` of each opening and loss; at once if it is open."""
        self._users.append(user)
        if self.is_open:
            user.connection_up()

    def detach(self, user: ConnectionUser) -> None:
        """The opposite of attach."""
        if user in self._users:
            self._users.remove(user)

    def open_channel(self, on_open: Callable[[AmqpChannel], None], on_close: Callable[[Exception], None]) -> None:
        """Open a channel. on_close: called once, with pika's exception, however it ends.

        Raises: BrokerLost when the connection is not open.
        """
        if self._amqp is None or not self.is_open:
            raise BrokerLost(address=self.url.address, reason="not connected")
        try:
            channel = self._amqp.channel(on_open_callback=on_open)  # type: ignore[arg-type]
        except exceptions.AMQPError as exc:
            raise BrokerLost(address=self.url.address, reason=str(exc) or type(exc).__name__) from exc
        channel.add_on_close_callback(lambda _channel, reason: on_close(reason))

    def abort(self, reason: str) -> None:
        """Drop the socket now, without waiting for the broker; what waits for an answer gets `unknown`.

        It is opened again if it is wanted.
        """
        if self._amqp is not None:
            self.is_open = False
            self._amqp.abort(BrokerLost(address=self.url.address, reason=reason))

    async def close(self, timeout_s: float = 1.0) -> None:
        """Close for good: politely within `timeout_s`, then by dropping the socket. A blocked broker is not asked."""
        self._wanted = False
        self._cancel_timers()
        if self._amqp is None:
            return
        self._gone = asyncio.get_running_loop().create_future()
        polite = self.is_open and self.blocked is None and self._amqp.given_up_for is None
        self.is_open = False
        if polite:
            self._amqp.close()
            await asyncio.wait([self._gone], timeout=timeout_s)
        if self._amqp is not None:
            self._amqp.abort(BrokerLost(address=self.url.address, reason="closed"))
            await asyncio.wait([self._gone], timeout=timeout_s)

    # --- one try ----------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        try:
            found = parameters(self.url, self.role, heartbeat_s=self.heartbeat_s, timeout_s=self.connect_timeout_s)
            # pika raises in a callback of the loop where no file is to be had: then it must not begin
            socket.socket().close()
        except OSError as exc:
            loop.call_soon(self._failed, explain(exc, self.url, self.connect_timeout_s))
            return
        except JobrunnerError as exc:  # a certificate may be away for a moment, while it is renewed
            loop.call_soon(self._failed, exc)
            return
        self._deadline = loop.call_later(self.connect_timeout_s / len(self._nodes), self._on_deadline)
        self._amqp = AmqpConnection(
            found,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=loop,
        )
        self._amqp.add_on_connection_blocked_callback(self._on_blocked)
        self._amqp.add_on_connection_unblocked_callback(self._on_unblocked)

    def _turn(self) -> None:
        """On to the next node."""
        self.url = self._nodes[(self._nodes.index(self.url) + 1) % len(self._nodes)]

    def _on_deadline(self) -> None:
        if self._amqp is not None:
            self._amqp.abort(TimeoutError())

    def _on_open(self, amqp: Any) -> None:
        self._cancel_timers()
        self.is_open = True
        self.epoch += 1
        self.server_properties = dict(amqp.server_properties or {})
        for user in tuple(self._users):
            user.connection_up()
        self._notify(ConnectionUp(self.role, self.epoch))
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def _on_lost(self, amqp: Any, exc: Any) -> None:
        if self._amqp is None or amqp is not self._amqp:
            return
        cause = amqp.given_up_for or exc
        self._amqp = None
        self.is_open = False
        self.blocked = None
        self._cancel_timers()
        for user in tuple(self._users):
            user.connection_down()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
            return
        self._failed(explain(cause, self.url, self.connect_timeout_s))

    def _failed(self, error: JobrunnerError) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
            return
        self._notify(ConnectionDown(self.role, self.epoch, error, self._schedule(error)))

    def _schedule(self, error: JobrunnerError) -> float | None:
        if not self._wanted:
            return None
        if isinstance(error, LoginRefused | GuestRemote):
            retry_in_s = REFUSED_LOGIN_S
        else:
            retry_in_s = jittered(self._tries // len(self._nodes))
            self._tries += 1
            self._turn()
        self._timer = asyncio.get_running_loop().call_later(retry_in_s, self._connect)
        return retry_in_s

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.cancel()
        self._timer = self._deadline = None

    def _on_blocked(self, _amqp: Any, method_frame: Any) -> None:
        self.blocked = str(method_frame.method.reason)
        self._notify(ConnectionBlocked(self.role, self.blocked))

    def _on_unblocked(self, _amqp: Any, _method_frame: Any) -> None:
        self.blocked = None
        self._notify(ConnectionUnblocked(self.role))
