"""What can be looked at without a broker: the package, the state folder, the key file, the jobs."""

import asyncio
import os
import shutil
import stat
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

import jobrunner
from jobrunner import __version__
from jobrunner.doctor.check import Check, error, of_error, ok, unknown, warning
from jobrunner.execution.pool import Pool, PoolBroken, PoolMessage, PoolSettings, SlotReady
from jobrunner.folders import state_dir

DISTRIBUTION: Final = "jobrunner-mq"
LITTLE_BYTES: Final = 200_000_000
IMPORT_S: Final = 30.0


def package() -> Check:
    """Whether `jobrunner` is this program: another distribution of that name installs into the same folder."""
    owners = sorted(set(metadata.packages_distributions().get("jobrunner", ())))
    foreign = [name for name in owners if name != DISTRIBUTION]
    if foreign:
        pip = f"{sys.executable} -m pip"
        fix = f"{pip} uninstall {foreign[0]} && {pip} install --force-reinstall {DISTRIBUTION}"
        return error("package", f"another distribution, '{foreign[0]}', installs a package 'jobrunner' too", fix)
    home = Path(jobrunner.__file__).parent
    here = Path.cwd()
    for shadow in (here / "jobrunner.py", here / "jobrunner" / "__init__.py"):
        if shadow.is_file() and shadow.parent.resolve() != home.resolve() and shadow.resolve() != home / "__init__.py":
            return warning("package", f"{shadow} hides this package from jobs that run here", f"rename {shadow}")
    version = ".".join(str(number) for number in sys.version_info[:3])
    return ok("package", f"{DISTRIBUTION} {__version__}, Python {version}")


def state() -> Check:
    """Whether this machine can keep its view: the folder of the state, its owner, its disk."""
    folder = state_dir()
    near = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(near, os.W_OK | os.X_OK):
        return error("state", f"{folder} cannot be written to", "set JOBRUNNER_STATE_DIR to a folder of yours")
    free_bytes = shutil.disk_usage(near).free
    if free_bytes < LITTLE_BYTES:
        return warning("state", f"{folder} has {free_bytes // 1_000_000} MB left", "set JOBRUNNER_STATE_DIR elsewhere")
    return ok("state", f"{folder}, {free_bytes / 1e9:.1f} GB free")


def key_file(path: str | None) -> list[Check]:
    """The file with the keys of signed jobs; nothing where none is set."""
    if not path:
        return []
    try:
        found = Path(path).stat()
    except OSError as exc:
        return [error("key", f"{path}: {exc.strerror}", "JOBRUNNER_AUTHKEY_FILE")]
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return [error("key", f"The key file {path} can be read by others (mode {mode:04o}).", f"chmod 600 {path}")]
    if found.st_uid != os.geteuid():
        return [
            error(
                "key",
                f"The key file {path} belongs to another user (uid {found.st_uid}).",
                f"chown {os.geteuid()} {path}",
            )
        ]
    return [ok("key", f"{path}, mode {mode:04o}")]


async def tasks(apps: tuple[str, ...]) -> list[Check]:
    """Whether a worker's process can import the modules, and what it finds there: in a child, as a worker does."""
    if not apps:
        return [ok("tasks", "no tasks.py here, and no --app: nothing to import")]
    told: asyncio.Queue[PoolMessage] = asyncio.Queue()
    pool = Pool(PoolSettings(procs=1, worker="doctor", apps=apps), told.put_nowait)
    try:
        async with asyncio.timeout(IMPORT_S):
            await pool.start()
            while True:
                match await told.get():
                    case SlotReady(functions=functions):
                        return [_found(apps, [spec.name for spec in functions])]
                    case PoolBroken(error=exc):
                        return [of_error("tasks", exc)]
                    case _:  # a child that died is started again
                        continue
    except TimeoutError:
        return [
            error("tasks", f"{', '.join(apps)} was not imported within {IMPORT_S:g} s", "what does it do at import?")
        ]
    except OSError as exc:
        return [unknown("tasks", f"no process could be started: {exc.strerror}")]
    finally:
        await pool.stop()


def _found(apps: tuple[str, ...], names: list[str]) -> Check:
    where = ", ".join(apps)
    if not names:
        return warning("tasks", f"{where} has no function with @job", "from jobrunner import job")
    few = ", ".join(sorted(names)[:6]) + (", …" if len(names) > 6 else "")
    return ok("tasks", f"{len(names)} function{'' if len(names) == 1 else 's'} in {where}: {few}")
