"""`jobrunner audit`: whether anything was lost, and putting it right."""

import sys
from typing import TYPE_CHECKING, Any

from jobrunner.cli import out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.fixing import sure_options
from jobrunner.cli.phrases import plural
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from jobrunner.fixing.findings import Report
    from jobrunner.fixing.repairing import Repairer
    from jobrunner.view.store import Store

EPILOG = """\b
  jobrunner audit
  jobrunner audit --repair

A job is lost only when it is missing twice, two seconds apart, and nothing was heard of it between."""


@command("audit", epilog=EPILOG, short_help="Compare what was accepted with what is there.")
@option("--repair", is_flag=True, help="Queue lost jobs again, and tidy up what had no queue and second dead letters.")
@option("--no-browse", is_flag=True, help="Only count: where counts do not agree, do not look through the queue.")
@sure_options
@pass_shared
def audit(shared: Shared, /, **options: bool) -> int:
    """Compare the ledger with queues, dead letters and workers: is every accepted job somewhere?

    Prints `lost 0` and the numbers, exit 0; or each job that is not where it must be and what is known of it, exit 1.
    Exit 5 if something could not be proven. Where a queue has fewer messages than it must, it is looked through once or
    twice, for three seconds at most; each look counts as a delivery of its messages. Piped: id, finding, what is known.
    """
    import asyncio

    from jobrunner.cli.viewing import opened

    with opened(shared) as store:
        return asyncio.run(_audit(shared, store, options))


async def _audit(shared: Shared, store: "Store", options: dict[str, bool]) -> int:
    from jobrunner.cli.fixing import confirm
    from jobrunner.cli.viewing import catch_up
    from jobrunner.client import Client
    from jobrunner.fixing.auditing import Auditor
    from jobrunner.fixing.repairing import Repairer

    await catch_up(shared, store)
    settings = shared.settings
    async with Client(settings.url, timeout_s=settings.connect_timeout_s) as client:
        report = await Auditor(store, client, may_look=not options["no_browse"]).run()
        repairer = Repairer(store, client)
        work = report.count("lost") + report.count("given_up") + report.stale_letters + report.unrouted
        if not shared.json:
            _show(shared, report)
        if options["repair"] and work and not options["dry_run"]:
            confirm(shared, f"repair {plural(work, 'job')}", work, yes=options["yes"])
            await _repair(shared, report, repairer)
    if shared.json:
        out.emit_json(_document(report, repairer))
    return _exit_code(report, repairer)


async def _repair(shared: Shared, report: "Report", repairer: "Repairer") -> None:
    await repairer.run(report)
    if shared.json:
        return
    for one in repairer.told:
        mark = shared.mark("✓" if one.is_good else "✗")
        line = f"{one.id[:8]}  {mark} {out.printable(one.done)}"
        out.emit(line if sys.stdout.isatty() else "\t".join((one.id, "repaired", out.cell(one.done))))
    if repairer.letters_removed:
        shared.talk(f"removed {plural(repairer.letters_removed, 'second dead letter')}.")


def _exit_code(report: "Report", repairer: "Repairer") -> int:
    from jobrunner.errors import PartlyDone

    good = {one.id for one in repairer.told if one.is_good}
    left = [one for one in report.findings if one.kind in ("lost", "given_up", "unrouted") and one.id not in good]
    if left or report.unnamed:
        return 1
    return PartlyDone.exit_code if report.unproven or report.count("unproven") else 0


def _show(shared: Shared, report: "Report") -> None:
    if sys.stdout.isatty():
        mark = shared.mark("✗" if report.lost else "✓")
        out.emit(f"{mark} lost {report.lost:,}")
        for line in _sums(report):
            out.emit(f"  {out.printable(line)}")
        for one in report.findings:
            out.emit(f"{one.id[:8]}  {one.kind.replace('_', ' ')}: {out.printable(one.text)}")
    else:
        out.emit(f"lost {report.lost}")
        for line in _sums(report):
            out.emit(out.printable(line))
        for one in report.findings:
            out.emit("\t".join((one.id, one.kind, out.cell(one.text))))
    for note in report.notes:
        shared.warn(note)
    if any(one.kind in ("lost", "unrouted") for one in report.findings) and sys.stderr.isatty():
        shared.talk("  Queue them again:  jobrunner audit --repair")


def _sums(report: "Report") -> list[str]:
    ended = ", ".join(f"{state} {count:,}" for state, count in report.ended.items())
    places: dict[str, int] = {
        "ready": report.ready,
        "running": report.running,
        "later": report.later,
        "waiting": report.waiting,
        "moving": report.moving,
        "given up": report.count("given_up"),
        "unrouted": report.count("unrouted"),
        "unproven": report.unproven + report.count("unproven"),
        "lost": report.lost,
    }
    shown = ", ".join(f"{name} {count:,}" for name, count in places.items() if count or name in ("ready", "running"))
    return [
        f"accepted {report.accepted:,} = {ended}, open {report.open:,}",
        f"open {report.open:,} = {shown}",
        f"dead letters {report.letters:,}, unrouted messages {report.unrouted:,}",
    ]


def _document(report: "Report", repairer: "Repairer") -> dict[str, Any]:
    return {
        "lost": report.lost,
        "accepted": report.accepted,
        **report.ended,
        "open": {
            "total": report.open,
            "ready": report.ready,
            "running": report.running,
            "later": report.later,
            "waiting": report.waiting,
            "moving": report.moving,
            "given_up": report.count("given_up"),
            "unrouted": report.count("unrouted"),
            "unproven": report.unproven + report.count("unproven"),
            "lost": report.lost,
        },
        "dead_letters": report.letters,
        "unrouted_messages": report.unrouted,
        "jobs": [{"id": one.id, "finding": one.kind, "text": one.text} for one in report.findings],
        "notes": report.notes,
        "repaired": [{"id": one.id, "text": one.done, "done": one.is_good} for one in repairer.told],
    }
