"""What unit tests of the command line and of configuration share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, now the current one. Neither this user's files and variables nor a running broker are found."""
    for name in [*filter(_is_ours, os.environ), "NO_COLOR", "FORCE_COLOR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home/.config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home/.local/share"))
    monkeypatch.setenv("JOBRUNNER_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def _is_ours(name: str) -> bool:
    return name.startswith("JOBRUNNER_")
