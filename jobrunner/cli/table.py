"""The commands that exist. To add one: a line here and its module."""

from importlib import import_module
from typing import Final, NamedTuple

import click


class Entry(NamedTuple):
    """target: `module:attribute` of the click command; section: its heading in the overview."""

    target: str
    section: str
    help: str


COMMANDS: Final = {
    "enqueue": Entry("jobrunner.cli.enqueue:enqueue", "Run", "queue a Python function or a command"),
    "map": Entry("jobrunner.cli.map:map_command", "Run", "a function or a command for each of many inputs"),
    "worker": Entry("jobrunner.cli.worker:worker", "Run", "run queued jobs on this machine"),
    "status": Entry("jobrunner.cli.status:status", "Look", "queues, workers, and what is wrong"),
    "list": Entry("jobrunner.cli.list:list_jobs", "Look", "the jobs that a filter selects"),
    "show": Entry("jobrunner.cli.show:show", "Look", "one job, and why it does not run"),
    "logs": Entry("jobrunner.cli.output:logs", "Look", "what jobs wrote, live with -f"),
    "result": Entry("jobrunner.cli.result:result", "Look", "what a job returned"),
    "wait": Entry("jobrunner.cli.wait:wait", "Look", "wait for jobs to end"),
    "events": Entry("jobrunner.cli.events:events", "Look", "the history itself, as it is written"),
    "retry": Entry("jobrunner.cli.retry:retry", "Fix", "queue dead, cancelled and expired jobs again"),
    "cancel": Entry("jobrunner.cli.cancel:cancel", "Fix", "stop jobs, queued or running"),
    "dead": Entry("jobrunner.cli.dead:dead", "Fix", "what died, by cause; throw it away"),
    "audit": Entry("jobrunner.cli.audit:audit", "Fix", "is every accepted job somewhere? put it right"),
    "progress": Entry("jobrunner.cli.progress:progress", "", "inside a job: say how far it is"),
    "queues": Entry("jobrunner.cli.queues:queues", "Operate", "list, declare, pause or empty queues"),
    "workers": Entry("jobrunner.cli.workers:workers", "Operate", "list workers, ask them"),
    "dev": Entry("jobrunner.cli.dev:dev", "Set up", "try it now: broker + worker"),
    "broker": Entry("jobrunner.cli.broker:broker", "Set up", "a private RabbitMQ on this machine"),
    "init": Entry("jobrunner.cli.init:init", "Set up", "write a configuration and a first job"),
    "doctor": Entry("jobrunner.cli.doctor:doctor", "Set up", "check everything, from here to the workers"),
    "key": Entry("jobrunner.cli.key:key", "Set up", "keys, so that workers run only signed jobs"),
    "config": Entry("jobrunner.cli.config:config", "Set up", "what is configured, and where"),
    "completion": Entry("jobrunner.cli.completion:completion", "Set up", "completion for your shell"),
    "help": Entry("jobrunner.cli.help:help_command", "", "help on a command, filters, exit codes or errors"),
}
"""Name -> entry, in the order of the overview. A command without a section is not shown there."""


ALIASES: Final = {"ls": "list", "ps": "status"}
"""Other names, not shown."""


def load(name: str) -> click.Command | None:
    """The command of that name, its module imported now; None if there is no such command."""
    entry = COMMANDS.get(ALIASES.get(name, name))
    if entry is None:
        return None
    module, _, attribute = entry.target.partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command


def sections() -> dict[str, list[str]]:
    """Heading -> names of its commands."""
    found: dict[str, list[str]] = {}
    for name, entry in COMMANDS.items():
        if entry.section:
            found.setdefault(entry.section, []).append(name)
    return found


def nearest(word: str, known: list[str], prefix: str = "") -> str:
    """` Did you mean 'enqueue'?` with its leading space, or nothing if no known word is near.

    prefix: what all of them begin with, which makes none of them near.
    """
    from difflib import get_close_matches

    found = get_close_matches(word.removeprefix(prefix), [name.removeprefix(prefix) for name in known], n=1)
    return f" Did you mean '{prefix}{found[0]}'?" if found else ""
