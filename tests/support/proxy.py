"""A TCP proxy in the test's own loop that breaks the wire: cuts, stalls, delays, counts."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["up", "down"]
"""up: from the client to the server."""

CHUNK_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Lane:
    """One direction of all connections.

    delay_s: each chunk waits so long. cut_at: total bytes after which everything is cut, or None.
    """

    open: asyncio.Event = field(default_factory=asyncio.Event)
    delay_s: float = 0.0
    bytes: int = 0
    cut_at: int | None = None
    received: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """`async with Proxy(broker.url) as proxy`: `proxy.url` is the same broker, through the proxy.

    lanes: what is counted and can be set for each direction. connections: how many were accepted.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.lanes: dict[Direction, Lane] = {"up": Lane(), "down": Lane()}
        for lane in self.lanes.values():
            lane.open.set()
        self.connections = 0
        self.refusing = False
        self.reset = False
        self._server: asyncio.Server
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in tuple(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    @property
    def port(self) -> int:
        """Where the proxy listens."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The URL through the proxy."""
        user = self._target.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{self.port}" if user else f"127.0.0.1:{self.port}"
        return urlunsplit(self._target._replace(netloc=netloc))

    def stall(self, *directions: Direction) -> None:
        """Pass nothing on in these directions, both if none is named; connections stay open."""
        for direction in directions or ("up", "down"):
            self.lanes[direction].open.clear()

    def flow(self) -> None:
        """Pass everything on again."""
        for lane in self.lanes.values():
            lane.open.set()

    def cut(self, *, reset: bool = False) -> None:
        """End all connections: with FIN, or as a crash does, with RST."""
        for writer in tuple(self._writers):
            if reset:
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):  # its other end was quicker
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()
            else:
                writer.close()

    def cut_after(self, direction: Direction, byte_count: int, *, reset: bool = False) -> None:
        """Cut once so many more bytes have passed in that direction; the last of them still arrives."""
        lane = self.lanes[direction]
        lane.cut_at = lane.bytes + byte_count
        self.reset = reset

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        if self.refusing:
            self._drop(writer)
            return
        port = self._target.port or 5672
        to_server, server_writer = await asyncio.open_connection(self._target.hostname, port)
        self._writers.add(server_writer)
        for lane, source, sink in (
            (self.lanes["up"], reader, server_writer),
            (self.lanes["down"], to_server, writer),
        ):
            pump = asyncio.create_task(self._pump(lane, source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, lane: Lane, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                await lane.open.wait()
                if lane.delay_s:
                    await asyncio.sleep(lane.delay_s)
                await self._pass_on(lane, data, sink)
        except OSError:
            pass
        finally:
            self._drop(sink)

    async def _pass_on(self, lane: Lane, data: bytes, sink: asyncio.StreamWriter) -> None:
        cuts = lane.cut_at is not None and lane.bytes + len(data) >= lane.cut_at
        if cuts and lane.cut_at is not None:
            data = data[: lane.cut_at - lane.bytes]
            lane.cut_at = None
        lane.bytes += len(data)
        sink.write(data)
        await sink.drain()
        if cuts:
            self.cut(reset=self.reset)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
