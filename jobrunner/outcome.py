"""What happened to a run (`Outcome`) and what follows from it (`Verdict`): two closed sets of types.

Outcomes cross the pipe from a child, so they are msgspec structs tagged by `kind`.
"""

import msgspec

ERROR_CHARS = 512
"""Longest error text kept, in characters (hazards A7: it also travels in a header)."""

TRACEBACK_CHARS = 16 * 1024


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a run did not succeed.

    reason: a stable word: exit, error, permanent, cannot_start, crash, timeout, bad_result, not_allowed,
        malformed, too_large, poison, unknown_function, expired.
    message: at most 512 characters. exit: a command's exit code. signal: a name such as SIGSEGV.
    """

    reason: str
    message: str
    class_name: str | None = msgspec.field(default=None, name="class")
    traceback: str | None = None
    exit: int | None = None
    signal: str | None = None

    @property
    def word(self) -> str:
        """The reason with its detail, such as `crash:SIGSEGV`."""
        return f"{self.reason}:{self.signal}" if self.signal else self.reason

    @property
    def headline(self) -> str:
        """One line for people: class and message, or the message alone."""
        return f"{self.class_name}: {self.message}" if self.class_name else self.message


def clip(text: str, limit: int = ERROR_CHARS) -> str:
    """`text` cut to `limit` characters, the cut shown by an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag=str.lower):
    pass


class Succeeded(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The function returned, or the command exited with 0.

    result: JSON; None for a command, whose stdout is its result (see `execution`).
    truncated: the result was cut at its limit. failed: calls of a batch that did not succeed.
    """

    result: msgspec.Raw = msgspec.Raw(b"null")
    truncated: bool = False
    failed: int = 0


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one call of a batch ended: with a result, or with an error. In place of one that did not run: null.

    once: of one that failed, whose function says that it is not tried again.
    """

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Error | None = None
    once: bool = False


class Failed(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """It may be tried again."""

    error: Error


class RetryAsked(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The job raised `Retry(after=...)`."""

    error: Error
    after_s: float | None = None


class Rejected(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """Trying again cannot help: `Permanent`, exit codes 65, 126, 127, a result that is not JSON."""

    error: Error


class TimedOut(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """Killed at its deadline, the whole group."""

    error: Error


class Crashed(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The process died under it, or broke the frame protocol."""

    error: Error


class Interrupted(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """Killed because the worker stops. No attempt is used."""


class UnknownFunction(_Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """The module is allowed, but has no such function (a rolling deploy)."""

    error: Error


Outcome = Succeeded | Failed | RetryAsked | Rejected | TimedOut | Crashed | Interrupted | UnknownFunction


class _Verdict(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Done(_Verdict, frozen=True, kw_only=True):
    """Succeeded: the result goes into the ledger."""

    outcome: Succeeded


class RunAgain(_Verdict, frozen=True, kw_only=True):
    """Into the delay ladder. counted: an attempt was used; otherwise the crash budget was. exact: the job has asked for
    this wait, which is kept; a backoff may be a little shorter.
    """

    delay_s: float
    error: Error
    counted: bool = True
    exact: bool = False


class Dead(_Verdict, frozen=True, kw_only=True):
    """Into the dead-letter queue, with the whole story."""

    error: Error


class Park(_Verdict, frozen=True, kw_only=True):
    """Wait for a worker that knows the function; no attempt is used."""

    delay_s: float
    error: Error


class HandBack(_Verdict, frozen=True, kw_only=True):
    """Back to its queue at once; no attempt is used."""


class Expired(_Verdict, frozen=True, kw_only=True):
    """Its `--expires` time passed before it started."""


class Cancelled(_Verdict, frozen=True, kw_only=True):
    """Someone wants it no more. signal, took_s: how a running one was ended, and how long that took."""

    reason: str
    by: str | None = None
    signal: str | None = None
    took_s: float | None = None


class Release(_Verdict, frozen=True, kw_only=True):
    """What it waited for has happened: the broker moves it to its queue."""


class Renew(_Verdict, frozen=True, kw_only=True):
    """It goes on waiting for others, as a message that was never delivered before."""


class Redelay(_Verdict, frozen=True, kw_only=True):
    """Not due yet: back into the ladder, with no event."""

    delay_s: float


class Defer(_Verdict, frozen=True, kw_only=True):
    """Another worker has this very run: a copy waits in the ladder and asks again, in case that worker dies."""

    delay_s: float


Verdict = Done | RunAgain | Dead | Park | HandBack | Expired | Cancelled | Release | Renew | Redelay | Defer
