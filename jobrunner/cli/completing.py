"""Ids and queues for completion: written down by commands that look, read without the network and without SQLite."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from jobrunner.folders import state_dir

if TYPE_CHECKING:
    from jobrunner.view.store import Store

FILE: Final = "completion.tsv"
NEWEST: Final = 50


def remember(store: "Store") -> None:
    """Write down the newest jobs and the queues of the view that was looked at last."""
    import time

    from jobrunner.cli.out import cell, printable
    from jobrunner.view.filters import parse

    rows = store.jobs(parse(["all"], now=time.time(), user=""), limit=NEWEST)
    lines = [f"id\t{row.id[:8]}\t{cell(printable(f'{row.state} {row.name}'))}" for row in rows]
    lines += [f"queue\t{cell(printable(row.queue))}\t" for row in store.counts(time.time()) if row.queue]
    text = "".join(f"{line}\n" for line in lines)
    path = state_dir() / FILE
    with contextlib.suppress(OSError):  # completion is a comfort: what cannot be written is left out
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        fresh = path.with_name(f"{FILE}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)


def _remembered(kind: str) -> list[tuple[str, str]]:
    try:
        lines = (state_dir() / FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    rows = (line.split("\t") for line in lines)
    return [(row[1], row[2]) for row in rows if len(row) == 3 and row[0] == kind]


def complete_ids(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids that begin so; queues after `queue:`."""
    if incomplete.startswith("queue:"):
        return [CompletionItem(f"queue:{name}") for name, _ in _remembered("queue") if name.startswith(incomplete[6:])]
    return [CompletionItem(name, help=text) for name, text in _remembered("id") if name.startswith(incomplete)]


def complete_queues(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Queues that begin so."""
    return [CompletionItem(name) for name, _ in _remembered("queue") if name.startswith(incomplete)]


def cache_file() -> Path:
    """Where it is written down."""
    return state_dir() / FILE
