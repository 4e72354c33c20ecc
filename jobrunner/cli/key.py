"""`jobrunner key new|show|check`: keys that sign and verify. A secret is written to its file and nowhere else."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli import out
from jobrunner.cli.command import group, option, pass_shared
from jobrunner.cli.shared import Shared
from jobrunner.errors import BadValue

if TYPE_CHECKING:
    from jobrunner.keyring import Key, KeyRing

_FILE = click.Path(dir_okay=False, path_type=Path)


@group("key")
def key() -> None:
    """Keys: with one, workers run only jobs that were signed with it."""


@key.command("new", short_help="Make a key; into a file that is not there yet.")
@click.argument("file", type=_FILE, metavar="FILE")
@option("--pair", is_flag=True, help="Ed25519: a private key, and FILE.pub for those who only verify.")
@option("--id", metavar="ID", show_default="the month and 4 hex digits", help="Its name in messages.")
@option(
    "--class",
    type=click.Choice(["producer", "worker", "operator"]),
    help="With --pair: what it may sign: jobs; their course; jobs, cancels and questions.",
)
@option("--jobs", metavar="PATTERN", help="Only jobs of such names, as billing.*; several with commas.")
@pass_shared
def new(shared: Shared, /, file: Path, **options: Any) -> None:
    """Make a key, mode 0600. A file that is there is never overwritten: add its line to a ring by hand.

    Without --pair it is one secret (HMAC-SHA256) for all who sign and all who verify.
    """
    from jobrunner.keyring import new_lines, parse

    if options["class"] and not options["pair"]:
        raise BadValue(problem="--class is for pairs: a shared secret signs everything.", hint="--pair --class worker")
    if any(char.isspace() for char in options["jobs"] or ""):
        raise BadValue(problem=f"--jobs: '{options['jobs']}' has blanks.", hint="--jobs 'billing.*,mail.send'")
    private, public = new_lines(options["id"], options["class"], options["jobs"], is_pair=options["pair"])
    (made,) = parse(private, str(file))
    _write(file, private)
    files = [file]
    if public is not None:
        files.append(file.with_name(f"{file.name}.pub"))
        _write(files[1], public)
    if shared.json:
        out.emit_json({"id": made.kid, "alg": made.alg, "files": [str(one) for one in files]})
        return
    out.emit(made.kid if shared.quiet else f"{shared.mark('✓')} key {made.kid} in {' and '.join(map(str, files))}")
    if public is None:
        shared.talk(f"  Copy {file} to every machine, mode 0600, and set JOBRUNNER_AUTHKEY_FILE.")
    else:
        shared.talk(
            f"  Here: JOBRUNNER_AUTHKEY_FILE={file}. The line in {files[1]} goes into the files of who verifies."
        )


def _write(file: Path, line: str) -> None:
    import os

    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError as exc:
        raise BadValue(problem=f"{file} exists; it is not overwritten.", hint=f"jobrunner key show {file}") from exc
    except OSError as exc:
        raise BadValue(problem=f"{file}: {exc.strerror}.", hint="jobrunner key new ~/jobrunner.key") from exc
    with os.fdopen(fd, "w", encoding="ascii") as stream:
        stream.write(line + "\n")


@key.command("show", short_help="Which keys there are; never a secret.")
@click.argument("file", type=_FILE, required=False, metavar="[FILE]")
@pass_shared
def show(shared: Shared, *, file: Path | None) -> None:
    """The keys of FILE, else those that are configured: ids and what they may; never a secret.

    Piped: id, algorithm, class, state, until, jobs.
    """
    ring = _ring(shared, file)
    rows = [_row(one, ring) for one in ring.keys]
    if shared.json:
        names = ("id", "alg", "class", "state", "until", "jobs")
        keys = [{name: value or None for name, value in zip(names, row, strict=True)} for row in rows]
        out.emit_json({"origin": ring.origin, "keys": keys})
    elif sys.stdout.isatty():
        out.emit(out.plain(f"keys from {ring.origin}", sys.stdout))
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        for row in rows:
            cells = (f"{value:<{width}}" for value, width in zip(row, widths, strict=True) if width)
            out.emit(f"  {'  '.join(cells).rstrip()}")
    else:
        for row in rows:
            out.emit("\t".join(map(out.cell, row)))


def _row(one: "Key", ring: "KeyRing") -> tuple[str, str, str, str, str, str]:
    import time

    until = "" if one.until_s is None else out.iso(one.until_s)
    if one.revoked:
        state = "revoked"
    elif not one.counts(time.time()):
        state = "over"
    else:
        is_first = one in (ring.signer((role,)) for role in ("producer", "worker", "operator"))
        state = "signs" if is_first else "verifies"
    return one.kid, one.alg, one.role or "", state, until, ",".join(one.jobs)


@key.command("check", short_help="Whether they can be used.")
@click.argument("file", type=_FILE, required=False, metavar="[FILE]")
@pass_shared
def check(shared: Shared, *, file: Path | None) -> int:
    """Whether the keys of FILE, else those configured, can be used: mode, owner, each line.

    Exit 2 and the place if not, 1 if no key is in force.
    """
    import time

    ring = _ring(shared, file)
    known = {role: ring.signer((role,)) for role in ("producer", "worker", "operator")}
    signs = {role: None if found is None else found.kid for role, found in known.items()}
    verifies = [one.kid for one in ring.keys if one.counts(time.time())]
    if shared.json:
        out.emit_json({"origin": ring.origin, "signs": signs, "verifies": verifies})
    else:
        mark = shared.mark("✓" if verifies else "✗")
        out.emit(f"{mark} {ring.origin}: {len(verifies)} of {len(ring.keys)} keys in force")
        for role, what in (("producer", "jobs"), ("worker", "what workers say"), ("operator", "cancels, questions")):
            out.emit(f"  {what}: signed with {signs[role]}" if signs[role] else f"  {what}: verified only")
    return 0 if verifies else 1


def _ring(shared: Shared, file: Path | None) -> "KeyRing":
    """Raises: KeyInvalid, KeyFileOpen; BadValue where no key is configured."""
    from jobrunner.keyring import read_ring

    ring = read_ring(file, str(file)) if file is not None else shared.settings.url.ring
    if ring is None:
        hint = "jobrunner key new FILE · JOBRUNNER_AUTHKEY_FILE"
        raise BadValue(problem="No key is configured: nothing is signed or verified.", hint=hint)
    return ring
