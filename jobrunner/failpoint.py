"""Places where a test may kill, stop or cut a process that runs the released code.

Off unless `JOBRUNNER_FAILPOINT=name:action[:nth]` was set when `arm` was called by `main`; then a call costs one
comparison. Actions: kill (SIGKILL to itself), stop (SIGSTOP), raise, exit.
"""

import os
import signal

_armed: tuple[str, str, int] | None = None
_seen = 0


def arm() -> str | None:
    """Read `JOBRUNNER_FAILPOINT` once. Gives the text that was found, so that the caller can log it."""
    global _armed  # noqa: PLW0603 - one switch for the process, set once at start
    text = os.environ.get("JOBRUNNER_FAILPOINT")
    if text:
        name, _, rest = text.partition(":")
        action, _, nth = rest.partition(":")
        _armed = (name, action, int(nth or 1))
    return text


def is_armed(name: str) -> bool:
    """Whether `name` is the armed failpoint: for code that must get ready before it acts."""
    return _armed is not None and _armed[0] == name


def failpoint(name: str) -> None:
    """Act if `name` is the armed failpoint and this is its nth passing."""
    global _seen  # noqa: PLW0603
    if _armed is None or _armed[0] != name:
        return
    _seen += 1
    if _seen != _armed[2]:
        return
    match _armed[1]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "exit":
            os._exit(99)
        case _:
            raise RuntimeError(f"failpoint {name}")
