"""The local broker that is noted in the state folder of this user."""

import os
import socket
from pathlib import Path

import msgspec

from jobrunner.folders import state_dir

BROKER_FILE = "broker.json"


class LocalBroker(msgspec.Struct, frozen=True, kw_only=True):
    """A private broker that was started here, as its `broker.json` (mode 0600) says.

    url: with the password. pid: of the node, None in a container. container: its name, None for a node.
    engine: `rabbitmq` or `docker`. started_in_s: seconds from its start to the first answer.
    """

    url: str
    pid: int | None
    version: str
    engine: str
    data_dir: str
    port: int
    started_in_s: float
    container: str | None = None


def read_local_broker(state: Path | None = None) -> LocalBroker | None:
    """The local broker if its process lives and its port takes connections; costs well under a millisecond.

    None as well for a `broker.json` of another user, because jobs would go to that user's broker.
    """
    path = (state or state_dir()) / BROKER_FILE
    try:
        if path.stat().st_uid != os.geteuid():
            return None
        broker = msgspec.json.decode(path.read_bytes(), type=LocalBroker)
    except (OSError, msgspec.DecodeError):
        return None
    if broker.pid is not None and not process_alive(broker.pid):
        return None
    return broker if takes_connections(broker.port) else None


def local_broker_url(state: Path | None = None) -> str | None:
    """URL of the running local broker, with its password; None if none runs."""
    broker = read_local_broker(state)
    return broker.url if broker else None


def process_alive(pid: int) -> bool:
    """Whether `pid` runs. A zombie has ended, although `kill -0` still finds it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # no /proc, as on macOS, or it ended just now: the next look tells
        return True
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] not in (b"Z", b"X")


def takes_connections(port: int) -> bool:
    """Whether something listens on this loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False
