"""Places where a test may kill, stop or cut a process that runs the released code.

Off unless `JOBRUNNER_FAILPOINT=name:action[:nth]` was set when `arm` was called by `main`; then a call costs one
comparison. Actions:

    kill      SIGKILL to itself
    stop      SIGSTOP to itself
    exit      end with 99
    raise     RuntimeError
    sleep=S   block for S seconds
    cut       drop the connections to the broker, as `cut_with` has been told
    hold      say so in the FIFO `JOBRUNNER_FAILPOINT_FIFO` and go on when a byte comes back through it
"""

import os
import signal
import time
from collections.abc import Callable

_armed: tuple[str, str, int] | None = None
_seen = 0
_cut: Callable[[], object] | None = None
_fifo = ""


def arm() -> str | None:
    """Read `JOBRUNNER_FAILPOINT` once. Gives the text that was found, so that the caller can log it."""
    global _armed, _fifo  # noqa: PLW0603 - one switch for the process, set once at start
    text = os.environ.get("JOBRUNNER_FAILPOINT")
    if text:
        name, _, rest = text.partition(":")
        action, _, nth = rest.partition(":")
        _armed = (name, action, int(nth or 1))
        _fifo = os.environ.get("JOBRUNNER_FAILPOINT_FIFO", "")
    return text


def is_armed(name: str) -> bool:
    """Whether `name` is the armed failpoint: for code that must get ready before it acts."""
    return _armed is not None and _armed[0] == name


def cut_with(cut: Callable[[], object]) -> None:
    """What the action `cut` calls."""
    global _cut  # noqa: PLW0603 - one process has one set of connections
    _cut = cut


def failpoint(name: str) -> None:
    """Act if `name` is the armed failpoint and this is its nth passing."""
    global _seen  # noqa: PLW0603
    if _armed is None or _armed[0] != name:
        return
    _seen += 1
    if _seen == _armed[2]:
        _act(name, _armed[1])


def _act(name: str, action: str) -> None:
    word, _, value = action.partition("=")
    match word:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "exit":
            os._exit(99)
        case "sleep":
            time.sleep(float(value))  # noqa: TID251 - the whole process is to stand still
        case "cut" if _cut is not None:
            _cut()
        case "hold":
            _hold(name)
        case _:
            raise RuntimeError(f"failpoint {name}")


def _hold(name: str) -> None:
    """Stand still between two bytes of whoever watches: it opens the FIFO to read, then to write."""
    with open(_fifo, "w") as told:  # noqa: PTH123 - a FIFO, opened by name
        told.write(f"{name} {os.getpid()}\n")
    with open(_fifo, "rb") as going:  # noqa: PTH123
        going.read(1)
