"""From options and words to an envelope: everything about a job that can be known before a broker is asked."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jobrunner.broker import topology
from jobrunner.calls import Call, parse_arguments, parse_target, show_command, to_json
from jobrunner.cli.enqueue_values import absolute, checked_id, environment, read_stdin
from jobrunner.envelope import Envelope
from jobrunner.sources import Function, check_arguments, find_function
from jobrunner.wishes import Wishes, build


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
        after=options["after"] or None,
    )


def plan_call(target: str, words: Sequence[str], options: Mapping[str, Any]) -> Plan:
    """The plan of `enqueue TARGET ARG...`. Raises: the errors of targets, arguments and sources."""
    call, function = checked_call(target, words, literal=options["arg"], raw=options["raw"])
    fields = fields_of(call)
    envelope = build(wishes_of(options), fields, queue_of(function), whoami())
    return Plan(envelope=envelope, is_checked=is_checked(function))


def plan_command(argv: Sequence[str], options: Mapping[str, Any]) -> Plan:
    """The plan of `enqueue -- COMMAND ARG...` and of a shell line."""
    envelope = build(wishes_of(options), {"argv": list(argv)}, None, whoami())
    return Plan(envelope=envelope)


def checked_call(
    target: str, words: Sequence[str], *, literal: Sequence[str] = (), raw: bool = False
) -> tuple[Call, Function | None]:
    """The call that a target and words name, held against its function, where that is found. literal, raw: as in
    `parse_arguments`. Raises: the errors of targets, arguments and sources.
    """
    task = parse_target(target)
    args, kwargs = parse_arguments(words, literal=literal, raw=raw)
    function = find_function(task, Path.cwd())
    if function is not None:
        check_arguments(task, function, len(args), kwargs)
    return Call(task, args, kwargs), function


def fields_of(call: Call) -> dict[str, Any]:
    """A call as fields of the envelope's `Job`. Raises: BadValue for what JSON cannot carry."""
    return {
        "task": call.task,
        "args": msgspec.Raw(to_json(call.args, msgspec.json.encode)),
        "kwargs": msgspec.Raw(to_json(call.kwargs, msgspec.json.encode)),
    }


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


def route_of(envelope: Envelope, broker_route: str) -> tuple[str, str]:
    """Exchange and routing key by which the job would leave; the default exchange is the empty name.

    broker_route: `route` of `[broker]`.
    """
    if envelope.waits:
        return topology.WAITING, topology.encode_word(envelope.job.queue)
    if broker_route == "jobs":
        return topology.route(0.0, envelope.job.queue)
    if not envelope.state.not_before_ms:
        return "", envelope.job.queue
    return topology.route(max(0.0, envelope.state.not_before_ms / 1000 - time.time()), envelope.job.queue)
