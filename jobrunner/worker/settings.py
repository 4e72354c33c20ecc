"""What a worker was started to do."""

import msgspec

from jobrunner.brokerurl import BrokerUrl


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's options, resolved.

    queues: in the order in which they are looked at. procs: slots, each a channel and a process.
    apps: modules whose `@job` functions may run. allow_import: module prefixes; `*` (every module) is set only for a
    broker of one's own. raw_handler, raw_handler_command: what takes messages that are no jobs.
    allow_programs: of commands, those that may run where not all may.
    lost_after_s: how long nobody must claim a redelivered job before it runs; 0: it runs at once, unasked.
    """

    url: BrokerUrl
    queues: tuple[str, ...]
    procs: int
    name: str
    apps: tuple[str, ...] = ()
    allow_import: tuple[str, ...] = ()
    allow_commands: bool = False
    allow_programs: tuple[str, ...] = ()
    raw_handler: str | None = None
    raw_handler_command: tuple[str, ...] | None = None
    grace_s: float = 25.0
    lost_after_s: float = 15.0
    burst: bool = False
    max_jobs: int | None = None
    max_memory_bytes: int | None = None
    reload: bool = False
    share_broker: bool = False
    connect_timeout_s: float = 10.0
