"""`jobrunner enqueue`: the options, and which of its four forms was typed."""

from typing import Any

import click

from jobrunner.cli.after import WHEN, after_of
from jobrunner.cli.command import command, option, pass_shared, tail_of
from jobrunner.cli.kinds import BACKOFF, DURATION, POSITIVE_DURATION, PRIORITY, QUEUE, Number
from jobrunner.cli.shared import Shared
from jobrunner.errors import OptionsClash, UsageError

EXAMPLES = """\b
  jobrunner enqueue tasks:resize photo.jpg width=800 --delay 5m
  jobrunner enqueue -q video --retries 0 -- ffmpeg -i in.mov out.mp4
  jobrunner enqueue --shell 'pg_dump app | gzip > app.sql.gz'
  jobrunner enqueue tasks:add 2 3 --wait
  jobrunner enqueue tasks:report --after k7f2m9xq
  jobrunner enqueue --from photos.jsonl

An ARG that is a JSON literal (42, true, null, [...], {...}, "...") is that value, else it is text. name=value is a
keyword argument, name:=JSON demands JSON, name=@FILE reads a file, name=@@x is the text '@x'. The parsed call is shown.
A line of --from: {"call": "mod:fn", "args": [], "kwargs": {}} or {"run": ["prog", "arg"]}, and options by long name."""


@command("enqueue", takes_tail=True, epilog=EXAMPLES, options_metavar="[OPTIONS]")
@click.argument("target", required=False, metavar="TARGET")
@click.argument("args", nargs=-1, metavar="[ARG]... | -- COMMAND [ARG]...")
@option("-q", "--queue", type=QUEUE, metavar="NAME", show_default="task_queue", help="Created if it is missing.")
@option("--delay", type=DURATION, metavar="DUR", help="Not before that long from now.")
@option("--at", metavar="TIME", help="Not before then: 07:00, 'mon 07:00', '2026-11-22 07:00', RFC 3339.")
@option("--after", multiple=True, metavar="ID[,ID...]", help="Waits for the end of these jobs, or of run:NAME.")
@option(
    "--when", type=click.Choice(WHEN), help="With --after: if all succeed (so by default), if one fails, or at the end."
)
@option(
    "--expires", type=POSITIVE_DURATION, metavar="DUR", help="Not started later than that after it is due: expired."
)
@option("--priority", type=PRIORITY, metavar="0-9|low|normal|high", show_default="4", help="Higher first.")
@option("--retries", type=Number(0, 999_999), metavar="N", show_default="3", help="Attempts after the first.")
@option("--backoff", type=BACKOFF, metavar="DUR[..MAX]", show_default="10s..1h", help="Doubles, with jitter.")
@option("--timeout", type=POSITIVE_DURATION, metavar="DUR", help="TERM, then KILL; counts as a failure.")
@option("--id", metavar="ID", help="Instead of a random id; a known one is not queued again.")
@option("--tag", multiple=True, metavar="T", help="For filters; may be repeated.")
@option("--label", metavar="TEXT", help="For people.")
@option("--env", multiple=True, metavar="K[=V]", help="A variable for the job; with its value from here, or V.")
@option("--cwd", metavar="DIR", help="The job's folder; it must exist at the worker.")
@option("--stdin", is_flag=True, help="This stdin becomes the command's.")
@option("--shell", metavar="LINE", help="Run LINE with /bin/sh -c.")
@option("--arg", multiple=True, metavar="V", help="One literal text ARG, after the others; repeat.")
@option("--raw", is_flag=True, help="Every ARG is text.")
@option("--from", metavar="FILE|-", help="Many jobs, one JSON object a line.")
@option("--strict", is_flag=True, help="With --from: stop at the first line that is no job.")
@option("--wait", is_flag=True, help="Wait and print the result; exit 0, or 1 if the job failed.")
@option("-f", "--follow", is_flag=True, help="Show what it writes until its end; exit 0, or 1 if the job failed.")
@option("--wait-timeout", type=POSITIVE_DURATION, metavar="DUR", help="Wait no longer; exit 124, the job goes on.")
@option("--exit-code", is_flag=True, help="With --wait or --follow: the command's own exit code.")
@option("-n", "--dry-run", is_flag=True, help="Print message and route, publish nothing.")
@pass_shared
@click.pass_context
def enqueue(ctx: click.Context, shared: Shared, /, target: str | None, args: tuple[str, ...], **options: Any) -> int:
    """Queue a Python function, a command, a shell line, or many jobs from a file.

    A worker runs it at least once; the command returns once the broker has confirmed the job.
    """
    tail = tail_of(ctx)
    _refuse_clashes(target, tail, options)
    if options["after"]:
        options["after"] = after_of(shared, options["after"], options["when"] or WHEN[0])
    if options["from"] is not None:
        from jobrunner.cli.enqueue_many import enqueue_many

        return enqueue_many(shared, options)
    from jobrunner.cli.enqueue_one import enqueue_one
    from jobrunner.cli.enqueue_plan import plan_call, plan_command

    if target is not None:
        return enqueue_one(shared, plan_call(target, args, options), options)
    argv = ["/bin/sh", "-c", options["shell"]] if options["shell"] else tail
    if not argv or not argv[0]:
        raise UsageError(
            message="There is nothing to enqueue." if tail is None else "No command stands after '--'.",
            hint="jobrunner enqueue tasks:resize a.jpg · jobrunner enqueue -- COMMAND",
        )
    return enqueue_one(shared, plan_command(argv, options), options)


def _refuse_clashes(target: str | None, tail: list[str] | None, options: dict[str, Any]) -> None:
    """Raises: OptionsClash for options that say two things at once, or one that has no use here."""
    source, shell, follow = options["from"], options["shell"], options["follow"]
    wait = options["wait"] or follow
    what = [
        f"the target '{target}'" if target is not None else "",
        "what stands after '--'" if tail is not None else "",
        "--shell" if shell is not None else "",
        "--from" if source is not None else "",
    ]
    given = [word for word in what if word]
    hint = f"an argument: --arg={tail[0]}" if target is not None and tail else ""
    is_command = target is None and source is None
    clashes = {
        f"{' and '.join(given[:2])} both say what to run.": len(given) > 1,
        "--delay and --at both say when.": options["delay"] is not None and options["at"] is not None,
        "--after says when as well, so --delay and --at have no place.": bool(options["after"])
        and (options["delay"] is not None or options["at"] is not None),
        "--when needs --after.": options["when"] is not None and not options["after"],
        "--stdin is for commands; a function takes arguments.": options["stdin"] and target is not None,
        "--stdin and --from both read stdin.": options["stdin"] and source is not None,
        "--id names one job, --from holds many.": options["id"] is not None and source is not None,
        "--arg and --raw are for a function's arguments.": bool(options["arg"] or options["raw"])
        and (is_command or source is not None),
        "--strict is for --from.": options["strict"] and source is None,
        "--wait-timeout needs --wait or --follow.": options["wait_timeout"] is not None and not wait,
        "--exit-code needs --wait or --follow.": options["exit_code"] and not wait,
        "--exit-code is for one job, --from holds many.": options["exit_code"] and source is not None,
        "--dry-run queues nothing to wait for.": options["dry_run"] and wait,
        "--follow is for one job, --from holds many.": follow and source is not None,
    }
    for sentence, is_clash in clashes.items():
        if is_clash:
            raise OptionsClash(problem=sentence[0].upper() + sentence[1:], hint=hint)
