"""From options and words to an envelope: everything about a job that can be known before a broker is asked."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from jobrunner import envelope as envelopes
from jobrunner.broker import topology
from jobrunner.calls import Call, parse_arguments, parse_target, show_command, to_json
from jobrunner.cli.enqueue_values import absolute, checked_id, environment, read_stdin
from jobrunner.envelope import Envelope
from jobrunner.errors import BadValue
from jobrunner.sources import Function, check_arguments, find_function


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How a job is to be run. None: the function's own default, else ours. Times in seconds; `at_s` since the epoch."""

    queue: str | None = None
    delay_s: float | None = None
    at_s: float | None = None
    expires_s: float | None = None
    priority: int | None = None
    retries: int | None = None
    backoff: tuple[float, float] | None = None
    timeout_s: float | None = None
    job_id: str | None = None
    run: str | None = None
    tags: list[str] = field(default_factory=list)
    label: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    stdin: bytes | None = None

    def due_s(self, now_s: float) -> float | None:
        """When it may start, in seconds since the epoch; None: at once."""
        return self.at_s if self.delay_s is None else now_s + self.delay_s


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One job, ready to be published. is_checked: its source was found, and the arguments fit."""

    envelope: Envelope
    is_checked: bool = True

    @property
    def needs_commands(self) -> bool:
        """Whether a worker must allow commands to run it."""
        return self.envelope.job.argv is not None

    @property
    def shown(self) -> str:
        """The call or the command for people."""
        job = self.envelope.job
        if job.argv is not None:
            return show_command(job.argv)
        return str(Call(job.task or "", msgspec.json.decode(job.args), msgspec.json.decode(job.kwargs)))


def wishes_of(options: Mapping[str, Any]) -> Wishes:
    """The wishes in the options of the command line. Raises: BadTime, TimeInThePast, BadValue, MessageTooLarge."""
    at_s = None
    if options["at"] is not None:
        from jobrunner.instants import parse_instant

        at_s = parse_instant(options["at"])
    return Wishes(
        queue=options["queue"],
        delay_s=options["delay"],
        at_s=at_s,
        expires_s=options["expires"],
        priority=options["priority"],
        retries=options["retries"],
        backoff=options["backoff"],
        timeout_s=options["timeout"],
        job_id=checked_id(options["id"]),
        tags=list(options["tag"]),
        label=options["label"],
        env=environment(options["env"]),
        cwd=None if options["cwd"] is None else absolute(options["cwd"]),
        stdin=read_stdin() if options["stdin"] else None,
    )


def plan_call(target: str, words: Sequence[str], options: Mapping[str, Any]) -> Plan:
    """The plan of `enqueue TARGET ARG...`. Raises: the errors of targets, arguments and sources."""
    task = parse_target(target)
    args, kwargs = parse_arguments(words, literal=options["arg"], raw=options["raw"])
    function = find_function(task, Path.cwd())
    if function is not None:
        check_arguments(task, function, len(args), kwargs)
    fields = {
        "task": task,
        "args": msgspec.Raw(to_json(args, msgspec.json.encode)),
        "kwargs": msgspec.Raw(to_json(kwargs, msgspec.json.encode)),
    }
    envelope = build(wishes_of(options), fields, queue_of(function), whoami())
    return Plan(envelope=envelope, is_checked=is_checked(function))


def plan_command(argv: Sequence[str], options: Mapping[str, Any]) -> Plan:
    """The plan of `enqueue -- COMMAND ARG...` and of a shell line."""
    envelope = build(wishes_of(options), {"argv": list(argv)}, None, whoami())
    return Plan(envelope=envelope)


def is_checked(function: Function | None) -> bool:
    """Whether the arguments could be held against a signature."""
    return function is not None and function.is_plain


def queue_of(function: Function | None) -> str | None:
    """The queue that the function itself names, if its source says so."""
    return function.queue if function else None


def whoami() -> str:
    """user@host."""
    from jobrunner.client import whoami as of_client

    return of_client()


def build(wishes: Wishes, fields: Mapping[str, Any], own_queue: str | None, user: str) -> Envelope:
    """The envelope of a new job. fields: `task`, `args`, `kwargs`, or `argv`. own_queue: the function's.

    Raises: QueueNameTooLong, BadValue, also for text that is not UTF-8.
    """
    now_s = time.time()
    due_s = wishes.due_s(now_s)
    queue = wishes.queue or own_queue or topology.DEFAULT_QUEUE
    topology.check_queue_name(queue)
    first_s, largest_s = wishes.backoff or (None, None)
    job = envelopes.new_job(
        queue=queue,
        job_id=wishes.job_id,
        max_attempts=None if wishes.retries is None else wishes.retries + 1,
        backoff_s=first_s,
        backoff_max_s=largest_s,
        timeout_s=wishes.timeout_s,
        expires_at=None if wishes.expires_s is None else (due_s or now_s) + wishes.expires_s,
        run=wishes.run,
        tags=wishes.tags,
        label=wishes.label,
        env=wishes.env,
        cwd=wishes.cwd,
        stdin=wishes.stdin,
        user=user,
        **fields,
    )
    priority = envelopes.DEFAULT_PRIORITY if wishes.priority is None else wishes.priority
    try:
        return envelopes.seal(job, priority=priority, not_before_s=due_s)
    except UnicodeEncodeError as exc:
        raise BadValue(problem="An argument is not UTF-8 text.", hint="pass a path or URL") from exc


def route_of(envelope: Envelope) -> tuple[str, str]:
    """Exchange and routing key by which the job would leave; the default exchange is the empty name."""
    if not envelope.state.not_before_ms:
        return "", envelope.job.queue
    return topology.route(max(0.0, envelope.state.not_before_ms / 1000 - time.time()), envelope.job.queue)
