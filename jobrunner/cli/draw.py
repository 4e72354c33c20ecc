"""Tables on a terminal. The one module that imports rich, and only to draw: what is piped never pays for it."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from jobrunner.cli import out

if TYPE_CHECKING:
    from rich.text import Text

Cell = str | tuple[str, str]
"""A text, or a text and its colour. Texts of jobs must have gone through `out.printable`."""

GAP: Final = 2
FEWEST_COLUMNS: Final = 40
HARDLY: Final = 16
"""So wide at least a flexible column should be, if it has as much to show."""


def width() -> int:
    """Columns of the terminal."""
    return max(FEWEST_COLUMNS, shutil.get_terminal_size((100, 24)).columns)


class Column:
    """A column. right: numbers. flexible: gives way, cut with an ellipsis, when the terminal is narrow.

    spare: not 0: left out where flexible columns would otherwise have hardly any room; the greatest goes first.
    """

    def __init__(self, title: str, *, right: bool = False, flexible: bool = False, spare: int = 0) -> None:
        self.title = title
        self.right = right
        self.flexible = flexible
        self.spare = spare


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], color: str) -> str:
    """A table without boxes, as wide as its content and no wider than the terminal. color: as typed."""
    from rich.console import Console
    from rich.table import Table

    columns, rows = _fitting(columns, list(rows))
    has_color = out.has_color(color, sys.stdout)
    console = Console(
        file=sys.stdout,
        width=width(),
        force_terminal=has_color,
        no_color=not has_color,
        color_system="standard" if has_color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    drawn = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=any(each.title for each in columns))
    for column in columns:
        drawn.add_column(_text(column.title), justify="right" if column.right else "left", no_wrap=not column.flexible)
    for row in rows:
        drawn.add_row(*(_text(cell) for cell in row))
    with console.capture() as captured:
        console.print(drawn)
    lines = (line.rstrip() for line in captured.get().splitlines())
    return out.plain("\n".join(lines), sys.stdout)


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> tuple[list[Column], list[list[Cell]]]:
    """Without the spare columns for which there is no room."""
    from rich.cells import cell_len

    widths = []
    for at, column in enumerate(columns):
        texts = [column.title, *(cell if isinstance(cell, str) else cell[0] for cell in (row[at] for row in rows))]
        most = max(map(cell_len, texts))
        widths.append(GAP + (min(most, HARDLY) if column.flexible else most))
    kept = list(range(len(columns)))
    for at in sorted((at for at in kept if columns[at].spare), key=lambda at: -columns[at].spare):
        if sum(widths[each] for each in kept) - GAP > width():
            kept.remove(at)
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _text(cell: Cell) -> "Text":
    from rich.text import Text

    text, style = (cell, "") if isinstance(cell, str) else cell
    return Text(text, style=style, no_wrap=True, overflow="ellipsis", end="")


def clear() -> None:
    """An empty screen, the cursor at its top."""
    sys.stdout.write("\x1b[H\x1b[2J\x1b[3J")
