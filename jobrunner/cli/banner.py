"""The first lines of a worker: who it is, where it listens, what it runs."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobrunner.cli import out


def worker_banner(record: logging.LogRecord) -> list[str]:
    """The three lines of `jobrunner worker`."""
    facts: Any = record
    procs = f"{facts.procs} process{'' if facts.procs == 1 else 'es'}"
    return [
        f"jobrunner {facts.version}  worker {facts.worker}  pid {facts.pid}  {procs}",
        f"broker  {facts.broker}  {_product(facts.server_version)}",
        f"queues  {', '.join(facts.queues)}    runs  {_runs(facts)}    signed  {'yes' if facts.signed else 'no'}",
    ]


def _product(version: str) -> str:
    return version if version.startswith("RabbitMQ") else f"RabbitMQ {version}"


def _runs(facts: Any) -> str:
    functions = f"{facts.functions} function{'' if facts.functions == 1 else 's'}"
    what = [f"{functions} in {', '.join(facts.apps)}" if facts.apps else ""]
    if "*" in facts.allow_import:
        what.append("any function")
    elif facts.allow_import:
        what.append(f"functions under {', '.join(facts.allow_import)}")
    programs = ", ".join(facts.allow_programs)
    what.append("any command" if facts.allow_commands else f"commands {programs}" if programs else "no commands")
    return ", ".join(word for word in what if word)


def dev_banner(broker_note: str, apps: Sequence[str]) -> Callable[[logging.LogRecord], list[str]]:
    """The lines of `jobrunner dev`. broker_note: what becomes of the broker afterwards; apps: modules."""

    def banner(record: logging.LogRecord) -> list[str]:
        facts: Any = record
        shown = [line for app in apps if (line := _functions_of(app))]
        example = next((f"{app}:{name} you" for app in apps for name in _names(app)[:1]), "-- echo hello")
        procs = f"{facts.procs} process{'' if facts.procs == 1 else 'es'}"
        return [
            "jobrunner dev: for trying things out. Runs any function or command it receives.",
            f"broker  {facts.broker}  {_product(facts.server_version)}{broker_note}",
            "  ".join([f"worker  {facts.worker}", procs, "reloads on *.py", *shown]),
            f"Try, in another terminal:  jobrunner enqueue {example}",
        ]

    return banner


def _functions_of(app: str) -> str:
    path = _source(app)
    if path is None:
        return ""
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return out.printable(f"{shown}: {', '.join(_names(app)) or 'no functions yet'}")


def _names(app: str) -> list[str]:
    from jobrunner.sources import read_module

    path = _source(app)
    module = read_module(path) if path else None
    return module.names if module else []


def _source(app: str) -> Path | None:
    from jobrunner.sources import find_module

    return find_module(app, Path.cwd())
