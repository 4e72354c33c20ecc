"""`-w, --watch [DUR]`: an option whose value may be left out, and the loop that draws again and again."""

import sys
from collections.abc import Callable
from typing import Any, Final

from jobrunner.cli.command import option
from jobrunner.cli.kinds import POSITIVE_DURATION

EVERY: Final = "2s"
_NAMES: Final = ("-w", "--watch")


def watch_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option; the command also needs `prepare=fill_in`."""
    add = option("-w", "--watch", type=POSITIVE_DURATION, metavar="[DUR]", help=f"Again every DUR ({EVERY}).")
    return add(command)


def fill_in(args: list[str]) -> list[str]:
    """`-w` that no duration follows becomes `--watch=2s`: what follows is the next word, not its value."""
    from jobrunner.durations import parse_duration
    from jobrunner.errors import BadDuration

    filled: list[str] = []
    for index, word in enumerate(args):
        if word not in _NAMES:
            filled.append(word)
            continue
        following = args[index + 1] if index + 1 < len(args) else ""
        try:
            parse_duration(following)
        except BadDuration:
            filled.append(f"--watch={EVERY}")
        else:
            filled.append(word)
    return filled


async def repeat(every_s: float, draw: Callable[[], Any], changed: Any = None) -> None:
    """Draw now and then every `every_s` seconds, on a terminal each time on an empty screen; never returns.

    changed: a task that keeps the view current; its error ends the watch.
    """
    import asyncio

    from jobrunner.cli.draw import clear

    while True:
        if sys.stdout.isatty():
            clear()
        answer = draw()
        if asyncio.iscoroutine(answer):
            await answer
        sys.stdout.flush()
        if changed is None:
            await asyncio.sleep(every_s)
        else:
            await asyncio.wait([changed], timeout=every_s)
            if changed.done():
                changed.result()
                return
