"""The demo: real work, done by real worker processes through a real RabbitMQ of its own. Run it with `make demo`.

It uses the installed `jobrunner` command and nothing else of the package, and it ends with exit code 0 only if every
line of its table is as it must be.
"""

import argparse
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import demo_tasks
from stage import WAIT, Answer, DemoFailed, Stage, as_lines, stage, tail, tell

GZIP = ("sh", "-c", 'gzip -c "$1" | wc -c', "sh")
"""Compress a file, print the size. The file is an argument of the shell, never part of its program."""

DEAD = "jobrunner.v1.dead"

_ENQUEUE = "jobrunner enqueue --from - --wait --json"
SOON = ("--backoff", "1s..2s")
"""The default backoff begins at 10 s: too long for a demo."""


@dataclass(frozen=True)
class Line:
    """A line of the table. ok: jobs that ended as they must. seconds: None where a rate would say nothing."""

    name: str
    jobs: int
    ok: int
    seconds: float
    note: str = ""

    @property
    def is_right(self) -> bool:
        """Whether each of its jobs ended as it must."""
        return self.ok == self.jobs


def main() -> int:
    """The exit code: 0 all as it must be, 1 not, 130 and 143 stopped."""
    options = _options()
    signal.signal(signal.SIGTERM, _stop)
    began = time.perf_counter()
    files = real_files(options.files)
    try:
        with stage(options.procs) as here:
            lines = [play(here, files, spoil=options.spoil) for play in PLAYS]
            if not all(line.is_right for line in lines):
                tell(tail(here.log))
    except DemoFailed as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    tell("\n" + table(lines, time.perf_counter() - began))
    return 0 if all(line.is_right for line in lines) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200, metavar="N", help="files of the standard library (200)")
    parser.add_argument("--procs", type=int, default=2, metavar="N", help="processes of the worker (2)")
    parser.add_argument(
        "--spoil", action="store_true", help="expect one wrong value on purpose: the demo must notice and exit with 1"
    )
    return parser.parse_args()


def _stop(_number: int, _frame: object) -> None:
    raise SystemExit(143)


def real_files(limit: int) -> list[str]:
    """The first `limit` source files of the standard library, by name."""
    library = Path(sysconfig.get_path("stdlib"))
    return [str(path) for path in sorted(library.rglob("*.py")) if path.stat().st_size][:limit]


# --- the five plays -------------------------------------------------------------------------------------------------


def commands(here: Stage, files: list[str], *, spoil: bool) -> Line:
    """(a) A command for each file, its output checked against the same command run here."""
    tell(f"\n(a) {len(files)} commands: compress a file, print the size")
    expected = [_gzip_size(path) for path in files]
    if spoil:
        expected[0] += 1
    answer = _enqueue_all(here, [{"run": [*GZIP, path]} for path in files], "commands.jsonl")
    return _compared("commands: gzip a file, print the size", expected, answer, int)


def functions(here: Stage, files: list[str], *, spoil: bool) -> Line:  # noqa: ARG001 - one wrong value is enough
    """(b) A Python function for each file, its result checked against a plain sequential run."""
    tell(f"\n(b) {len(files)} Python calls: words, lines, sha256, n * n")
    expected = [demo_tasks.count(path) for path in files]
    answer = _enqueue_all(here, [{"call": "demo_tasks:count", "args": [path]} for path in files], "calls.jsonl")
    return _compared("Python: words, lines, sha256, n * n", expected, answer, lambda value: value)


def third_time_lucky(here: Stage, _files: list[str], *, spoil: bool) -> Line:  # noqa: ARG001
    """(c) A job that fails twice and then succeeds."""
    tell("\n(c) a job that fails twice, then succeeds")
    answer = here.run("enqueue", "demo_tasks:fails_twice", *SOON, *WAIT)
    job = _only(answer)
    ok = answer.exit_code == 0 and job.get("state") == "succeeded" and job.get("result") == 3
    return Line(
        "fails twice, then succeeds", 1, int(ok), answer.took_s, f"{job.get('state')} at attempt 3" if ok else str(job)
    )


