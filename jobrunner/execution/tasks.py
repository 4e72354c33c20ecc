"""A job in the child, step by step: admit, resolve, decode, enter, call, classify. Each gives way to an outcome."""

import contextlib
import importlib
import os
import re
import time
from collections.abc import Callable
from functools import partial
from types import CoroutineType, ModuleType
from typing import Any, Final

import msgspec

from jobrunner import registry
from jobrunner.execution import batches, commands, frames
from jobrunner.execution.failures import Failure, binding, classify, rejected
from jobrunner.execution.progress import Reporter
from jobrunner.execution.surroundings import Surroundings
from jobrunner.failpoint import failpoint
from jobrunner.outcome import Error, Outcome, Rejected, Succeeded, UnknownFunction

MAX_RESULT_BYTES: Final = 1024 * 1024
CUT_RESULT_BYTES: Final = 64 * 1024
"""Kept of a larger one."""

MAX_DEPTH: Final = batches.MAX_DEPTH

ANY_MODULE: Final = "*"
_NOT_FOR_FUNCTIONS: Final = re.compile(r"PATH|PYTHON.*|LD_.*|DYLD_.*", re.DOTALL)
_OURS: Final = "JOBRUNNER_"

_encoder = msgspec.json.Encoder()
_decode_args: Final = msgspec.json.Decoder(list[Any]).decode
_decode_kwargs: Final = msgspec.json.Decoder(dict[str, Any]).decode


MOST_IN_A_VARIABLE = 1000
"""Ids in one variable: Linux takes no longer one than 128 KiB."""


