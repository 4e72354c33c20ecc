"""What a bug report says besides the checks: versions and which variables are set; no value of any of them."""

import os
import platform
import sys
from importlib import metadata
from typing import Any, Final

LIBRARIES: Final = ("click", "msgspec", "pika", "platformdirs", "rich", "cryptography")


def facts() -> dict[str, Any]:
    """Field -> value."""
    from jobrunner import __version__

    return {
        "jobrunner": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name)) is not None},
        "variables": sorted(name for name in os.environ if name.startswith("JOBRUNNER_")),
        "encoding": sys.stdout.encoding or "?",
    }


def heading() -> list[str]:
    """The same as lines."""
    found = facts()
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    return [
        f"jobrunner {found['jobrunner']}, Python {found['python']}, {found['platform']}, {found['encoding']}",
        libraries,
        f"set: {', '.join(found['variables']) or 'no JOBRUNNER_ variable'}",
        "",
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
