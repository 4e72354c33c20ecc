"""The worker's process holds the broker's password and the key: no other process of its user may look into it."""

import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def hide_memory() -> None:
    """No core dump; and on Linux no debugger, no `/proc/PID/environ` and no `/proc/PID/mem` but for root.

    Jobs usually run as the same user. They are not affected: executing a program sets the flag back.
    Source: prctl(2), ptrace(2) "Ptrace access mode checking", proc(5).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
