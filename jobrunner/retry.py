"""What follows from an outcome: a pure decision. The jitter too is a function of the job, so that it can be tested."""

import hashlib

import msgspec

from jobrunner.envelope import Envelope, Job
from jobrunner.outcome import (
    Crashed,
    Dead,
    Done,
    Error,
    Failed,
    HandBack,
    Interrupted,
    Outcome,
    Park,
    Rejected,
    RetryAsked,
    RunAgain,
    Succeeded,
    TimedOut,
    UnknownFunction,
    Verdict,
)
from jobrunner.registry import FunctionSpec

DEFAULT_RETRIES = 3
DEFAULT_BACKOFF_S = 10.0
DEFAULT_BACKOFF_MAX_S = 3600.0
CRASH_BUDGET = 3
"""The third run whose process died is the last, whatever attempts are left."""

PARK_FIRST_S = 12.8
PARK_LATER_S = 102.4
PARK_LIMIT_S = 86_400.0
MIN_DELAY_S = 0.1
"""One unit of the delay ladder."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a job once its own wishes, its function's defaults and ours are put together."""

    max_attempts: int = 1 + DEFAULT_RETRIES
    backoff_s: float = DEFAULT_BACKOFF_S
    backoff_max_s: float = DEFAULT_BACKOFF_MAX_S
    timeout_s: float | None = None


def limits_of(job: Job, spec: FunctionSpec | None) -> Limits:
    """The limits of a job: its own, else its function's, else the defaults."""
    spec = spec or FunctionSpec(name="")
    attempts = job.max_attempts
    if attempts is None:
        attempts = 1 + (DEFAULT_RETRIES if spec.retries is None else spec.retries)
    backoff_s = _first(job.backoff_s, spec.backoff_s, DEFAULT_BACKOFF_S)
    return Limits(
        max_attempts=attempts,
        backoff_s=backoff_s,
        backoff_max_s=max(backoff_s, _first(job.backoff_max_s, spec.backoff_max_s, DEFAULT_BACKOFF_MAX_S)),
        timeout_s=job.timeout_s if job.timeout_s is not None else spec.timeout_s,
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def backoff_ceiling(limits: Limits, attempt: int) -> float:
    """The longest wait after attempt `attempt` (from 1): doubles from `backoff_s` up to `backoff_max_s`, in seconds."""
    # the exponent is bounded: 2.0 ** 2000 is an OverflowError
    return float(min(limits.backoff_max_s, limits.backoff_s * 2.0 ** min(attempt - 1, 64)))


def backoff(envelope: Envelope, limits: Limits, tries: int) -> float:
    """Seconds to wait before the next run: full jitter, uniform in 0.1 .. ceiling.

    Source: AWS Architecture Blog "Exponential Backoff And Jitter" (full jitter). The draw is the hash of the job's id
    and its copy: spread over jobs and attempts, the same for the same input.
    """
    seed = f"{envelope.job.id}.{envelope.state.copy}.{envelope.state.chain}".encode()
    draw = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big") / 2**64
    return max(MIN_DELAY_S, draw * backoff_ceiling(limits, tries))


def decide(envelope: Envelope, limits: Limits, outcome: Outcome, now: float) -> Verdict:
    """The verdict on a run of `envelope` that ended in `outcome` at `now` (seconds since the epoch)."""
    match outcome:
        case Succeeded():
            return Done(outcome=outcome)
        case Failed(error=error) | TimedOut(error=error):
            return _again(envelope, limits, error, None)
        case RetryAsked(error=error, after_s=after_s):
            return _again(envelope, limits, error, after_s)
        case Rejected(error=error):
            return Dead(error=error)
        case Crashed(error=error):
            crashes = envelope.state.crashes + 1
            if crashes >= CRASH_BUDGET:
                return Dead(error=error)
            return RunAgain(delay_s=backoff(envelope, limits, crashes), error=error, counted=False)
        case Interrupted():
            return HandBack()
        case UnknownFunction(error=error):
            return park(envelope, error, now)


def _again(envelope: Envelope, limits: Limits, error: Error, after_s: float | None) -> Verdict:
    if envelope.attempt >= limits.max_attempts:
        return Dead(error=error)
    if after_s is not None:
        return RunAgain(delay_s=max(MIN_DELAY_S, after_s), error=error, exact=True)
    return RunAgain(delay_s=backoff(envelope, limits, envelope.attempt), error=error)


def park(envelope: Envelope, error: Error, now: float) -> Verdict:
    """Wait for a worker that knows the function: 12.8 s first, then 102.4 s, for a day; then dead."""
    since_ms = envelope.state.parked_since_ms
    if not since_ms:
        return Park(delay_s=PARK_FIRST_S, error=error)
    if now - since_ms / 1000 >= PARK_LIMIT_S:
        return Dead(error=error)
    return Park(delay_s=PARK_LATER_S, error=error)
