"""What a private broker is made of on disk: who it is, and its configuration files."""

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path

import msgspec

from jobrunner.broker.definitions import ACK_TIMEOUT_MS, policies, vhost_row
from jobrunner.local import probe

VHOST = "jobrunner"
USER = "jobrunner"
MAX_MESSAGE_BYTES = 8_388_608
_IDENTITY = "identity.json"


class Identity(msgspec.Struct, kw_only=True):
    """What stays the same over restarts, so that workers find and may enter the broker that comes back.

    last_start_s: seconds its last start took, None before the first.
    """

    name: str
    password: str
    cookie: str
    port: int
    epmd_port: int
    dist_port: int
    last_start_s: float | None = None

    @property
    def node(self) -> str:
        """Name of the Erlang node."""
        return f"{self.name}@localhost"

    @property
    def url(self) -> str:
        """AMQP URL with the password."""
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.port}/{VHOST}"


def new_identity() -> Identity:
    """A name, a password and ports that nobody else has."""
    return Identity(
        name=f"jobrunner-{secrets.token_hex(4)}",
        password=secrets.token_urlsafe(24),
        cookie=secrets.token_hex(24),
        port=probe.free_port(),
        epmd_port=probe.free_port(),
        dist_port=probe.free_port(),
    )


def is_ours(data_dir: Path) -> bool:
    """Whether a private broker was ever started in this folder: no other folder is removed."""
    return (data_dir / _IDENTITY).is_file()


def load_identity(data_dir: Path) -> Identity:
    """The identity kept in `data_dir`, or a new one where there is none that can be read."""
    try:
        return msgspec.json.decode((data_dir / _IDENTITY).read_bytes(), type=Identity)
    except (OSError, msgspec.DecodeError):
        return new_identity()


def save_identity(data_dir: Path, identity: Identity) -> None:
    """Keep it, readable by this user alone."""
    write_private(data_dir / _IDENTITY, msgspec.json.format(msgspec.json.encode(identity)))


def private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 where it is missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_private(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Put a file in place as a whole, never readable by others, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a process that was killed; or put there by another user, as a link
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        os.fchmod(file.fileno(), mode)
    temporary.replace(path)


def rabbitmq_conf(version: str, listen: str, definitions: str, *, console: bool) -> str:
    """`rabbitmq.conf` for this version.

    listen: `address:port`. definitions: path of the file to load. console: log to stdout too, as containers do.
    """
    lines = [
        "listeners.tcp.1 = " + listen,
        "loopback_users = none",
        f"load_definitions = {definitions}",
        f"consumer_timeout = {ACK_TIMEOUT_MS}",
        "raft.wal_max_size_bytes = 64000000",  # 512 MiB by default, and held in memory
        "disk_free_limit.absolute = 200MB",
        f"max_message_size = {MAX_MESSAGE_BYTES}",
        f"log.console = {str(console).lower()}",
        "log.file.rotation.size = 10485760",
        "log.file.rotation.count = 3",
    ]
    if _at_least(version, 4, 0):  # before 4.0 the key is unknown and the node refuses to start
        lines.append("default_queue_type = quorum")
    return "\n".join(lines) + "\n"


def advanced_config() -> str:
    """Settings without a key in `rabbitmq.conf`: after a crash, a delayed job waits 5 s for its confirm, not 180 s."""
    return "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].\n"


def definitions(identity: Identity, version: str) -> str:
    """`definitions.json`: one virtual host, one user with all rights in it, the policies.

    With a definitions file RabbitMQ makes no user `guest`.
    """
    return json.dumps(
        {
            "vhosts": [vhost_row(VHOST)],
            "users": [
                {
                    "name": USER,
                    "password_hash": password_hash(identity.password),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": [],
                },
            ],
            "permissions": [{"user": USER, "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"}],
            "policies": policies(VHOST, version),
        },
        indent=1,
    )


def password_hash(password: str) -> str:
    """RabbitMQ's salted SHA-256. Source: RabbitMQ docs "Credentials and Passwords", computing a password hash."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _at_least(version: str, major: int, minor: int) -> bool:
    """Whether a version such as `3.10.8` or `4.1.0-rc.1` is that or later; an unknown one counts as oldest."""
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return False
    return (int(parts[0]), int(parts[1])) >= (major, minor)
