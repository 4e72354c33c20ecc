"""Run jobs on one machine or many, through RabbitMQ.

`job` marks a function that a worker may run; `context` tells a running job who it is; `Permanent` and `Retry` are
raised by jobs. Names are looked up on first use, so that `jobrunner --help` imports none of what they need.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobrunner.errors import Permanent, Retry
    from jobrunner.registry import context, job

__version__ = "0.1.0"
__all__ = ["Permanent", "Retry", "__version__", "context", "job"]

_HOMES = {"Permanent": "errors", "Retry": "errors", "context": "registry", "job": "registry"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jobrunner' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"jobrunner.{_HOMES[name]}"), name)
