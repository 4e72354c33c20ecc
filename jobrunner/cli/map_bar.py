"""`crawl-3fd2  412/600 68%  ✓ 411 ✗ 1 ● 8  21/s  eta 9s`, redrawn on the last line of a terminal."""

import asyncio
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from jobrunner.cli import out, phrases
from jobrunner.mapping.line import Counts

QUIET_S: Final = 1.0
"""What ends sooner draws nothing."""

REDRAW_S: Final = 0.2
WINDOW_S: Final = 15.0
"""The rate is that of so many last seconds."""


class Bar:
    """The line. state: how it stands, how many jobs run, and how many inputs there are, None while it is not known."""

    def __init__(self, run: str, state: Callable[[], tuple[Counts, int, int | None]]) -> None:
        self._run = run
        self._state = state
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._is_there = False
        self.was_drawn = False

    async def keep(self) -> None:
        """Draw it, on and on."""
        await asyncio.sleep(QUIET_S)
        while True:
            self._draw()
            await asyncio.sleep(REDRAW_S)

    def clear(self) -> None:
        """Make room for other lines; the next redraw brings it back."""
        if self._is_there:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_there = False

    def _draw(self) -> None:
        sys.stdout.flush()
        counts, running, total = self._state()
        text = self.text(counts, running, total, time.monotonic())
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + out.plain(text, sys.stderr)[:width] + "\x1b[K")
        sys.stderr.flush()
        self._is_there = self.was_drawn = True

    def text(self, counts: Counts, running: int, total: int | None, now: float) -> str:
        """The line at that time."""
        ended = counts.ended + counts.skipped
        parts = [self._run, f"{ended:,}" if total is None else f"{ended:,}/{total:,} {_percent(ended, total)}%"]
        marks = [
            f"✓ {counts.succeeded:,}",
            f"✗ {counts.failed:,}" if counts.failed else "",
            f"● {running:,}" if running else "",
        ]
        parts.append(" ".join(mark for mark in marks if mark))
        rate = self._rate(counts.ended, now)
        if rate:
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
            if total is not None and total > ended:
                parts.append(f"eta {phrases.took(max(1, round((total - ended) / rate)))}")
        return "  ".join(parts)

    def _rate(self, ended: int, now: float) -> float:
        while len(self._samples) > 1 and now - self._samples[1][0] > WINDOW_S:
            self._samples.popleft()
        then, before = self._samples[0]
        self._samples.append((now, ended))
        return (ended - before) / (now - then) if now > then else 0.0


def _percent(part: int, whole: int) -> int:
    return min(100, part * 100 // whole) if whole else 100
