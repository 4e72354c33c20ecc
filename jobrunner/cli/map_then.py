"""`map --then`: a job that runs once the whole run has ended, also when this process is gone."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jobrunner import envelope as envelopes
from jobrunner.calls import show_command
from jobrunner.cli.enqueue_plan import checked_call, fields_of, queue_of, whoami
from jobrunner.envelope import After, Envelope
from jobrunner.errors import UsageError
from jobrunner.ids import id_of
from jobrunner.wishes import Wishes, build

_COMMAND = "--"


@dataclass(frozen=True, kw_only=True)
class Then:
    """What runs then. fields: of the envelope's `Job`. shown: for people."""

    run: str
    when: str
    fields: Mapping[str, Any]
    shown: str
    own_queue: str | None
    wishes: Wishes

    def job_id(self, number: int) -> str:
        """The same for the same run and callback, so that a run that is taken up again has not two of them.

        number: how many of them have ended before.
        """
        parts = (self.run, self.when, self.shown, str(number))
        return id_of(b"then", *(part.encode() for part in parts))

    def envelope(self, number: int, since_s: float) -> Envelope:
        """Its job. since_s: when the first job of the run was made. Raises: as `build`."""
        after = After(run=self.run, when=self.when, since=since_s)  # type: ignore[arg-type]  # click has checked it
        wishes = replace(self.wishes, job_id=self.job_id(number), after=after)
        made = build(wishes, self.fields, self.own_queue, whoami())
        envelopes.check_size(made)
        return made


def then_of(line: str, when: str, run: str, wishes: Wishes) -> Then:
    """From `TARGET [ARG]...` or `-- COMMAND [ARG]...`. Raises: UsageError, the errors of targets and arguments."""
    try:
        words = shlex.split(line)
    except ValueError as exc:
        raise UsageError(message=f"--then: {exc}.", hint="--then 'tasks:report out.csv'") from exc
    if not words or words == [_COMMAND]:
        raise UsageError(message="--then names nothing to run.", hint="--then tasks:report")
    # of how the inputs are run only the place holds for what comes after them
    place = Wishes(queue=wishes.queue, tags=wishes.tags, env=wishes.env, cwd=wishes.cwd)
    if words[0] == _COMMAND:
        argv = words[1:]
        shown = show_command(argv)
        return Then(run=run, when=when, fields={"argv": argv}, shown=shown, own_queue=None, wishes=place)
    call, function = checked_call(words[0], words[1:])
    own_queue = queue_of(function)
    return Then(run=run, when=when, fields=fields_of(call), shown=str(call), own_queue=own_queue, wishes=place)
