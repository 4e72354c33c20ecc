"""`jobrunner progress`: for commands that run as jobs."""

import click

from jobrunner.cli import out
from jobrunner.cli.command import command, pass_shared
from jobrunner.cli.shared import Shared


@command("progress", short_help="Inside a job: say how far it is.")
@click.argument("fraction")
@click.argument("text", nargs=-1)
@pass_shared
def progress(shared: Shared, fraction: str, text: tuple[str, ...]) -> int:
    """Inside a job that runs a command: say how far it is, as `jobrunner progress 40% "second of five"`.

    FRACTION is 40%, 0.4, or - where it is not known. `list` and `show` tell it at once. No broker is asked.
    """
    import os

    from jobrunner.errors import BadValue, NotInJob
    from jobrunner.execution.progress import FILE_VARIABLE, parse_fraction, to_line

    path = os.environ.get(FILE_VARIABLE)
    if not path:
        raise NotInJob
    share = parse_fraction(fraction)
    if share is None and fraction != "-":
        raise BadValue(problem=f"'{fraction}' is no share of a whole.", hint='40% · 0.4 · - "no number, only text"')
    line = to_line(share, " ".join(text))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError as exc:
        raise NotInJob(hint=f"{path}: {exc.strerror}") from exc
    try:
        os.write(handle, f"{line}\n".encode())  # one write, so that two of them never mix
    finally:
        os.close(handle)
    if shared.json:
        out.emit_json({"fraction": share, "text": " ".join(text) or None})
    return 0
