"""A terminal for what is printed in this process."""

import io


class Terminal(io.StringIO):
    """Keeps what is written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True
