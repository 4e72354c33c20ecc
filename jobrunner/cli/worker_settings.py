"""From the options of `jobrunner worker` what the worker may run, and what a person should know of that."""

import os
import secrets
import shlex
from collections.abc import Mapping
from typing import Any

from jobrunner.broker.topology import DEFAULT_QUEUE, check_queue_name
from jobrunner.cli.allowed import (
    apps_of,
    check_import_prefixes,
    check_open,
    check_programs,
    check_raw_is_unsigned,
    check_something_runs,
    raw_handler_of,
    runs_any_command,
)
from jobrunner.cli.shared import Shared
from jobrunner.worker.settings import WorkerSettings


def settings_of(shared: Shared, options: Mapping[str, Any]) -> WorkerSettings:
    """What the worker is to do. Raises: WorkerOpen, BadValue, BadTarget, QueueNameTooLong, the errors of the URL."""
    url = shared.settings.url
    check_import_prefixes(options["allow_import"])
    check_programs(options["allow_command"], all_allowed=options["allow_commands"])
    handler, handler_command = raw_handler_of(options["raw_handler"], options["raw_handler_command"])
    opens_all = options["allow_commands"] or runs_any_command(options["allow_command"])
    check_open(url, allows_commands=opens_all, insecure=options["insecure"])
    for queue in options["queue"]:
        check_queue_name(queue)
    # a broker of one's own: whoever can publish to it could run anything here anyway; but what was listed is the limit
    opens_itself = url.is_local_broker and not (options["allow_command"] or options["allow_import"])
    settings = WorkerSettings(
        url=url,
        queues=tuple(dict.fromkeys(options["queue"])) or (DEFAULT_QUEUE,),
        procs=options["procs"] or usable_cpus(),
        name=options["name"] or default_name(),
        apps=apps_of(options["app"], handler),
        allow_import=("*",) if opens_itself else tuple(options["allow_import"]),
        allow_commands=options["allow_commands"] or opens_itself,
        allow_programs=tuple(dict.fromkeys(options["allow_command"])),
        raw_handler=handler,
        raw_handler_command=tuple(shlex.split(handler_command)) if handler_command else None,
        grace_s=options["grace"],
        lost_after_s=options["lost_after"],
        burst=options["burst"],
        max_jobs=options["max_jobs"],
        max_memory_bytes=options["max_memory"],
        reload=options["reload"],
        share_broker=options["share_broker"],
        connect_timeout_s=shared.settings.connect_timeout_s,
    )
    check_something_runs(settings)
    check_raw_is_unsigned(settings)
    return settings


def warn_of_openness(shared: Shared, settings: WorkerSettings) -> None:
    """What a person should know about a broker that is not on this machine."""
    url = settings.url
    if url.is_loopback:
        return
    if url.ring is None:
        what = "which of its functions run"
        if settings.allow_commands or settings.allow_programs:
            what = "which commands run here" if settings.allow_commands else "which of its functions and programs run"
        shared.warn(f"Jobs from {url.host} are not signed: whoever can publish there chooses {what}.")
    if not url.tls:
        shared.warn(f"Passwords and jobs cross the network to {url.host} in the clear. amqps:// encrypts.")


def usable_cpus() -> int:
    """CPUs that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_name() -> str:
    """`mbp-7f3a`: this host and four random digits."""
    return f"{os.uname().nodename.partition('.')[0]}-{secrets.token_hex(2)}"
