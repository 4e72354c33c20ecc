"""RabbitMQ in a container, for machines where it is not installed but Docker answers."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable

from jobrunner.local import files

IMAGE = "rabbitmq:4-management"
CONFIGURED_FOR = "4.0"
"""What the configuration files are made for: any 4.x reads them."""
_ANSWER_S = 10.0
_PULL_S = 900.0


class DockerFailed(Exception):
    """What `docker` wrote to stderr, as one line."""


def docker_answers() -> bool:
    """Whether there is a `docker` command and an engine behind it."""
    if shutil.which("docker") is None:
        return False
    try:
        _docker("version", "--format", "{{.Server.Version}}", timeout_s=_ANSWER_S)
    except DockerFailed:
        return False
    return True


def launch(identity: files.Identity, tick: Callable[[], None]) -> None:
    """Start the container with its data in a volume of the same name, its port on 127.0.0.1 only.

    tick: called while the image is pulled. Raises: DockerFailed.
    """
    name = identity.name
    _docker("rm", "--force", name)
    tick()
    _docker(
        "create",
        *("--name", name, "--hostname", "jobrunner", "--label", "jobrunner.local=true"),
        *("--publish", f"127.0.0.1:{identity.port}:5672", "--volume", f"{name}:/var/lib/rabbitmq"),
        IMAGE,
        timeout_s=_PULL_S,
    )
    tick()
    _docker("cp", "-", f"{name}:/etc/rabbitmq", data=_configuration(identity))
    _docker("start", name)


def running(name: str) -> bool:
    """Whether the container runs."""
    try:
        return _docker("inspect", "--format", "{{.State.Running}}", name).strip() == "true"
    except DockerFailed:
        return False


def halt(name: str, *, wipe: bool) -> None:
    """End the container in order and remove it; with `wipe` its volume too. Nothing happens where there is none."""
    if running(name):
        _docker("stop", "--time", "30", name, timeout_s=60)
    _docker("rm", "--force", name)
    if wipe:
        _docker("volume", "rm", "--force", name)


def log_tail(name: str, lines: int = 3) -> str:
    """The last lines of its log, as one line."""
    try:
        return " / ".join(_docker("logs", "--tail", str(lines), name).split("\n"))
    except DockerFailed as exc:
        return str(exc)


def _configuration(identity: files.Identity) -> bytes:
    """The files as an archive: copied in, not mounted, so that an engine on another machine has them too."""
    contents = {
        "conf.d/20-jobrunner.conf": files.rabbitmq_conf(
            CONFIGURED_FOR, "0.0.0.0:5672", "/etc/rabbitmq/jobrunner.json", console=True
        ),
        "advanced.config": files.advanced_config(),
        "jobrunner.json": files.definitions(identity, CONFIGURED_FOR),
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, text in contents.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(text.encode()), 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return archive.getvalue()


def _docker(*args: str, data: bytes | None = None, timeout_s: float = 60.0) -> str:
    """Run one command of Docker. Raises: DockerFailed."""
    command = ["docker", *args]
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DockerFailed(str(exc)) from exc
    if done.returncode != 0:
        raise DockerFailed(" ".join(done.stderr.decode(errors="replace").split()) or f"exit {done.returncode}")
    return done.stdout.decode(errors="replace")