def never(here: Stage, _files: list[str], *, spoil: bool) -> Line:  # noqa: ARG001
    """(d) A job that always fails: it is in the dead-letter queue afterwards."""
    tell("\n(d) a job that always fails")
    answer = here.run("enqueue", "demo_tasks:always_fails", "--retries", "2", *SOON, *WAIT)
    job = _only(answer)
    letters = _dead_letters(here)
    error = job.get("error") or {}
    ok = answer.exit_code == 1 and job.get("state") == "dead" and error.get("reason") == "error" and letters == 1
    note = f"{error.get('class')}, its letter is in {DEAD}" if ok else f"{letters} letters: {job}"
    return Line("always fails", 1, int(ok), answer.took_s, note)


def killed(here: Stage, _files: list[str], *, spoil: bool) -> Line:  # noqa: ARG001
    """(e) A job whose process is killed with SIGKILL: it runs again in another one."""
    tell("\n(e) a job whose process is killed with SIGKILL")
    answer = here.run("enqueue", "demo_tasks:killed_once", str(here.folder / "killed"), *SOON, *WAIT)
    job = _only(answer)
    pids = job.get("result") or []
    ok = answer.exit_code == 0 and len(set(pids)) == 2
    note = f"process {pids[0]} was killed, {pids[1]} ran it again" if ok else str(job)
    return Line("its process is killed (SIGKILL)", 1, int(ok), answer.took_s, note)


PLAYS: tuple[Callable[..., Line], ...] = (commands, functions, third_time_lucky, never, killed)


# --- how they are checked -------------------------------------------------------------------------------------------


def _gzip_size(path: str) -> int:
    return int(subprocess.run([*GZIP, path], capture_output=True, check=True).stdout)


def _enqueue_all(here: Stage, jobs: list[dict[str, Any]], name: str) -> Answer:
    """Queue all and wait for all."""
    text = as_lines(jobs)
    tell(f"$ head -1 {name}\n{text.splitlines()[0]}")
    answer = here.run("enqueue", "--from", "-", *WAIT, stdin=text, shown=f"{_ENQUEUE} < {name} > results.jsonl")
    tell("$ head -1 results.jsonl\n" + (answer.stdout.splitlines() or [answer.stderr])[0])
    return answer


def _compared(name: str, expected: list[Any], answer: Answer, parse: Callable[[Any], Any]) -> Line:
    """How many results are what they must be. The ends come in the order in which the jobs were given."""
    got = [parse(job["result"]) if job.get("state") == "succeeded" else None for job in answer.lines]
    ok = sum(one == value for one, value in zip(got, expected, strict=False))
    return Line(name, len(expected), ok, answer.took_s, "" if ok == len(expected) else answer.stderr[-200:])


def _only(answer: Answer) -> dict[str, Any]:
    """The one document of a command; without one, what it said."""
    return answer.lines[-1] if answer.lines else {"stderr": answer.stderr}


def _dead_letters(here: Stage) -> int:
    """Messages in the dead-letter queue. RabbitMQ counts a little after the fact, so it is asked until there is one."""
    ready = 0
    for _ in range(10):
        listed = here.must("queues", "list", DEAD, "--json").lines
        ready = listed[0]["queues"][0]["ready"]
        if ready:
            break
    return ready


def table(lines: list[Line], total_s: float) -> str:
    """The lines in columns, and what they come to."""
    width = max(len(line.name) for line in lines) + 4
    rows = [f"{'what happened':<{width}}  jobs  as it must  seconds  jobs/s"]
    for letter, line in zip("abcde", lines, strict=True):
        rate = f"{line.jobs / line.seconds:6.0f}" if line.jobs > 1 else "     -"
        mark = "" if line.is_right else "  WRONG"
        cells = f"{line.jobs:4}  {line.ok:10}  {line.seconds:7.1f}  {rate}{mark}"
        rows.append(f"({letter}) {line.name:<{width - 4}}  {cells}{'  ' + line.note if line.note else ''}")
    jobs, wrong = sum(line.jobs for line in lines), sum(line.jobs - line.ok for line in lines)
    verdict = f"{wrong} not as they must be" if wrong else "every line is as it must be"
    return "\n".join([*rows, f"{jobs} jobs in {total_s:.1f} s with the broker's start and stop: {verdict}."])


if __name__ == "__main__":
    sys.exit(main())
