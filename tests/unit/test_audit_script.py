"""Advisories fail the check; nobody to ask is told."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"


@pytest.fixture
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {"name": "pika", "version": "1.4.4", "vulns": []}
FLAW = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": [], "description": "…"}
BAD = {"name": "click", "version": "1.0", "vulns": [FLAW, FLAW | {"fix_versions": []}]}
SKIPPED = {"name": "mine", "skip_reason": "not found on PyPI"}


def test_an_advisory_fails(audit: Any) -> None:
    code, said = audit.verdict({"dependencies": [FINE, BAD, SKIPPED]})
    assert code == 1
    assert "click 1.0: PYSEC-1, fixed in 2.0" in said
    assert "no version" in said


def test_what_was_not_audited_is_named(audit: Any) -> None:
    assert audit.verdict({"dependencies": [FINE]}) == (0, "audited: 1 packages, no advisory")
    code, said = audit.verdict({"dependencies": [FINE, SKIPPED]})
    assert code == 0
    assert "not audited: mine (not found on PyPI)" in said
    with pytest.raises(audit.NotAuditedError):
        audit.verdict({"dependencies": [SKIPPED]})


def test_an_answer_is_asked_for_again_once_it_is_old_or_the_lock_is_another(
    audit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([audit.NotAuditedError("no route"), (0, "audited"), (1, "advisories"), (1, "advisories still")])
    asked = []

    def ask(packages: set[str]) -> Any:
        asked.append(packages)
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    lock = tmp_path / "lock"
    lock.write_text("pika==1.4.4 \\\n    --hash=sha256:0\n")
    for name, value in {"LOCK": lock, "FOLDER": tmp_path, "ANSWER": tmp_path / "answer", "ask": ask}.items():
        monkeypatch.setattr(audit, name, value)
    monkeypatch.setattr(audit, "_run", lambda *_: "Foo_Bar==2\n")
    now = [1_000.0]
    monkeypatch.setattr(audit.time, "time", lambda: now[0])

    def said() -> tuple[int, str, int]:
        return audit.main(), capsys.readouterr().out.strip(), len(asked)

    assert said() == (0, "not audited: no route", 1)
    assert said() == (0, "not audited: no route", 1)
    now[0] += audit.FAILED_S
    assert said() == (0, "audited", 2)
    now[0] += audit.ASKED_S / 2
    assert said() == (0, "audited", 2)
    lock.write_text("pika==1.4.5\n")
    assert said() == (1, "advisories", 3)
    assert said() == (1, "advisories still", 4)
    assert asked[0] == {"pika==1.4.4", "foo-bar==2"}