class _Refused(Exception):
    """Carries the outcome up from a step."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class _Found(Exception):
    """The function has wishes that the parent does not know."""

    def __init__(self, spec: registry.FunctionSpec) -> None:
        super().__init__()
        self.spec = spec


class Tasks:
    """Runs jobs, one after another, in this process."""

    def __init__(self, setup: frames.Setup, surroundings: Surroundings, reporter: Reporter) -> None:
        self._setup = setup
        self._surroundings = surroundings
        self._reporter = reporter
        self._raw_handler: Callable[..., Any] | None = None
        if setup.raw_handler:
            module, _, function = setup.raw_handler.partition(":")
            self._raw_handler = _function_of(importlib.import_module(module), function)
        self._told = {spec.name for spec in registry.specs()}

    @property
    def has_raw_handler(self) -> bool:
        """Whether the raw handler that was asked for was found."""
        return self._raw_handler is not None

    def run(self, job: frames.Job, body: bytes | None) -> Failure | registry.FunctionSpec:
        """Run it. Whatever the job does, this returns its outcome, unless the process itself ends.

        Nothing has run where it gives what the function wants for its runs: the parent is to know that before.
        """
        self._reporter.begin(job.number)
        try:
            admit(job)
            if job.argv is not None:
                return Failure(self._run_command(job, body))
            return self._run_function(job, body)
        except _Refused as refused:
            return Failure(refused.outcome)
        except _Found as found:
            return found.spec
        finally:
            self._reporter.end()

    def _run_function(self, job: frames.Job, body: bytes | None) -> Failure:
        function = self.resolve(job.task or "")
        if job.task not in self._told:
            self._tell(function)
        batch = batches.decode(job.batch)
        if isinstance(batch, Rejected):
            raise _Refused(batch)
        args, kwargs = ([body], {}) if job.has_body else decode_arguments(job)
        self._enter(job, {**job.env, **self.job_variables(job)})
        registry.enter_context(
            {
                "id": job.id,
                "attempt": job.attempt,
                "max_attempts": job.max_attempts,
                "queue": job.queue,
                "worker": self._setup.worker,
                "deadline": job.deadline,
                "after": job.after,
                "after_run": job.after_run,
                "tell": self._reporter.report,
            }
        )
        failpoint("child.before_run")
        try:
            if batch is not None:
                spec = registry.spec_of(function)
                return batches.run(batch, partial(self._call, function), once=spec is not None and spec.retries == 0)
            return self._call(function, args, kwargs)
        finally:
            registry.leave_context()

    def _tell(self, function: Callable[..., Any]) -> None:
        spec = registry.spec_of(function)
        if spec is not None and spec.name not in self._told:
            self._told.add(spec.name)
            if (spec.retries, spec.backoff_s, spec.timeout_s) != (None, None, None):
                raise _Found(spec)

    def _call(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Failure:
        try:
            value = call(function, args, kwargs)
        except BaseException as exc:  # noqa: BLE001 - whatever a job raises is its outcome, sys.exit() included
            self.leave_if_copy()
            failpoint("child.after_run")
            return classify(exc, binding(function, args, kwargs))
        self.leave_if_copy()
        failpoint("child.after_run")
        return Failure(encode_result(value))

    def leave_if_copy(self) -> None:
        """Exit when this is not the child but a copy of it: the job has forked and returned in both."""
        if os.getpid() != self._surroundings.pid:
            os._exit(0)

    def _run_command(self, job: frames.Job, body: bytes | None) -> Outcome:
        self._enter(job, {})
        environment = {**os.environ, **job.env, **self.job_variables(job)}
        failpoint("child.before_run")
        outcome = commands.run_command(job, body, environment, self._setup.worker, self._reporter.report)
        failpoint("child.after_run")
        return outcome

    def _enter(self, job: frames.Job, variables: dict[str, str]) -> None:
        try:
            self._surroundings.enter(variables, job.cwd)
        except OSError as exc:
            text = f"'{job.cwd}' cannot be the folder of a job on worker {self._setup.worker}: {exc.strerror}."
            raise _Refused(rejected("cannot_start", text)) from exc
        except ValueError as exc:
            raise _Refused(rejected("malformed", f"its environment is not valid: {exc}")) from exc

    def job_variables(self, job: frames.Job) -> dict[str, str]:
        """The variables `JOBRUNNER_JOB_*` of a job."""
        found = {
            "JOBRUNNER_JOB_ID": job.id,
            "JOBRUNNER_JOB_ATTEMPT": str(job.attempt),
            "JOBRUNNER_JOB_MAX_ATTEMPTS": str(job.max_attempts),
            "JOBRUNNER_JOB_QUEUE": job.queue,
            "JOBRUNNER_JOB_WORKER": self._setup.worker,
            "JOBRUNNER_JOB_SLOT": str(self._setup.slot),
        }
        if job.deadline is not None:
            with contextlib.suppress(OverflowError, OSError, ValueError):  # beyond what a calendar holds
                found["JOBRUNNER_JOB_DEADLINE"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(job.deadline))
        if job.run is not None:
            found["JOBRUNNER_JOB_RUN"] = job.run
        if job.after_run is not None:
            found["JOBRUNNER_JOB_AFTER_RUN"] = job.after_run
        if 0 < len(job.after) <= MOST_IN_A_VARIABLE:
            found["JOBRUNNER_JOB_AFTER"] = ",".join(job.after)
        if job.seq is not None:
            found["JOBRUNNER_JOB_SEQ"] = str(job.seq)
        if job.input is not None:
            found["JOBRUNNER_JOB_INPUT"] = job.input
        return found

    def resolve(self, task: str) -> Callable[..., Any]:
        """The function of a job: from the table of `@job`, or from a module that `--allow-import` opened."""
        function = registry.lookup(task)
        if function is not None:
            return function
        if task == self._setup.raw_handler and self._raw_handler is not None:
            return self._raw_handler
        module, _, name = task.partition(":")
        if not registry.is_task_name(task) or not self._allows(module):
            raise _Refused(self._unknown(task))
        try:
            found = _function_of(importlib.import_module(module), name)
        except ModuleNotFoundError as exc:
            if exc.name is not None and (module == exc.name or module.startswith(f"{exc.name}.")):
                raise _Refused(self._unknown(task)) from exc
            raise _Refused(classify(exc, None).outcome) from exc
        except BaseException as exc:
            raise _Refused(classify(exc, None).outcome) from exc
        function = registry.lookup(task) or found
        if function is None:
            raise _Refused(self._unknown(task))
        return function

    def _allows(self, module: str) -> bool:
        return any(
            prefix in (ANY_MODULE, module) or module.startswith(f"{prefix}.") for prefix in self._setup.allow_import
        )

    def _unknown(self, task: str) -> Outcome:
        message = f"Worker {self._setup.worker} has no function {task}."
        return UnknownFunction(error=Error(reason="unknown_function", message=message))


def _function_of(module: ModuleType, name: str) -> Callable[..., Any] | None:
    """A public function that the module itself defines. What it only imported (`from os import system`) is not its."""
    found = vars(module).get(name)
    if name.startswith("_") or not callable(found) or getattr(found, "__module__", None) != module.__name__:
        return None
    function: Callable[..., Any] = found
    return function


def admit(job: frames.Job) -> None:
    """Refuse variables that would change what runs, for functions, or pose as ours, for all."""
    for name, value in job.env.items():
        if not name or "=" in name or "\0" in name + value:
            raise _Refused(rejected("malformed", f"{name!r} cannot be a variable of an environment."))
        if name.startswith(_OURS) or (job.argv is None and _NOT_FOR_FUNCTIONS.fullmatch(name)):
            raise _Refused(rejected("not_allowed", f"A job may not set the variable {name}."))


def decode_arguments(job: frames.Job) -> tuple[list[Any], dict[str, Any]]:
    """The arguments, decoded here, where a bomb of brackets or digits can hurt nobody else."""
    try:
        args, kwargs = _decode_args(job.args), _decode_kwargs(job.kwargs)
    except (ValueError, RecursionError, MemoryError) as exc:
        raise _Refused(rejected("malformed", f"the arguments cannot be decoded: {exc}")) from exc
    for raw, value in ((job.args, args), (job.kwargs, kwargs)):
        opened = bytes(raw)
        if opened.count(b"[") + opened.count(b"{") > MAX_DEPTH and batches.depth_of(value) > MAX_DEPTH + 1:
            raise _Refused(rejected("malformed", f"the arguments nest deeper than {MAX_DEPTH}"))
    return args, kwargs


def call(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What the function returns; a coroutine is run to its end on a loop of its own."""
    value = function(*args, **kwargs)
    if isinstance(value, CoroutineType):
        import asyncio

        return asyncio.run(value)
    return value


