"""Small questions to this machine: is a port free, does an AMQP server answer there, is the port mapper gone."""

import secrets
import socket
import time
from collections.abc import Callable

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_EPMD_KILL = b"\x00\x01k"
_EPMD_NAMES = b"\x00\x01n"
_PORTS = range(20000, 32768)
"""Below the ranges from which Linux and macOS take the ports of outgoing connections, so that none gets in between."""


def pause(seconds: float) -> None:
    """Wait between two looks at a process that is not our child: there is no other wait for it on every platform."""
    time.sleep(seconds)  # noqa: TID251


def until(condition: Callable[[], bool], timeout_s: float, interval_s: float = 0.05) -> bool:
    """Whether `condition` became true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= end:
            return False
        pause(interval_s)
    return True


def port_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A loopback port on which nothing listens. Chosen at random, so that two that look at once differ."""
    while True:
        port = secrets.choice(_PORTS)
        if port_free(port):
            return port


def amqp_version(port: int) -> str | None:
    """Version of the RabbitMQ that answers on this loopback port, None if none does.

    Sends the protocol header and reads `connection.start`. RabbitMQ opens its ports after it has loaded the
    definitions, so whoever is greeted can log in. Source: AMQP 0-9-1, 4.2.2 "Protocol Header".
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as server:
            server.sendall(_PROTOCOL_HEADER)
            greeting = _read_frame(server)
    except OSError:
        return None
    if greeting[7:11] != b"\x00\x0a\x00\x0a":  # class connection, method start
        return None
    _, found, rest = greeting.partition(b"\x07versionS")
    size = int.from_bytes(rest[:4], "big")
    return rest[4 : 4 + size].decode("ascii", "replace") if found else "?"


def _read_frame(server: socket.socket) -> bytes:
    data = b""
    while len(data) < 7 or len(data) < 8 + int.from_bytes(data[3:7], "big"):
        chunk = server.recv(65536)
        if not chunk:
            raise ConnectionResetError("closed before the whole greeting")
        data += chunk
    return data


def epmd_answers(port: int) -> bool:
    """Whether an Erlang port mapper listens there. Source: Erlang docs "Distribution Protocol", NAMES_REQ."""
    answer = _ask_epmd(port, _EPMD_NAMES)
    return answer is not None and answer[:4] == port.to_bytes(4, "big")


def end_epmd(port: int) -> bool:
    """End the port mapper, which obeys once no node is registered. True if it is gone.

    Source: Erlang docs "Distribution Protocol", KILL_REQ: answered by `OK`, or `NO` while a node lives.
    """
    answer = _ask_epmd(port, _EPMD_KILL)
    return answer is None or answer == b"OK"


def _ask_epmd(port: int, request: bytes) -> bytes | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as epmd:
            epmd.sendall(request)
            answer = b""
            while chunk := epmd.recv(4096):
                answer += chunk
            return answer
    except OSError:
        return None
