"""Are there advisories against what is locked or installed? Asks PyPI, by pip-audit in an environment of its own.

    python scripts/audit.py            exit 1 if there are

Where PyPI's advisories cannot be had, as behind a mirror, it says "not audited" and why, and exits with 0: what was not
asked is no finding. An answer is good for a day, a failure to ask for an hour; a changed lock asks again.
"""

import hashlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements.lock"
FOLDER: Final = ROOT / ".audit"
ANSWER: Final = FOLDER / "answer.json"
SERVICE: Final = "https://pypi.org/pypi/pip/24.0/json"
TIMEOUT_S: Final = 10
ASKED_S: Final = 86_400
FAILED_S: Final = 3600
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


class NotAuditedError(Exception):
    """Nobody could be asked."""


def pinned(text: str) -> set[str]:
    """`name==version` of each line that pins one."""
    return {f"{name.lower().replace('_', '-')}=={version}" for name, version in _PINNED.findall(text)}


def verdict(document: dict[str, Any]) -> tuple[int, str]:
    """Exit code and sentence for what pip-audit has found. Raises: NotAuditedError."""
    packages = document["dependencies"]
    skipped = [f"{one['name']} ({one['skip_reason']})" for one in packages if "skip_reason" in one]
    bad = [
        f"  {one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version'}"
        for one in packages
        for flaw in one.get("vulns", ())
    ]
    if bad:
        return 1, "\n".join(["advisories:", *bad])
    if len(skipped) == len(packages):
        raise NotAuditedError(f"PyPI knows nothing about any of {len(packages)} packages")
    said = f"audited: {len(packages) - len(skipped)} packages, no advisory"
    return 0, "\n".join([said, *(f"not audited: {one}" for one in skipped)])


def ask(packages: set[str]) -> tuple[int, str]:
    """Exit code and sentence. Raises: NotAuditedError."""
    _probe()
    audit = _pip_audit()
    listed = FOLDER / "packages.txt"
    listed.write_text("\n".join(sorted(packages)) + "\n")
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run([audit, *options, "--requirement", listed], capture_output=True, text=True, check=False)
    try:
        return verdict(json.loads(done.stdout))
    except ValueError as exc:
        raise NotAuditedError(f"pip-audit: {(done.stderr.strip().splitlines() or ['no answer'])[-1][:200]}") from exc


def _probe() -> None:
    """Whether the service is there at all, before anything is installed for it. Raises: NotAuditedError."""
    try:
        with urllib.request.urlopen(SERVICE, timeout=TIMEOUT_S) as answer:
            if "vulnerabilities" not in json.load(answer):
                raise NotAuditedError(f"{SERVICE} has no advisories")
    except (OSError, ValueError) as exc:
        raise NotAuditedError(f"{SERVICE}: {exc}") from exc


def _pip_audit() -> Path:
    """The program, installed where it is not. Raises: NotAuditedError."""
    program = FOLDER / "bin" / "pip-audit"
    if not program.exists():
        try:
            _run(sys.executable, "-m", "venv", str(FOLDER))
            _run(str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "pip-audit")
        except subprocess.CalledProcessError as exc:
            raise NotAuditedError("pip-audit cannot be installed") from exc
    return program


def _run(*args: str) -> str:
    return subprocess.run(args, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Ask, or say again what was answered."""
    packages = pinned(LOCK.read_text()) | pinned(_run(sys.executable, "-m", "pip", "freeze", "--exclude-editable"))
    key = hashlib.sha256("\n".join(sorted(packages)).encode()).hexdigest()
    now = time.time()
    try:
        known = json.loads(ANSWER.read_text())
    except (OSError, ValueError):
        known = {}
    if known.get("key") != key or not 0 <= now - known["at"] < known["good_s"]:
        try:
            code, said = ask(packages)
            good_s = ASKED_S
        except NotAuditedError as exc:
            code, said, good_s = 0, f"not audited: {exc}", FAILED_S
        known = {"key": key, "at": now, "code": code, "said": said, "good_s": 0 if code else good_s}
        FOLDER.mkdir(exist_ok=True)
        ANSWER.write_text(json.dumps(known))
    print(known["said"])
    return int(known["code"])


if __name__ == "__main__":
    sys.exit(main())
