"""Each mutant of the worker must be caught: `python -m tests.stress.chaos.mutants [NAME ...]`. About five minutes.

A mutant is a folder in `tests/stress/mutants` that stands first on the workers' import path; its `sitecustomize.py`
undoes one rule. For each there are the faults that its rule is about. Exit 1: one was not caught.
"""

import subprocess
import sys

from tests.support.command import ROOT

CONTROL = "none"
MUTANTS = {
    CONTROL: (
        ["--only", "worker_killed_at_point,binding_lost,connections_closed", "--seconds", "45", "--gap", "2"],
        (),
    ),
    "ack_first": (["--only", "worker_killed_settling", "--seconds", "60", "--gap", "1"], ("I1",)),
    "no_mandatory": (["--only", "binding_lost", "--seconds", "30", "--gap", "2"], ("I1", "I8")),
    "epoch_ignored": (
        ["--only", "wire_cut,connections_closed,worker_killed", "--seconds", "60", "--gap", "1"],
        ("I1", "I8"),
    ),
    "headers_copied": (["--only", "child_killed", "--seconds", "30", "--drain", "60"], ("I1", "I8")),
}
"""name: what is done to it, and the invariants of which it must break one; the good worker breaks none."""


def caught(name: str, options: list[str], invariants: tuple[str, ...]) -> bool:
    """Whether a run with that mutant fails by one of these invariants, or without a mutant by none at all."""
    mutant = [] if name == CONTROL else ["--mutant", name]
    command = [sys.executable, "-m", "tests.stress.chaos.run", "--drain", "120", *mutant, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("VIOLATED ")]
    if name == CONTROL:
        good = done.returncode == 0
        print(f"no mutant: {'passed' if good else 'FAILED'}", flush=True)
    else:
        good = any(line.split()[1] in invariants for line in lines)
        print(f"{name}: {'caught' if good else 'NOT CAUGHT'}", flush=True)
    for line in lines or ([] if good else [*done.stdout.splitlines()[-3:], *done.stderr.splitlines()[-3:]]):
        print(f"    {line[:200]}", flush=True)
    return good


def main() -> int:
    chosen = sys.argv[1:] or list(MUTANTS)
    results = [caught(name, *MUTANTS[name]) for name in chosen]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
