"""Variables that are another one for each job, set so that a process does not grow by them.

glibc's setenv keeps each value that it was ever given, since somebody may still point to it: some 65 bytes a job, for
ever. Its putenv keeps nothing: the text that it was given is the variable, and may be written over in place.
Source: glibc manual "Environment Access".
"""

import os
import sys
from typing import Any, Final

ROOM_BYTES: Final = 64
"""A text gets so much more room than it needs at first."""


class Variables:
    """Sets variables of this process, for Python and for what it starts."""

    def __init__(self) -> None:
        self._data: dict[Any, Any] = os.environ._data  # type: ignore[attr-defined] # noqa: SLF001 - as os.environ writes it
        self._texts: dict[str, Any] = {}
        self._putenv: Any = None
        if sys.platform == "linux":  # where the child has ctypes already, for prctl
            import ctypes

            self._putenv = ctypes.CDLL(None, use_errno=True).putenv
            self._buffer = ctypes.create_string_buffer

    def set(self, name: str, value: str) -> None:
        """Set one. Raises: ValueError for what no environment can hold."""
        if self._putenv is None:
            os.environ[name] = value
            return
        key, data = os.fsencode(name), os.fsencode(value)
        if b"\0" in data:
            raise ValueError("embedded null byte")
        text = b"%s=%s\0" % (key, data)
        buffer = self._texts.get(name)
        if buffer is None or len(buffer) < len(text):
            buffer = self._buffer(len(text) + ROOM_BYTES)
        buffer.raw = text
        # also where it is there already: a job may have put another one in its place
        if self._putenv(buffer):
            raise ValueError(f"{name} cannot be set")
        self._texts[name] = buffer  # only now the one before may go: nothing points to it any more
        self._data[key] = data
