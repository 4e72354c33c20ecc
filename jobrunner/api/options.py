"""How a job is to be run, as a program says it: keyword arguments, checked before anything is published."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, Self, TypedDict

from jobrunner.durations import parse_backoff, parse_duration
from jobrunner.envelope import After
from jobrunner.errors import BadValue, OptionsClash
from jobrunner.ids import is_id, new_id
from jobrunner.wishes import Wishes

if TYPE_CHECKING:
    from typing import Unpack

    from jobrunner.api.ends import Ticket

Duration = str | float | timedelta
"""`"90s"`, `"5m"`, `"1h30m"`, seconds as a number, or a timedelta."""

PRIORITIES: Final = {"low": 1, "normal": 4, "high": 8}
MAX_PRIORITY: Final = 9


class OptionArguments(TypedDict, total=False):
    """Keyword arguments of every `.options(...)`; what is left out, or None, is the function's own default, else ours.

    queue: created if it is missing. delay: not before so long from now, or at: not before a time (datetime, seconds
    since the epoch, or text such as `"tomorrow 07:00"`). expires: not started later than so long after it is due.
    retries: attempts after the first. backoff: `"10s..1h"` or the first wait. timeout: of one attempt.
    priority: 0 to 9, `"low"`, `"normal"` or `"high"`. tags, label: for filters and for people. id: 16 characters; the
    same id twice is not noticed here. env, cwd: of the job's process.
    """

    queue: str | None
    delay: Duration | None
    at: "datetime | float | str | None"
    expires: Duration | None
    retries: int | None
    backoff: Duration | None
    timeout: Duration | None
    priority: int | str | None
    tags: Collection[str] | None
    label: str | None
    id: str | None
    env: dict[str, str] | None
    cwd: str | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one job, or those that a client gives to each of its jobs.

    run: None is that of the client. numbers: gives each of these jobs its number in its run; None: their place in the
    input.
    """

    queue: str | None = None
    delay: Duration | None = None
    at: datetime | float | str | None = None
    expires: Duration | None = None
    retries: int | None = None
    backoff: Duration | None = None
    timeout: Duration | None = None
    priority: int | str | None = None
    tags: Collection[str] | None = None
    label: str | None = None
    id: str | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    after: After | None = None
    run: str | None = None
    numbers: Iterator[int] | None = None

    def changed(self, **given: "Unpack[OptionArguments]") -> Self:
        """The same with these changed. Raises: TypeError for an unknown name, and what `wishes` raises."""
        if given.get("delay") is not None:
            given.setdefault("at", None)
        elif given.get("at") is not None:
            given.setdefault("delay", None)
        found = replace(self, **given)
        found.wishes()
        return found

    def over(self, base: "Options") -> "Options":
        """These where they are given, else those of `base`."""
        if self is NONE_GIVEN:
            return base
        own = {name: value for name, value in vars(self).items() if value is not None}
        if "at" in own or "delay" in own:
            own = {"at": None, "delay": None} | own
        return replace(base, **own) if own else base

    def number(self, place: int | None = None) -> int | None:
        """That of the next job. place: in its input, if there is one."""
        return place if self.numbers is None else next(self.numbers)

    def wishes(self, *, run: str | None = None) -> Wishes:
        """The same in seconds and plain types. Raises: BadDuration, BadTime, TimeInThePast, BadValue, OptionsClash."""
        if self.delay is not None and self.at is not None:
            raise OptionsClash(problem="delay and at both say when.")
        if self.after is not None and (self.delay is not None or self.at is not None):
            raise OptionsClash(problem="What waits for another job has no time of its own: no delay and no at.")
        return Wishes(
            queue=self.queue,
            delay_s=seconds_of("delay", self.delay),
            at_s=None if self.at is None else _instant(self.at),
            expires_s=seconds_of("expires", self.expires),
            priority=_priority(self.priority),
            retries=_retries(self.retries),
            backoff=_backoff(self.backoff),
            timeout_s=_timeout(self.timeout),
            job_id=_checked_id(self.id),
            run=self.run or run,
            tags=_tags(self.tags),
            label=self.label,
            env=dict(self.env or {}),
            cwd=self.cwd,
            after=self.after,
        )


NONE_GIVEN: Final = Options()
"""Of most calls: there may be millions."""


When = Literal["success", "failure", "end"]
"""Which end of another job is waited for."""


MOST_AWAITED: Final = 10_000
"""Jobs that one job waits for: their ids travel with it."""


def after(tickets: "Collection[Ticket]", when: When) -> Options:
    """Not before the ends of these jobs, in the chains of attempts that are known of them. Raises: BadValue."""
    jobs = {ticket.id: ticket.chain for ticket in tickets}
    if not 0 < len(jobs) <= MOST_AWAITED:
        raise BadValue(
            problem=f"A job waits for 1 to {MOST_AWAITED:,} others, not for {len(jobs):,}.", hint="map --then"
        )
    return Options(after=After(jobs=jobs, when=when, since=min(ticket.at_s for ticket in tickets)))


def after_run(run: str, since_s: float, when: When) -> Options:
    """Not before the end of a run. since_s: when it began, in seconds since the epoch."""
    return Options(after=After(run=run, when=when, since=since_s))


def seconds_of(name: str, value: Duration | None) -> float | None:
    """A duration in seconds. name: for the message. Raises: BadDuration, BadValue."""
    if value is None:
        return None
    if isinstance(value, str):
        return parse_duration(value)
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds < float("inf"):
        raise BadValue(problem=f"{name}={value!r} is not a duration.", hint="90, '90s', '5m', '1h30m'")
    return seconds


def _timeout(value: Duration | None) -> float | None:
    seconds = seconds_of("timeout", value)
    if seconds == 0:
        raise BadValue(problem="A timeout of 0 leaves no time to run.", hint="timeout='5m' · none: leave it out")
    return seconds


def _instant(value: "datetime | float | str") -> float:
    if isinstance(value, str):
        from jobrunner.instants import parse_instant

        return parse_instant(value)
    # a datetime without a zone is local time, as everywhere in the standard library
    return value.timestamp() if isinstance(value, datetime) else float(value)


def _priority(value: int | str | None) -> int | None:
    if value is None:
        return None
    number = PRIORITIES.get(value) if isinstance(value, str) else value
    if number is None or not 0 <= number <= MAX_PRIORITY:
        raise BadValue(problem=f"priority={value!r} is none.", hint="0 to 9, 'low', 'normal', 'high'")
    return number


def _retries(value: int | None) -> int | None:
    if value is not None and value < 0:
        raise BadValue(problem=f"retries={value}: must be 0 or more.", hint="retries=0 runs it once")
    return value


def _backoff(value: Duration | None) -> tuple[float, float] | None:
    if value is None:
        return None
    return parse_backoff(value if isinstance(value, str) else str(seconds_of("backoff", value)))


def _tags(value: Collection[str] | None) -> list[str]:
    if isinstance(value, str):
        raise BadValue(problem=f"tags={value!r} is one text, not several.", hint=f"tags=[{value!r}]")
    return list(value or ())


def _checked_id(value: str | None) -> str | None:
    if value is not None and not is_id(value):
        raise BadValue(problem=f"'{value}' is not a job id.", hint=f"16 characters such as {new_id()}")
    return value
