"""`jobrunner map`: its options, and the cut of the line at `:::`."""

from typing import Any

import click

from jobrunner.cli.after import WHEN
from jobrunner.cli.command import Command, option, pass_shared, tail_of
from jobrunner.cli.kinds import BACKOFF, DURATION, POSITIVE_DURATION, PRIORITY, QUEUE, Number
from jobrunner.cli.shared import Shared
from jobrunner.errors import OptionsClash, UsageError

_INPUTS = "jobrunner.inputs"
_MARK = ":::"

EXAMPLES = """\b
  jobrunner map tasks:square ::: 3411 1605 1398
  ls *.jpg | jobrunner map -- convert {} -resize 800 {.}.webp
  jobrunner map -- convert {1} -resize {2} {1.}-{2}.webp ::: *.jpg ::: 800 1600
  jobrunner map --jsonl -a users.jsonl tasks:greet {name} age={age}
  jobrunner map --range 1-1000000 --batch 500 -u tasks:square > squares.txt
  jobrunner map --then 'tasks:report out.csv' -a urls.txt tasks:fetch
  jobrunner map --run crawl --resume -a urls.txt -- curl -sf {}

{} is the input, {.} without its extension, {/} its last part, {//} its folder, {/.} its last part without extension,
{#} its number, {key} a field with --jsonl or --csv. Without any of them the input is the last argument. Several :::
give every combination: {1} and {2} are its parts, also {1.}, {1/}, {1//} and {1/.}; without any of them the parts are
the last arguments. Results are written in the order of the inputs as they come: of a function a line of JSON, of a
command its stdout."""


class MapCommand(Command):
    """Inputs stand behind the first `:::`; it comes behind `--`, if there is one, or before it and ends the line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cut the inputs off before anything else is read."""
        if _MARK in args:
            at = args.index(_MARK)
            args, ctx.meta[_INPUTS] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)


@click.command("map", cls=MapCommand, takes_tail=True, epilog=EXAMPLES, options_metavar="[OPTIONS]")
@click.argument("target", required=False, metavar="TARGET")
@click.argument("args", nargs=-1, metavar="[ARG]... | -- COMMAND [ARG]... [::: INPUT...]...")
@option("-a", "--arg-file", metavar="FILE|-", help="Inputs from a file, one a line (default: from stdin, if piped).")
@option("-0", "--null", is_flag=True, help="Inputs end with NUL, not with a line.")
@option("--jsonl", is_flag=True, help="An input is a JSON value on a line.")
@option("--csv", is_flag=True, help="An input is a row; the first row names the columns.")
@option("--range", metavar="FIRST-LAST[:STEP]", help="Inputs are numbers, both ends included.")
@option("--ordered/--unordered", "-k/-u", default=True, show_default="ordered", help="Results in the order of inputs.")
@option(
    "-m",
    "--max-in-flight",
    type=Number(1, 1_000_000),
    metavar="N",
    show_default="1000; fewer with --batch",
    help="Jobs on their way at most, those included whose results wait for their turn.",
)
@option("--batch", type=Number(1, 100_000), metavar="N", default=1, show_default=True, help="Inputs in one job.")
@option("--run", metavar="NAME", show_default="TASK-1a2b", help="The name of it all, for list, cancel and --resume.")
@option("--resume", is_flag=True, help="With --run: only what has not succeeded; what goes on is waited for.")
@option("--retry-failed", is_flag=True, help="With --run: only what is dead.")
@option("--halt", metavar="WHEN,WHY", show_default="never", help="soon,fail=5%; now,fail=1 (cancels); now,success=1.")
@option("--joblog", metavar="FILE", help="A line for each input that has ended, in GNU parallel's columns.")
@option("--results", metavar="DIR", help="A folder for each input: input, stdout, stderr or result.json.")
@option("--then", metavar="CALL", help="Run this once all have ended, whoever is gone: 'tasks:report out.csv'.")
@option(
    "--when", type=click.Choice(WHEN), help="With --then: if all succeed (so by default), if one fails, or at the end."
)
@option("--detach", is_flag=True, help="Queue it all, print the name of the run, wait for nothing.")
@option("-q", "--queue", type=QUEUE, metavar="NAME", show_default="task_queue", help="Created if it is missing.")
@option("--delay", type=DURATION, metavar="DUR", help="Not before that long from now.")
@option(
    "--expires", type=POSITIVE_DURATION, metavar="DUR", help="Not started later than that after it is due: expired."
)
@option("--priority", type=PRIORITY, metavar="0-9|low|normal|high", show_default="4", help="Higher first.")
@option("--retries", type=Number(0, 999_999), metavar="N", show_default="3", help="Attempts after the first.")
@option("--backoff", type=BACKOFF, metavar="DUR[..MAX]", show_default="10s..1h", help="Doubles, with jitter.")
@option("--timeout", type=POSITIVE_DURATION, metavar="DUR", help="TERM, then KILL; counts as a failure.")
@option("--tag", multiple=True, metavar="T", help="For filters; may be repeated.")
@option("--env", multiple=True, metavar="K[=V]", help="A variable for the jobs; with its value from here, or V.")
@option("--cwd", metavar="DIR", help="The jobs' folder; it must exist at the worker.")
@option("-n", "--dry-run", is_flag=True, help="Print what would run, publish nothing.")
@pass_shared
@click.pass_context
def map_command(
    ctx: click.Context, shared: Shared, /, target: str | None, args: tuple[str, ...], **options: Any
) -> int:
    """Run a function or a command once for each input, on as many machines as have workers.

    Exit 0: all succeeded; 1: some failed; 5: halted early, or a result was cut.
    """
    tail = tail_of(ctx)
    _refuse_clashes(target, tail, options)
    from jobrunner.cli.map_plan import plan
    from jobrunner.cli.map_run import run_map

    return run_map(shared, plan(target, args, tail, ctx.meta.get(_INPUTS), options))


def _refuse_clashes(target: str | None, tail: list[str] | None, options: dict[str, Any]) -> None:
    """Raises: OptionsClash, UsageError."""
    resume, only_dead, detach = options["resume"], options["retry_failed"], options["detach"]
    clashes = {
        f"The target '{target}' and what stands after '--' both say what to run.": target is not None
        and tail is not None,
        "--resume and --retry-failed both say what runs again.": resume and only_dead,
        "--resume needs the name of a run.": resume and options["run"] is None,
        "--retry-failed needs the name of a run.": only_dead and options["run"] is None,
        "--batch is for functions; a command runs once for each input.": options["batch"] > 1 and tail is not None,
        "--halt waits for results, --detach for nothing.": detach and options["halt"] is not None,
        "--joblog waits for results, --detach for nothing.": detach and options["joblog"] is not None,
        "--results waits for results, --detach for nothing.": detach and options["results"] is not None,
        "--when is for --then.": options["when"] is not None and options["then"] is None,
        "--dry-run queues nothing.": options["dry_run"] and (detach or resume or only_dead),
    }
    for sentence, is_clash in clashes.items():
        if is_clash:
            raise OptionsClash(problem=sentence, hint="--run NAME" if "needs" in sentence else "jobrunner map --help")
    if target is None and not (tail and tail[0]):
        raise UsageError(
            message="There is nothing to run." if tail is None else "No command stands after '--'.",
            hint="jobrunner map tasks:square ::: 3 5 8 · ls | jobrunner map -- COMMAND",
        )
