"""The guardian: kills the process groups of a worker's children when the worker is gone, however it ended.

Run by path, without the site packages, so that it stays small: `python -I -S guardian.py`. Its stdin is one end of a
socketpair; it reads lines, `+pgid` for a group that lives and `-pgid` for one that was reaped.
"""

import contextlib
import os
import signal


def main() -> None:
    """Listen until the other end is closed, then kill what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    rest = b""
    while data := os.read(0, 4096):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
