"""Each mutant of the worker must be caught: `python -m tests.stress.chaos.mutants [NAME ...]`. About five minutes.

A mutant is a folder in `tests/stress/mutants` that stands first on the workers' import path; its `sitecustomize.py`
undoes one rule. For each there are the faults that its rule is about. Exit 1: one was not caught.
"""

import subprocess
import sys

from tests.support.command import ROOT

MUTANTS = {
    "ack_first": (["--only", "worker_killed_at_point", "--seconds", "45", "--gap", "2"], "I1"),
    "no_mandatory": (["--only", "binding_lost", "--seconds", "30", "--gap", "2"], "I1"),
    "epoch_ignored": (["--only", "wire_cut,connections_closed,worker_killed", "--seconds", "90", "--gap", "1"], "I1"),
    "headers_copied": (["--only", "child_killed", "--seconds", "30"], "I1"),
}
"""name: what is done to it, and the invariant that it must break."""


def caught(name: str, options: list[str], invariant: str) -> bool:
    """Whether a run with that mutant fails by that invariant; without the mutant the same run passes."""
    command = [sys.executable, "-m", "tests.stress.chaos.run", "--mutant", name, "--drain", "40", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("VIOLATED ")]
    found = any(line.startswith(f"VIOLATED {invariant}") for line in lines)
    print(f"{name}: {'caught' if found else 'NOT CAUGHT'}", flush=True)
    for line in lines or [*done.stdout.splitlines()[-3:], *done.stderr.splitlines()[-3:]]:
        print(f"    {line[:200]}", flush=True)
    return found


def main() -> int:
    chosen = sys.argv[1:] or list(MUTANTS)
    results = [caught(name, *MUTANTS[name]) for name in chosen]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
