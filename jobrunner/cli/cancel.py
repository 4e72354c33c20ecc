"""`jobrunner cancel`: jobs that are wanted no more, and what was proven of each."""

import signal as signals
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from jobrunner.cli import out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.completing import complete_ids
from jobrunner.cli.fixing import sure_options
from jobrunner.cli.kinds import DURATION
from jobrunner.cli.phrases import mark_of, plural
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.fixing.cancelling import Canceller, Proof
    from jobrunner.view.rows import JobRow
    from jobrunner.view.store import Store

EXAMPLES = """\b
  jobrunner cancel k7f2
  jobrunner cancel queue:video before:1h --reason "wrong codec"
  jobrunner cancel run:convert-3fd2
  jobrunner list --quiet tag:import state:queued | jobrunner cancel -

The words of a FILTER: jobrunner help filters. `run:NAME` alone also stops what of that run is being queued just now."""
_ENDED = {"succeeded": "succeeded", "dead": "died", "expired": "expired", "cancelled": "been cancelled"}


def _signal(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A signal's name without SIG. Raises: BadValue."""
    from jobrunner.errors import BadValue

    if value is None:
        return None
    name = value.upper().removeprefix("SIG")
    if not hasattr(signals, f"SIG{name}") or name.startswith("_"):
        raise BadValue(problem=f"'{value}' is no signal.", hint="TERM, INT, HUP, USR1, KILL")
    return name


@command("cancel", epilog=EXAMPLES, short_help="Stop jobs, queued or running.")
@click.argument("words", nargs=-1, metavar="ID|FILTER|-...", shell_complete=complete_ids)
@option("--reason", default="", metavar="TEXT", help="For the ledger.")
@option("--signal", callback=_signal, metavar="SIG", help="For those that run: TERM unless given; KILL 5 s later.")
@option("--wait", type=DURATION, default="10s", show_default=True, metavar="DUR", help="For proof, so long at most.")
@sure_options
@pass_shared
def cancel(shared: Shared, /, words: tuple[str, ...], **options: Any) -> int:
    """Cancel jobs that wait, are delayed, retry or run: all processes of one that runs are killed. `-`: ids from stdin.

    The cancel is kept: a worker that starts tomorrow obeys it too. Says what was proven of each job. Exit 4 if there is
    no such job, 5 if something is pending. Piped: id, outcome, seconds, what is said.
    """
    import asyncio

    from jobrunner.cli.fixing import typed
    from jobrunner.cli.viewing import opened

    chosen = typed(words)
    begun: list[Canceller] = []
    with opened(shared) as store:
        try:
            return asyncio.run(_cancel(shared, store, chosen, options, begun))
        except KeyboardInterrupt as exc:
            if kept := sum(each.kept for each in begun):
                exc.args = (f"Stopped; the cancel of {plural(kept, 'job')} is kept, and workers obey it.",)
            raise


async def _cancel(
    shared: Shared, store: "Store", words: Sequence[str], options: dict[str, Any], begun: list["Canceller"]
) -> int:
    """begun: where what works is put once it is about to."""
    from jobrunner.cli.fixing import by_state, chosen, confirm
    from jobrunner.cli.viewing import catch_up
    from jobrunner.client import Client
    from jobrunner.fixing.cancelling import Canceller
    from jobrunner.view.rows import ENDED, STATES

    await catch_up(shared, store)
    rows = chosen(store, words, [state for state in STATES if state not in ENDED])
    open_rows = [row for row in rows if not row.is_ended]
    what = f"cancel {by_state(open_rows)}"
    if options["dry_run"]:
        return _dry_run(shared, open_rows, what)
    confirm(shared, what, len(open_rows), yes=options["yes"])
    settings = shared.settings
    async with Client(settings.url, timeout_s=settings.connect_timeout_s) as client:
        canceller = Canceller(store, client, reason=options["reason"], signal=options["signal"], wait_s=options["wait"])
        begun.append(canceller)
        proofs = await canceller.run(rows, _whole_run(words))
    return _report(shared, proofs)


def _whole_run(words: Sequence[str]) -> str | None:
    """The run that `run:NAME` alone names."""
    if len(words) != 1 or not words[0].startswith("run:") or any(char in words[0] for char in "*?[,"):
        return None
    return words[0].removeprefix("run:") or None


def _dry_run(shared: Shared, rows: Sequence["JobRow"], what: str) -> int:
    if shared.json:
        out.emit_json({"dry_run": True, "jobs": [{"id": row.id, "outcome": row.state} for row in rows]})
    elif sys.stdout.isatty():
        out.emit(f"would {out.printable(what)}")
    else:
        for row in rows:
            out.emit(row.id)
    return 0


def _report(shared: Shared, proofs: Sequence["Proof"]) -> int:
    from jobrunner.errors import PartlyDone
    from jobrunner.fixing.cancelling import is_proven

    if shared.json:
        out.emit_json({"jobs": [_document(proof) for proof in proofs]})
    for proof in () if shared.json else proofs:
        if sys.stdout.isatty():
            out.emit(f"{proof.id[:8]}  {_mark(shared, proof)}{out.printable(_sentence(proof))}")
        elif shared.quiet:
            out.emit(proof.id)
        else:
            took = "" if proof.took_s is None else f"{proof.took_s:.3f}"
            out.emit("\t".join((proof.id, proof.outcome, took, out.cell(_sentence(proof)))))
    if not proofs:
        shared.talk("Nothing to cancel.")
    return 0 if is_proven(proofs) else PartlyDone.exit_code


def _document(proof: "Proof") -> dict[str, Any]:
    return {
        "id": proof.id,
        "outcome": proof.outcome,
        "took_s": proof.took_s,
        "signal": proof.signal,
        "workers": proof.workers,
        "text": _sentence(proof),
    }


def _mark(shared: Shared, proof: "Proof") -> str:
    if proof.outcome == "pending":
        return ""
    state = "cancelled" if proof.outcome == "killed" else proof.outcome
    return f"{mark_of(state, shared.color, sys.stdout)} "


def _sentence(proof: "Proof") -> str:
    if proof.outcome == "pending":
        names = ", ".join(proof.workers)
        if proof.is_running:
            return f"pending: it is still running on worker {names}"
        if not names:
            return "pending: its end is not known yet"
        return f"pending: worker{'s' if len(proof.workers) > 1 else ''} {names} {_have(proof.workers)} not answered"
    if proof.outcome == "killed":
        after = "" if proof.took_s is None else f", gone after {proof.took_s:.1f} s"
        return f"cancelled: {proof.signal}{after}"
    if proof.is_old:
        return f"had already {_ENDED.get(proof.outcome, 'ended')}"
    return "cancelled before it ran again" if proof.has_run else "cancelled before it started"


def _have(workers: Sequence[str]) -> str:
    return "have" if len(workers) > 1 else "has"
