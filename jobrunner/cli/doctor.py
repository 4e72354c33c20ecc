"""`jobrunner doctor`: checks from here to the workers, each with what was seen and what helps."""

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from jobrunner.cli import out
from jobrunner.cli.command import command, option, pass_shared
from jobrunner.cli.phrases import plural
from jobrunner.cli.shared import Shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jobrunner.doctor.check import Check

EPILOG = """
\b
  jobrunner doctor
  jobrunner doctor -A tasks --fix
  jobrunner doctor --report > report.txt     for a bug report"""
MARKS = {"ok": "✓", "warning": "!", "error": "✗", "unknown": "?"}


@command("doctor", epilog=EPILOG, short_help="Check everything, from here to the workers.")
@option(
    "-A",
    "--app",
    multiple=True,
    metavar="MODULE",
    show_default="tasks if it is here",
    help="Import it as a worker does.",
)
@option("--fix", is_flag=True, help="Create what is missing in the broker; changes and removes nothing.")
@option("--report", is_flag=True, help="Everything for a bug report, without secrets.")
@option("--management", metavar="URL", show_default="the broker's host", help="The management API, if it is elsewhere.")
@pass_shared
def doctor(shared: Shared, /, *, fix: bool, report: bool, management: str | None, app: tuple[str, ...]) -> int:
    """Check configuration, name, port, TLS, login, version, rights, queues, alarms, a round trip through queue, delay
    ladder and ledger, timeouts, policies, workers, clocks and jobs.

    Nothing is changed but with --fix; what is sent to see whether it arrives is no job. A mark for each check: ✓ well,
    ! may bite one day, ✗ broken, ? not known. Piped: number, name, level, what was seen, what helps. Exit 1 on a ✗.
    """
    import asyncio

    _warn_of_password(shared, management)
    told = _Told(shared, is_report=report)
    asyncio.run(_examine(shared, told, {"apps": app, "fix": fix, "management": management}))
    return told.end()


def _warn_of_password(shared: Shared, management: str | None) -> None:
    """Whoever runs `ps` sees what was typed."""
    source = click.get_current_context().get_parameter_source("management")
    if management and "@" in management and source is ParameterSource.COMMANDLINE:
        shared.warn("The password in --management can be read by others with ps. Use JOBRUNNER_DOCTOR_MANAGEMENT.")


async def _examine(shared: Shared, told: "_Told", options: dict[str, Any]) -> None:

    from jobrunner.cli.allowed import apps_of
    from jobrunner.doctor.check import error, ok
    from jobrunner.doctor.checkup import Wishes, checkup
    from jobrunner.doctor.machine import package, state
    from jobrunner.errors import JobrunnerError

    try:
        settings = shared.settings
        apps = apps_of(options["apps"], None)
    except JobrunnerError as exc:
        told.take(error("config", exc.message, exc.hint or None))
        for check in (package(), state()):  # the rest needs to know where the broker is
            told.take(check)
        return
    files = [str(path) for path, is_read in shared.files.paths if is_read]
    told.take(ok("config", f"{', '.join(files) or 'no configuration file'}; {settings.url.masked}"))
    wishes = Wishes(
        apps=apps,
        fix=options["fix"],
        management=options["management"],
    )
    found: AsyncIterator[Check] = checkup(settings, wishes)
    async for check in found:
        told.take(check)


class _Told:
    """The findings, shown as they come, and what they come to."""

    def __init__(self, shared: Shared, *, is_report: bool) -> None:
        self._shared = shared
        self._checks: list[Check] = []
        self._is_report = is_report
        if is_report and not shared.json:
            from jobrunner.cli.doctor_report import heading

            for line in heading():
                out.emit(line)

    def take(self, check: "Check") -> None:
        """Show one."""
        self._checks.append(check)
        if self._shared.json:
            return
        if not (sys.stdout.isatty() or self._is_report):
            cells = (str(len(self._checks)), check.name, check.level, check.text, check.fix or "")
            out.emit("\t".join(out.cell(cell) for cell in cells))
            return
        mark = self._shared.mark(MARKS[check.level])
        text = out.plain(out.printable(check.text), sys.stdout)
        out.emit(f"{len(self._checks):>2} {mark} {check.name:<11} {text}")
        if check.fix and check.level != "ok":
            out.emit(f"{'':<17}fix: {out.plain(out.printable(check.fix), sys.stdout)}")
        sys.stdout.flush()

    def end(self) -> int:
        """The sum, and the exit code."""
        problems = sum(check.level == "error" for check in self._checks)
        if self._shared.json:
            documents = [
                {"number": number, "name": check.name, "level": check.level, "text": check.text, "fix": check.fix}
                | ({"code": check.code} if check.code else {})
                for number, check in enumerate(self._checks, 1)
            ]
            from jobrunner.cli.doctor_report import facts

            out.emit_json({"checks": documents, "problems": problems} | (facts() if self._is_report else {}))
        else:
            self._shared.talk(f"{plural(problems, 'problem')}." if problems else "No problem found.")
        return 1 if problems else 0
