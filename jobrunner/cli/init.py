"""`jobrunner init`: the first files of a project."""

from pathlib import Path

import click

from jobrunner.cli import out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.shared import Shared


@command("init", short_help="Write a configuration and a first job.")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@option("--compose", is_flag=True, help="Also docker-compose.yml: RabbitMQ and a worker.")
@pass_shared
def init(shared: Shared, /, directory: Path, *, compose: bool) -> int:
    """Write jobrunner.toml and tasks.py into DIR (here), with comments; --compose: docker-compose.yml as well.

    Nothing is overwritten: exit 1 if one of them exists, and then nothing is written.
    """
    from jobrunner.errors import BadValue, FilesExist

    files = ["jobrunner.toml", "tasks.py", *(["docker-compose.yml"] if compose else [])]
    if existing := [name for name in files if (directory / name).exists() or (directory / name).is_symlink()]:
        raise FilesExist(files=", ".join(str(directory / name) for name in existing))
    try:
        _write(directory, files, shared)
    except OSError as exc:
        problem = f"Cannot write '{exc.filename or directory}': {exc.strerror}."
        raise BadValue(problem=problem, hint="jobrunner init DIR") from exc
    if shared.json:
        out.emit_json({"files": [str(directory / name) for name in files]})
    place = "" if directory == Path() else f"cd {directory} && "
    shared.talk(f"Try it:  {place}{'docker compose up' if compose else 'jobrunner dev'}")
    shared.talk("  and:  jobrunner enqueue tasks:hello you --wait")
    return 0


def _write(directory: Path, files: list[str], shared: Shared) -> None:
    """Make the files, and name each on stdout. Raises: OSError."""
    from importlib.resources import files as packaged

    directory.mkdir(parents=True, exist_ok=True)
    templates = packaged("jobrunner.cli") / "templates"
    for name in files:
        path, text = directory / name, (templates / name).read_text(encoding="utf-8")
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        if not shared.json:
            out.emit(str(path))
