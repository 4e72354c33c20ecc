"""`jobrunner key`: makes keys that only their owner can read, and never shows one."""

import json
from pathlib import Path

import pytest

from jobrunner.cli.app import run
from jobrunner.keyring import read_ring

pytestmark = pytest.mark.usefixtures("alone")


def test_a_new_key_is_its_owners_alone_and_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "new", "jr.key", "--id", "2026-11"]) == 0
    file = Path("jr.key")
    assert file.stat().st_mode & 0o7777 == 0o600
    assert [key.kid for key in read_ring(file, "test").keys] == ["2026-11"]
    secret = file.read_text().split()[2]
    assert run(["key", "show", "jr.key"]) == 0
    assert run(["key", "check", "jr.key"]) == 0
    assert run(["--json", "key", "show", "jr.key"]) == 0
    said = capsys.readouterr()
    assert secret not in said.out + said.err
    assert json.loads(said.out.splitlines()[-1])["keys"] == [
        {"id": "2026-11", "alg": "hs256", "class": None, "state": "signs", "until": None, "jobs": None}
    ]


def test_a_file_that_is_there_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("jr.key").write_text("precious")
    assert run(["key", "new", "jr.key"]) == 2
    assert "error: jr.key exists; it is not overwritten." in capsys.readouterr().err
    assert Path("jr.key").read_text() == "precious"
    Path("elsewhere").touch()
    Path("link").symlink_to("elsewhere")
    assert run(["key", "new", "link"]) == 2
    assert not Path("elsewhere").read_text()


def test_a_pair_is_a_private_file_and_a_line_for_others() -> None:
    assert run(["key", "new", "w.key", "--pair", "--class", "worker", "--id", "web3"]) == 0
    (private,), (public,) = (read_ring(Path(name), "test").keys for name in ("w.key", "w.key.pub"))
    assert (private.kid, private.role, private.signs) == ("web3", "worker", True)
    assert (public.kid, public.role, public.signs) == ("web3", "worker", False)
    assert public.fits(b"data", private.sign(b"data"))


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["new", "k", "--id", "a b"], "An id has 1 to 32"),
        (["new", "k", "--class", "worker"], "--class is for pairs"),
        (["show"], "No key is configured"),
        (["check", "missing"], "missing: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said(args: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", *args]) == 2
    assert problem in capsys.readouterr().err
    assert not Path("k").exists()


def test_keys_that_count_no_longer_are_said_to_be_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "new", "jr.key", "--id", "old"]) == 0
    file = Path("jr.key")
    line = file.read_text().strip()
    file.write_text(f"{line} until=2020-01-01\n")
    capsys.readouterr()
    assert run(["key", "check", "jr.key"]) == 1
    assert run(["key", "show", "jr.key"]) == 0
    assert "\tover\t2020-01-01T23:59:59.000Z" in capsys.readouterr().out


def test_the_configured_keys_are_found_beside_the_file_that_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "new", "jr.key", "--id", "2026-11"]) == 0
    Path("jobrunner.toml").write_text('authkey_file = "jr.key"\n')
    Path("below").mkdir()
    capsys.readouterr()
    assert run(["config", "show", "--origin"]) == 0
    assert "keys\t2026-11\tjobrunner.toml:1\n" in capsys.readouterr().out
    Path("jr.key").chmod(0o640)
    assert run(["config", "show"]) == 2
    assert "can be read by others (mode 0640)." in capsys.readouterr().err
