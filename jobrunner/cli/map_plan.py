"""From the options of `map` to what is run, for what, and how."""

import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from jobrunner.broker import topology
from jobrunner.calls import parse_target
from jobrunner.cli.after import WHEN
from jobrunner.cli.enqueue_plan import queue_of, whoami
from jobrunner.cli.enqueue_values import absolute, environment
from jobrunner.cli.map_source import Source
from jobrunner.cli.map_then import Then, then_of
from jobrunner.errors import BadValue
from jobrunner.mapping.halt import Halt, parse_halt
from jobrunner.mapping.recipe import Recipe
from jobrunner.mapping.template import Call, Command
from jobrunner.sources import check_arguments, find_function
from jobrunner.wishes import Wishes

IN_FLIGHT: Final = 1000
"""Jobs, unless something else is asked for."""

INPUTS_IN_FLIGHT: Final = 50_000
"""In batches fewer jobs, so that there are no more inputs than this, but at least `BATCHES_IN_FLIGHT` jobs."""

BATCHES_IN_FLIGHT: Final = 20
_RUN: Final = re.compile(r"[\w.:@+=-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class MapPlan:
    """Everything that the command line says. limit: inputs on their way. is_named: the run's name was given."""

    recipe: Recipe
    source: Source
    limit: int
    is_named: bool
    halt: Halt | None
    options: Mapping[str, Any]
    then: Then | None = None


def plan(
    target: str | None,
    args: Sequence[str],
    tail: Sequence[str] | None,
    inputs: Sequence[str] | None,
    options: Mapping[str, Any],
) -> MapPlan:
    """The plan. Raises: the errors of targets, arguments, options and inputs."""
    source = Source(options, inputs)
    batch = options["batch"]
    jobs = options["max_in_flight"] or min(IN_FLIGHT, max(BATCHES_IN_FLIGHT, INPUTS_IN_FLIGHT // batch))
    recipe = _recipe(target, args, tail, options, source)
    topology.check_queue_name(recipe.wishes.queue or recipe.queue or topology.DEFAULT_QUEUE)
    then = None
    if options["then"] is not None:
        then = then_of(options["then"], options["when"] or WHEN[0], recipe.run, recipe.wishes)
    return MapPlan(
        then=then,
        recipe=recipe,
        source=source,
        limit=jobs * batch,
        is_named=options["run"] is not None,
        halt=None if options["halt"] is None else parse_halt(options["halt"]),
        options=options,
    )


def _recipe(
    target: str | None, args: Sequence[str], tail: Sequence[str] | None, options: Mapping[str, Any], source: Source
) -> Recipe:
    wishes = wishes_of(options)
    if target is None:
        argv = list(tail or ())
        run = run_name(options["run"], PurePath(argv[0]).name)
        return Recipe(
            run=run, wishes=wishes, user=whoami(), command=Command(argv, has_keys=source.has_keys, parts=source.parts)
        )
    task = parse_target(target)
    call = Call(args, has_keys=source.has_keys, rows=source.is_csv, parts=source.parts)
    function = find_function(task, Path.cwd())
    if function is not None:
        check_arguments(task, function, call.positional, call.keywords)
    return Recipe(
        run=run_name(options["run"], task.rpartition(":")[2]),
        wishes=wishes,
        user=whoami(),
        task=task,
        call=call,
        queue=queue_of(function),
        batch=options["batch"],
    )


def run_name(given: str | None, what: str) -> str:
    """The name of the run: as it was given, else `<task>-<4 hex>`. Raises: BadValue."""
    if given is None:
        return f"{re.sub('[^A-Za-z0-9_.-]', '_', what)[:60] or 'map'}-{secrets.token_hex(2)}"
    if not _RUN.fullmatch(given) or len(topology.encode_word(given)) > topology.MAX_RUN_BYTES:
        raise BadValue(
            problem=f"{shlex.quote(given)} cannot be the name of a run.", hint="letters, digits, . _ - : @ + ="
        )
    return given


def wishes_of(options: Mapping[str, Any]) -> Wishes:
    """How each job is to be run. Raises: BadValue."""
    return Wishes(
        queue=options["queue"],
        delay_s=options["delay"],
        expires_s=options["expires"],
        priority=options["priority"],
        retries=options["retries"],
        backoff=options["backoff"],
        timeout_s=options["timeout"],
        tags=list(options["tag"]),
        env=environment(options["env"]),
        cwd=None if options["cwd"] is None else absolute(options["cwd"]),
    )
