"""Each mutant of the worker must be caught: `python -m tests.stress.chaos.mutants [NAME ...]`. About eight minutes.

A mutant is a folder in `tests/stress/mutants` that stands first on the workers' import path; its `sitecustomize.py`
undoes one rule. For each there are the faults that its rule is about; the same run with the worker as it is must pass.
Exit 1: one was not caught, or the good worker was blamed.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.support.command import ROOT

STEADY = ("--kind", "steady", "--rate", "0.15", "--lost-after", "3s")
"""Jobs of three seconds, a few more than can be run: one always waits, and none ends between two looks."""

MUTANTS = {
    "epoch_ignored": (
        ["--only", "confirm_after_next_job", "--seconds", "45", "--gap", "1", *STEADY],
        ("I1",),
    ),
    "ack_first": (["--only", "worker_killed_settling", "--seconds", "60", "--gap", "1"], ("I1",)),
    "no_mandatory": (["--only", "binding_lost", "--seconds", "30", "--gap", "2"], ("I1", "I8")),
    "headers_copied": (["--only", "child_killed", "--seconds", "30", "--drain", "60"], ("I1", "I8")),
}
"""name: what is done to it, and the invariants of which it must break one; the good worker breaks none."""


def run(*options: str) -> tuple[int, list[str], list[str]]:
    """Exit code, what was violated, the last lines."""
    command = [sys.executable, "-m", "tests.stress.chaos.run", "--drain", "120", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    violated = [line for line in done.stdout.splitlines() if line.startswith("VIOLATED ")]
    return done.returncode, violated, [*done.stdout.splitlines()[-3:], *done.stderr.splitlines()[-3:]]


def tell(text: str, lines: list[str]) -> None:
    print(text, flush=True)
    for line in lines:
        print(f"    {line[:200]}", flush=True)


def control(name: str) -> bool:
    """Whether the good worker passes the run of that mutant."""
    code, violated, last = run(*MUTANTS[name][0])
    tell(f"{name}, not broken: {'passed' if code == 0 else 'FAILED'}", [] if code == 0 else violated or last)
    return code == 0


def caught(name: str) -> bool:
    """Whether a run with that mutant fails by one of its invariants."""
    options, invariants = MUTANTS[name]
    _, violated, last = run("--mutant", name, *options)
    good = any(line.split()[1] in invariants for line in violated)
    tell(f"{name}: {'caught' if good else 'NOT CAUGHT'}", violated or last)
    return good


def main() -> int:
    chosen = sys.argv[1:] or list(MUTANTS)
    results = []
    for name in chosen:
        with ThreadPoolExecutor() as both:  # each has a broker of its own, and mostly waits
            results += both.map(lambda judge, name=name: judge(name), (control, caught))  # type: ignore[misc]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
