"""Whether a job may run here, and if not, what follows: decided in the parent, before anything starts.

`reading` makes an envelope of the bytes; the worker then looks whether that run is already here; `admit` does the rest.
"""

from collections.abc import Mapping

from jobrunner import envelope as envelopes
from jobrunner.broker.topology import LEVELS, level
from jobrunner.envelope import Envelope, Job
from jobrunner.outcome import Dead, Error, Expired, Redelay, RunAgain, Verdict, clip
from jobrunner.registry import is_task_name
from jobrunner.retry import park
from jobrunner.worker.policy import ANY_MODULE, Policy
from jobrunner.worker.reading import Received

POISON_DELIVERIES = 5
"""Deliveries of one message, each ended by the death of its worker, after which it is not started again."""

NOT_DUE_S = 0.1
_BELOW_THE_TOP = frozenset(level(number) for number in range(LEVELS - 1))


def admit(envelope: Envelope, received: Received, policy: Policy, now: float, returned: int = 0) -> Verdict | None:
    """None: run it. Otherwise what follows instead. now: seconds since the epoch. returned: see `_poison`."""
    job = envelope.job
    if not envelopes.VERSION <= job.v <= envelopes.LATEST:
        error = Error(reason="version", message=f"a job of version {job.v}; this worker knows {envelopes.LATEST}")
        return park(envelope, error, now)
    if job.expires_at is not None and now > job.expires_at:
        return Expired()
    early_s = _early_s(envelope, received, now)
    if early_s > NOT_DUE_S:
        return Redelay(delay_s=early_s)
    return _poison(envelope, received, returned) or refusal(envelope, policy, now)


def _early_s(envelope: Envelope, received: Received, now: float) -> float:
    """Seconds until a job is due. Of one that has waited in the ladder, the ladder alone decides, whose clock does not
    jump: the time was written by another machine, and where one of the two clocks is an hour wrong the job would wait
    for that hour again. But at its top the ladder ends, and a longer delay takes another round.
    """
    state = envelope.state
    if state.attempt or state.crashes or state.parked_since_ms or _has_waited(received.headers):
        return 0.0
    return state.not_before_ms / 1000 - now


def _has_waited(headers: Mapping[str, object]) -> bool:
    """Whether it came out of the ladder, and entered it below the top. RabbitMQ notes the first queue in which a
    message expired (https://www.rabbitmq.com/docs/dlx#effects).
    """
    first = headers.get("x-first-death-queue")
    return headers.get("x-first-death-reason") == "expired" and first in _BELOW_THE_TOP


def _poison(envelope: Envelope, received: Received, returned: int) -> Verdict | None:
    """A job whose worker died under it, again and again. It is not running here: that was asked before.

    returned: deliveries that were handed back, lost with a connection or taken back after the ack timeout, by workers
    that live and tell it. They count as deliveries, but nobody died of them.

    Quorum queues count deliveries; a classic queue only says `redelivered`, so the count travels in `jr-crashes`. There
    `returned` is whether this very delivery follows from a return in good order.
    """
    if not received.redelivered:
        return None
    if received.delivery_count is not None:
        deaths = received.delivery_count - returned
        return _poisoned(deaths) if deaths >= POISON_DELIVERIES else None
    return None if returned else worker_died(envelope)


def worker_died(envelope: Envelope) -> Verdict:
    """A run's worker is gone, and its message has no count of that: a next copy that carries one, or the end."""
    crashes = envelope.state.crashes + 1
    dead = _poisoned(crashes)
    return dead if crashes >= POISON_DELIVERIES else RunAgain(delay_s=0.0, error=dead.error, counted=False)


def _poisoned(count: int) -> Dead:
    return Dead(
        error=Error(reason="poison", message=f"its worker died under it {count} {'time' if count == 1 else 'times'}")
    )


def refusal(envelope: Envelope, policy: Policy, now: float) -> Verdict | None:
    """None when the worker was started to run this; dead or parked otherwise."""
    job = envelope.job
    if policy.ring is not None and (key := policy.ring.get(_kid(envelope))) and not key.may_name(_name(job)):
        return _not_allowed(f"Key {key.kid} may not sign jobs of {_name(job)[:80]!r}.")
    if job.task is None:
        return _command_refusal(job, policy)
    if not is_task_name(job.task):
        return _not_allowed(f"{job.task[:80]!r} does not name a function.")
    if job.task in policy.functions or job.task == policy.raw_handler:
        return None
    module, _, function = job.task.partition(":")
    if function.startswith("_"):
        return _not_allowed(f"{job.task[:80]!r} is private to its module.")
    if any(prefix in (ANY_MODULE, module) or module.startswith(f"{prefix}.") for prefix in policy.allow_import):
        return None
    if module in policy.apps:
        return park(envelope, unknown_function(job, policy.worker), now)
    return _not_allowed(f"Worker {policy.worker} does not run functions of {module}.")


def _command_refusal(job: Job, policy: Policy) -> Dead | None:
    """Which program has a name is up to the worker's own PATH, and what it does to its own variables."""
    argv = job.argv or [""]
    if policy.allow_commands or _is_raw_command(job, policy):
        return None
    if not policy.allow_programs:
        return _not_allowed(f"Worker {policy.worker} runs no commands.")
    if argv[0] not in policy.allow_programs:
        return _not_allowed(f"Worker {policy.worker} runs only these commands: {', '.join(policy.allow_programs)}.")
    if job.env:
        # PATH, LD_PRELOAD, BASH_FUNC_ls%%, GIT_SSH_COMMAND and many more make another program of this one
        names = ", ".join(sorted(job.env))
        return _not_allowed(
            f"Worker {policy.worker} runs {argv[0]} only without variables of the job's own: {names[:80]}."
        )
    return None


def _is_raw_command(job: Job, policy: Policy) -> bool:
    """Whether it is what `adopt_foreign` makes: with variables or a folder of its own it would be another program."""
    return policy.raw_handler_command == tuple(job.argv or ()) and not job.env and job.cwd is None


def _kid(envelope: Envelope) -> str:
    return str((envelope.signature or {}).get("jr-kid", ""))


def _name(job: Job) -> str:
    return job.task or (job.argv or [""])[0]


def unknown_function(job: Job, worker: str) -> Error:
    """The error of a job whose module is there, but not its function."""
    return Error(reason="unknown_function", message=f"Worker {worker} has no function {job.task}.")


def _not_allowed(message: str) -> Dead:
    return Dead(error=Error(reason="not_allowed", message=clip(message)))
