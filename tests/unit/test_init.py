"""`jobrunner init`: what it writes is right, and nothing is overwritten."""

import tomllib
from pathlib import Path

import pytest

from jobrunner.cli.app import run
from jobrunner.sources import read_module

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("alone")


def test_it_writes_a_configuration_and_a_first_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init"]) == 0
    assert capsys.readouterr().out.split() == ["jobrunner.toml", "tasks.py"]
    assert tomllib.loads(Path("jobrunner.toml").read_text()) == {"worker": {"app": ["tasks"]}, "enqueue": {}}
    module = read_module(Path("tasks.py"))
    assert module is not None
    assert sorted(module.names) == ["add", "hello"]
    assert run(["config", "check"]) == 0


def test_a_folder_that_cannot_be_made_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file")
    assert run(["init", "taken/below"]) == 2
    assert capsys.readouterr().err.startswith("error: Cannot write 'taken/below': Not a directory.\n")


def test_every_line_that_is_commented_out_is_right_too(tmp_path: Path) -> None:
    assert run(["init", "--quiet"]) == 0
    lines = Path("jobrunner.toml").read_text().splitlines()
    used = [line[1:] if line.startswith("#") and line[1:2] not in (" ", "") else line for line in lines]
    # url_file and url exclude each other; a key file must be there
    used = [line for line in used if not line.startswith(("url_file", "authkey_file"))]
    Path("jobrunner.toml").write_text("\n".join(used))
    assert set(tomllib.loads("\n".join(used))) >= {"url", "worker", "enqueue", "tls", "broker", "profiles"}
    assert run(["config", "check"]) == 0
    assert run(["--profile", "prod", "config", "check"]) == 0
    assert tmp_path.exists()


def test_nothing_is_overwritten_and_then_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tasks.py").write_text("mine")
    assert run(["init", "--compose"]) == 1
    assert capsys.readouterr().err.startswith("error: Nothing was written: there is tasks.py already.")
    assert Path("tasks.py").read_text() == "mine"
    assert not Path("jobrunner.toml").exists()


def test_a_folder_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", "init", "new/place", "--compose"]) == 0
    assert '"new/place/docker-compose.yml"' in capsys.readouterr().out
    assert sorted(path.name for path in Path("new/place").iterdir()) == [
        "docker-compose.yml",
        "jobrunner.toml",
        "tasks.py",
    ]


def test_its_compose_file_is_that_of_the_repository_but_for_the_image_and_the_folder() -> None:
    assert run(["init", "--compose", "--quiet"]) == 0
    ours = (ROOT / "docker-compose.yml").read_text().splitlines()
    theirs = Path("docker-compose.yml").read_text().splitlines()
    start, end = theirs.index("      dockerfile_inline: |"), theirs.index('        ENTRYPOINT ["jobrunner"]')
    rest = [*theirs[: start - 1], *theirs[end + 1 :]]
    left_out = ("name: jobrunner", "    build: .", "    image: ${JOBRUNNER_IMAGE")
    wanted = [line.replace("-./examples}", "-.}") for line in ours if not line.startswith(left_out)]
    assert rest[rest.index("services:") :] == wanted[wanted.index("services:") :]
