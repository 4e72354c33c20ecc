"""Run jobs on one machine or many, through RabbitMQ.

`job` marks a function that a worker may run; `context` tells a running job who it is; `Permanent` and `Retry` are
raised by jobs. `Client`, `AsyncClient` and `JobrunnerExecutor` queue jobs and wait for them; `call` makes a call to be
queued later. Names are looked up on first use, so that `jobrunner --help` imports none of what they need.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobrunner.api.aio import AsyncClient
    from jobrunner.api.aio_group import AsyncGroup
    from jobrunner.api.aio_handle import AsyncJobHandle
    from jobrunner.api.call import Call, call
    from jobrunner.api.decorator import JobFunction, job
    from jobrunner.api.executor import JobrunnerExecutor
    from jobrunner.api.group import Group
    from jobrunner.api.handle import JobHandle
    from jobrunner.api.sync import Client
    from jobrunner.errors import (
        JobCancelled,
        JobExpired,
        JobFailed,
        JobrunnerError,
        Permanent,
        Retry,
        WaitTimeout,
    )
    from jobrunner.registry import context

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "AsyncGroup",
    "AsyncJobHandle",
    "Call",
    "Client",
    "Group",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "JobFunction",
    "JobHandle",
    "JobrunnerError",
    "JobrunnerExecutor",
    "Permanent",
    "Retry",
    "WaitTimeout",
    "__version__",
    "call",
    "context",
    "job",
]

_HOMES = {
    "AsyncClient": "api.aio",
    "AsyncGroup": "api.aio_group",
    "AsyncJobHandle": "api.aio_handle",
    "Call": "api.call",
    "Client": "api.sync",
    "Group": "api.group",
    "JobCancelled": "errors",
    "JobExpired": "errors",
    "JobFailed": "errors",
    "JobFunction": "api.decorator",
    "JobHandle": "api.handle",
    "JobrunnerError": "errors",
    "JobrunnerExecutor": "api.executor",
    "Permanent": "errors",
    "Retry": "errors",
    "WaitTimeout": "errors",
    "call": "api.call",
    "context": "registry",
    "job": "api.decorator",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jobrunner' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"jobrunner.{_HOMES[name]}"), name)