def encode_result(value: Any) -> Outcome:
    """Succeeded with the value as JSON; Rejected when it has none. msgspec's types are JSON here.

    The work is done, so a result over 1 MiB is no failure: the beginning of its JSON is kept, as a text, and marked.
    """
    if value is None:
        return Succeeded()
    try:
        data = _encoder.encode(value)
        # msgspec writes NaN and Infinity as null, which would be another result than the function's
        if b"null" in data and _has_no_json(msgspec.to_builtins(value, str_keys=True)):
            return rejected("bad_result", "the result is not JSON: it holds NaN or Infinity")
    except Exception as exc:  # noqa: BLE001 - a result's own methods may raise anything
        return rejected("bad_result", f"the result is not JSON: {exc}")
    if len(data) > MAX_RESULT_BYTES:
        kept = data[:CUT_RESULT_BYTES].decode(errors="ignore")
        return Succeeded(result=msgspec.Raw(_encoder.encode(kept)), truncated=True)
    return Succeeded(result=msgspec.Raw(data))


def _has_no_json(value: Any) -> bool:
    """Whether a float in it is NaN or infinite."""
    level = [value]
    while level:
        if any(isinstance(item, float) and (item - item) != 0 for item in level):
            return True
        parts = [item.values() if isinstance(item, dict) else item for item in level if _is_container(item)]
        level = [part for some in parts for part in some]
    return False


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list | tuple | set | frozenset)
