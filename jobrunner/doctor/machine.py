"""What can be looked at without a broker: the package, the state folder, the keys, the jobs."""

import asyncio
import os
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

import jobrunner
from jobrunner import __version__
from jobrunner.doctor.check import Check, error, of_error, ok, unknown, warning
from jobrunner.execution.pool import Pool, PoolBroken, PoolMessage, PoolSettings, SlotReady
from jobrunner.folders import state_dir
from jobrunner.instants import show_instant
from jobrunner.keyring import ROLES, KeyRing

DISTRIBUTION: Final = "jobrunner-mq"
LITTLE_BYTES: Final = 200_000_000
SOON_S: Final = 14 * 86_400.0
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


def keys(ring: KeyRing | None, now: float) -> list[Check]:
    """The keys of signed jobs: which ones sign, and until when; nothing where there are none. now: seconds since the
    epoch. Mode, owner and lines of their file were looked at when it was read.
    """
    if ring is None:
        return []
    counting = [key for key in ring.keys if key.counts(now)]
    if not counting:
        return [error("key", f"none of the keys from {ring.origin} is in force", "jobrunner key show")]
    signing = {key.kid: key for role in ROLES if (key := ring.signer((role,), now)) is not None}
    who = f"{', '.join(signing)} {'signs' if len(signing) == 1 else 'sign'}" if signing else "none of them signs"
    number = f"{len(counting)} key{'' if len(counting) == 1 else 's'} in force"
    text = f"{number} of {len(ring.keys)} from {ring.origin}; {who}"
    ends = [(key.until_s, kid) for kid, key in signing.items() if key.until_s is not None]
    if ends and min(ends)[0] - now < SOON_S:
        until_s, kid = min(ends)
        return [warning("key", f"{text}, {kid} only until {show_instant(until_s, now)}", "jobrunner key new FILE")]
    return [ok("key", text)]


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
