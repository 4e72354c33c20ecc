"""How a job is to be run, and the envelope that comes of it: what the command line and the Python API share."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobrunner import envelope as envelopes
from jobrunner.broker import topology
from jobrunner.envelope import After, Envelope
from jobrunner.errors import BadValue


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
    seq: int | None = None
    after: After | None = None

    def due_s(self, now_s: float) -> float | None:
        """When it may start, in seconds since the epoch; None: at once."""
        return self.at_s if self.delay_s is None else now_s + self.delay_s


def build(
    wishes: Wishes, fields: Mapping[str, Any], own_queue: str | None, user: str, *, seq: int | None = None
) -> Envelope:
    """The envelope of a new job. fields: `task`, `args`, `kwargs`, or `argv`. own_queue: the function's. seq: of one of
    many jobs that share their wishes.

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
        seq=wishes.seq if seq is None else seq,
        tags=wishes.tags,
        label=wishes.label,
        env=wishes.env,
        cwd=wishes.cwd,
        stdin=wishes.stdin,
        user=user,
        after=wishes.after,
        **fields,
    )
    priority = envelopes.DEFAULT_PRIORITY if wishes.priority is None else wishes.priority
    try:
        return envelopes.seal(job, priority=priority, not_before_s=due_s)
    except UnicodeEncodeError as exc:
        raise BadValue(problem="An argument is not UTF-8 text.", hint="pass a path or URL") from exc
