"""The installed RabbitMQ as a node of this user: where it is, how it is started, how it is ended.

The node has its own name, cookie, data folder and port mapper, and listens on 127.0.0.1 only, also for Erlang's
distribution, because whoever reaches that port and knows the cookie controls the node.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jobrunner.local import files, probe
from jobrunner.statedir import process_alive

LOG = Path("log") / "rabbit.log"
CONSOLE = Path("log") / "console.log"
_PLACES = (
    # Debian's and Red Hat's command of that name changes to the user rabbitmq; these scripts do not
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/opt/homebrew/sbin",
    "/usr/local/sbin",
)
_UNPACKED = "/usr/lib/rabbitmq/lib"
_NOT_INHERITED = ("RABBITMQ_", "ERL_", "JOBRUNNER_", "NOTIFY_SOCKET", "ELIXIR_")
_DETACH = 'cd "$1" && shift && { "$@" >>log/console.log 2>&1 </dev/null & echo $!; }'
"""A shell starts it and ends: the node has no parent here that would have to wait for it."""
_STOP_S = 30.0
_BEGUN_S = 5.0
_SHOWN_CHARS = 300


@dataclass(frozen=True)
class Server:
    """An installed RabbitMQ. sbin: folder of its scripts. version: such as `3.10.8`, `?` where it cannot be told."""

    sbin: Path
    version: str


def find_server() -> Server | None:
    """The newest RabbitMQ in the usual places or on the PATH, None if there is none."""
    places = [Path(place) / "rabbitmq-server" for place in _PLACES]
    places[1:1] = sorted(Path(_UNPACKED).glob("rabbitmq_server-*/sbin/rabbitmq-server"), reverse=True)
    if on_path := shutil.which("rabbitmq-server"):
        places.append(Path(on_path))
    for place in places:
        if os.access(place, os.X_OK):
            sbin = place.resolve().parent
            return Server(sbin, _version(sbin))
    return None


def _version(sbin: Path) -> str:
    """Told by the name of the broker's own folder, because asking it would take a second."""
    for home in (sbin.parent, sbin.parent / "libexec"):
        for found in sorted(home.glob("plugins/rabbit-[0-9]*")):
            return found.name.removeprefix("rabbit-").removesuffix(".ez")
    return "?"


def write_files(data_dir: Path, identity: files.Identity, version: str) -> None:
    """Everything the node reads at its start. No plugin is enabled."""
    for folder in (data_dir, data_dir / "conf", data_dir / "home", data_dir / "log"):
        files.private_folder(folder)
    conf = data_dir / "conf"
    listen = f"127.0.0.1:{identity.port}"
    files.write_private(
        conf / "rabbitmq.conf", files.rabbitmq_conf(version, listen, str(conf / "definitions.json"), console=False)
    )
    files.write_private(conf / "advanced.config", files.advanced_config())
    files.write_private(conf / "definitions.json", files.definitions(identity, version))
    files.write_private(conf / "enabled_plugins", "[].\n")
    files.write_private(conf / "env.conf", "")
    files.write_private(data_dir / "home" / ".erlang.cookie", identity.cookie, mode=0o400)


def environment(data_dir: Path, identity: files.Identity) -> dict[str, str]:
    """What the node, and `rabbitmqctl` for it, need in their environment; nothing of another RabbitMQ's."""
    conf, log = data_dir / "conf", data_dir / "log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
    return kept | {
        "HOME": str(data_dir / "home"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(identity.epmd_port),
        "ERL_CRASH_DUMP_SECONDS": "0",
        "ELIXIR_ERL_OPTIONS": "+fnu",
        "RABBITMQ_CONF_ENV_FILE": str(conf / "env.conf"),  # an empty one: else /etc/rabbitmq's would be read
        "RABBITMQ_CONFIG_FILE": str(conf / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(conf / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(conf / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(data_dir / "db"),
        "RABBITMQ_MNESIA_DIR": str(data_dir / "db" / "node"),
        "RABBITMQ_LOG_BASE": str(log),
        "RABBITMQ_LOGS": str(data_dir / LOG),
        "RABBITMQ_NODENAME": identity.node,
        "RABBITMQ_DIST_PORT": str(identity.dist_port),
        "RABBITMQ_PID_FILE": str(data_dir / "pid"),
        "RABBITMQ_CTL_ERL_ARGS": loopback,
        # no busy waiting: the CPU is for the jobs. The last flag is for people who look at `ps`, and for `is_node`.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} +sbwt none +sbwtdcpu none +sbwtdio none"
        f" -jobrunner {identity.name}",
        # the script then becomes the node instead of waiting for it in front of a terminal
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def launch(server: Server, data_dir: Path, identity: files.Identity) -> int:
    """Start the node in a session of its own, where no Ctrl-C reaches it. Gives its pid."""
    (data_dir / "pid").unlink(missing_ok=True)
    (data_dir / CONSOLE).unlink(missing_ok=True)
    command = ["/bin/sh", "-c", _DETACH, "sh", str(data_dir), str(server.sbin / "rabbitmq-server")]
    with subprocess.Popen(
        command,
        env=environment(data_dir, identity),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as shell:
        try:
            return int(shell.communicate()[0])
        except BaseException:  # also Ctrl-C: the node's pid is not known yet, but its group is the shell's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            raise


def node_pid(data_dir: Path) -> int | None:
    """Pid as the node itself has noted it; None before it has, and after it has ended in order."""
    try:
        return int((data_dir / "pid").read_text())
    except (OSError, ValueError):
        return None


def is_node(pid: int, identity: files.Identity) -> bool:
    """Whether `pid` is this node and not a process that was given its number later."""
    if not process_alive(pid):
        return False
    try:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # macOS has no /proc, slim Linux images have no ps
        command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
        shown = subprocess.run(command, capture_output=True, check=False).stdout
    return identity.name.encode() in shown


def pid_of(data_dir: Path, identity: files.Identity, noted: int | None) -> int | None:
    """Pid of this folder's node. noted: in `broker.json`, which is old where the last start was killed."""
    return noted if noted is not None and is_node(noted, identity) else node_pid(data_dir)


def halt(pid: int | None, identity: files.Identity, *, is_ours: bool = False) -> None:
    """End the node in order, by force after 30 s, and then its port mapper.

    is_ours: it was launched just now, and may still be the script that becomes the node; by force after 5 s then, since
    a node that is told to end while it begins may hang, and has taken nothing yet.
    """
    if pid is not None and (is_ours or is_node(pid, identity)):
        with contextlib.suppress(ProcessLookupError):
            _end(pid, _BEGUN_S if is_ours else _STOP_S)
    # epmd obeys only when it has noticed that the node's connection is gone
    probe.until(lambda: probe.end_epmd(identity.epmd_port), 3)


def _end(pid: int, patience_s: float) -> None:
    """Raises: ProcessLookupError when it has ended between two looks."""
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)  # a stopped process would not see the first
    if not probe.until(lambda: not process_alive(pid), patience_s):
        os.kill(pid, signal.SIGKILL)
        probe.until(lambda: not process_alive(pid), 5)


def failure(data_dir: Path) -> str:
    """Why the node ended while it started, on one line: what its console says after `BOOT FAILED`, else its end."""
    console = _lines(data_dir / CONSOLE)
    for number, line in enumerate(console):
        if line.endswith("during startup:") and number + 1 < len(console):
            return console[number + 1][:_SHOWN_CHARS]
    return " / ".join((console or _lines(data_dir / LOG))[-3:])[-_SHOWN_CHARS:] or "(empty)"


def _lines(path: Path) -> list[str]:
    """The lines that say something; none where there is no file."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
