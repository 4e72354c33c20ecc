"""What only the management API tells: policies, clocks, disks. It is often closed, and that is no error."""

import asyncio
import base64
import contextlib
import time
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from jobrunner.broker import tls
from jobrunner.brokerurl import BrokerUrl
from jobrunner.errors import BadValue

PORT: Final = 15672
TLS_PORT: Final = 15671
ANSWER_S: Final = 4.0
_LARGEST: Final = 32 * 1024 * 1024


class Refused(Exception):
    """It answers, but not to this user. status: of HTTP."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"HTTP {status}")


class Api:
    """The management API of a broker.

    address: such as `http://user:password@host:15672`; None: the broker's host, its usual port and the AMQP user.
    offset_s: how far its clock is ahead of ours, once it has answered. Raises: BadValue for no URL.
    """

    def __init__(self, url: BrokerUrl, address: str | None) -> None:
        parts = _parts_of(address or f"{'https' if url.tls else 'http'}://{_in_url(url.host)}")
        self.vhost = url.vhost
        self.offset_s: float | None = None
        self.user = unquote(parts.username) if parts.username else url.user
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (TLS_PORT if self._tls else PORT)
        self._prefix = parts.path.rstrip("/")
        self._password = unquote(parts.password or "") if parts.username else url.password
        self._url = url

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self._host}:{self._port}"

    async def get(self, path: str) -> Any:
        """The JSON document at `/api/PATH`; `{vhost}` in it is filled in.

        Raises: OSError, TimeoutError where nothing answers; Refused; ValueError for what is no answer of such an API.
        """
        filled = path.replace("{vhost}", quote(self.vhost, safe=""))
        async with asyncio.timeout(ANSWER_S):
            sent = time.time()
            head, body = await self._exchange(f"{self._prefix}/api/{filled}")
        protocol, _, rest = head[0].partition(" ")
        status = rest.partition(" ")[0]
        if not protocol.startswith("HTTP/") or not status.isdigit():
            raise ValueError("not HTTP")
        if status != "200":
            raise Refused(int(status))
        self._see_clock(head, sent)
        return msgspec.json.decode(body)

    async def _exchange(self, target: str) -> tuple[list[str], bytes]:
        context = tls.context_of(self._url) if self._tls else None
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context, limit=_LARGEST)
        try:
            token = base64.b64encode(f"{self.user}:{self._password}".encode()).decode()
            # 1.0: an answer in one piece, whose end is the end of the connection
            lines = [f"GET {target} HTTP/1.0", f"Host: {self.address}", f"Authorization: Basic {token}", "", ""]
            writer.write("\r\n".join(lines).encode())
            await writer.drain()
            answer = await reader.read(_LARGEST)
            while chunk := await reader.read(_LARGEST):
                answer += chunk
        finally:
            writer.transport.abort()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode("latin-1").split("\r\n"), body

    def _see_clock(self, head: list[str], sent: float) -> None:
        for line in head:
            name, _, value = line.partition(":")
            if name.lower() == "date":
                with contextlib.suppress(ValueError):
                    # whole seconds, cut off: half a second is its middle
                    self.offset_s = parsedate_to_datetime(value.strip()).timestamp() + 0.5 - (sent + time.time()) / 2


def _parts_of(address: str) -> SplitResult:
    """Raises: BadValue, which does not show the text: a password may be in it."""
    with contextlib.suppress(ValueError):  # a host in brackets that is none, a port that is none
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return parts
    raise BadValue(problem="--management is not the URL of a management API.", hint="http://user:password@host:15672")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
