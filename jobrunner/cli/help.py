"""`jobrunner help`: help on a command, and the two tables that every script needs."""

import sys

import click

from jobrunner.cli import out, table
from jobrunner.cli.command import Command, Group, command
from jobrunner.errors import NoSuchCommand

EXIT_CODES = {
    0: 'done; also "nothing to do"',
    1: "what was asked about is not well: a job failed, a check found a problem",
    2: "wrong usage or configuration",
    3: "broker unreachable, refused, blocked",
    4: "no such job, queue, worker",
    5: "partly done, or not confirmed",
    70: "a bug in jobrunner, report written",
    124: "the timeout of a waiting command ran out",
    130: "ended by Ctrl-C before its end",
    143: "ended by SIGTERM before its end",
}


FILTERS = """\
Words that select jobs, for list, logs, wait, retry, cancel and dead. A job must fit every word; what stands between
commas are alternatives.

  k7f2                      an id, or its beginning: 4 of its 16 characters or more
  last, last:5, all         the newest of yours; everything
  state:dead,retrying       waiting scheduled queued running retrying succeeded dead cancelled expired;
                            failed is dead,retrying; active is all that has not ended
  queue:video queue:img-*   exact, or a pattern with *
  task:tasks.resize         a function, also by its last part, task:resize; a command by its program
  tag:import run:crawl      likewise; also worker: host: user:
  args.user_id:42           a keyword argument; args.0: is the first positional one; numbers compare as numbers
  error:TimeoutError        the class of the error
  cause:3f2a                a group of failures with one cause
  exit:137                  the exit code of a command
  reason:timeout            exit error permanent cannot_start crash timeout bad_arguments bad_result not_allowed
                            unsigned bad_signature signature_expired malformed too_large oom poison unknown_function
                            version
  since:2h before:2026-11-20   created after, before
  slower:30s                ran longer than that, or has been running for longer
  not:queue:low             the opposite of a word

Without a word: list takes everything; show, logs, result and wait take your newest job;
retry and cancel need one.
Ids come first in a pipe:  jobrunner list state:dead | cut -f 1"""


@command("help")
@click.argument("topic", nargs=-1, metavar="[COMMAND | filters | exit-codes | errors]")
@click.pass_context
def help_command(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Help on a command, on the words that select jobs, on exit codes or on errors."""
    root = ctx.find_root()
    match topic:
        case ():
            click.echo(root.get_help())
        case ("filters",):
            out.emit(out.plain(FILTERS, sys.stdout))
        case ("exit-codes",):
            out.emit("\n".join(f"{code:<4} {meaning}" for code, meaning in EXIT_CODES.items()))
        case ("errors",):
            out.emit(out.plain(_errors(), sys.stdout))
        case _:
            click.echo(_help_on(root, topic))


def _help_on(root: click.Context, words: tuple[str, ...]) -> str:
    ctx = root
    for word in words:
        group = ctx.command
        child = group.get_command(ctx, word) if isinstance(group, click.Group) else None
        if child is None:
            known = group.list_commands(ctx) if isinstance(group, Group) else []
            raise NoSuchCommand(name=" ".join(words), suggestion=table.nearest(word, known))
        ctx = child.context_class(
            child, info_name=word, parent=ctx, **(child.context_settings if isinstance(child, Command) else {})
        )
    return ctx.get_help()


def _errors() -> str:
    from jobrunner.errors import catalogue

    lines = []
    for row in sorted(catalogue(), key=lambda row: (row.exit_code, row.code)):
        lines.append(f"{row.code} [{row.exit_code}]\n  {row.text}")
        if row.hint_text:
            lines.append(f"  hint: {row.hint_text}")
    return "\n".join(lines)
