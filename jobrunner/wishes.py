"""How a job is to be run, and the envelope that comes of it: what the command line and the Python API share."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jobrunner import envelope as envelopes
from jobrunner.broker import topology
from jobrunner.envelope import After, Envelope
from jobrunner.errors import BadValue
from jobrunner.ids import new_id


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


class Mold:
    """Makes the envelopes of jobs that share their wishes: what is the same in all of them is worked out once.

    user: who enqueues, for the ledger.
    """

    def __init__(self, wishes: Wishes, user: str) -> None:
        self._wishes = wishes
        self._user = user
        self._priority = envelopes.DEFAULT_PRIORITY if wishes.priority is None else wishes.priority
        # the function's own queue -> a job with nothing of its own
        self._jobs: dict[str | None, envelopes.Job] = {}

    def envelope(
        self, fields: Mapping[str, Any], own_queue: str | None, *, job_id: str | None = None, seq: int | None = None
    ) -> Envelope:
        """The envelope of a new job. fields: `task`, `args`, `kwargs`, or `argv`. own_queue: the function's. job_id,
        seq: in place of those of the wishes.

        Raises: QueueNameTooLong, BadValue, also for text that is not UTF-8.
        """
        wishes = self._wishes
        now_s = time.time()
        due_s = wishes.due_s(now_s)
        job = msgspec.structs.replace(
            self._jobs.get(own_queue) or self._job(own_queue),
            id=job_id or wishes.job_id or new_id(),
            iat=now_s,
            seq=wishes.seq if seq is None else seq,
            expires_at=None if wishes.expires_s is None else (due_s or now_s) + wishes.expires_s,
            **fields,
        )
        if "batch" in fields:
            job = msgspec.structs.replace(job, v=envelopes.BATCH_VERSION)
        try:
            return envelopes.seal(job, priority=self._priority, not_before_s=due_s)
        except UnicodeEncodeError as exc:
            raise BadValue(problem="An argument is not UTF-8 text.", hint="pass a path or URL") from exc

    def _job(self, own_queue: str | None) -> envelopes.Job:
        wishes = self._wishes
        queue = own_queue if wishes.queue is None else wishes.queue
        if queue is None:  # an empty name is none: whose variable is not set must not get another queue
            queue = topology.DEFAULT_QUEUE
        topology.check_queue_name(queue)
        first_s, largest_s = wishes.backoff or (None, None)
        job = self._jobs[own_queue] = envelopes.Job(
            v=envelopes.VERSION,
            id="",
            queue=queue,
            iat=0.0,
            max_attempts=None if wishes.retries is None else wishes.retries + 1,
            backoff_s=first_s,
            backoff_max_s=largest_s,
            timeout_s=wishes.timeout_s,
            run=wishes.run,
            tags=wishes.tags,
            label=wishes.label,
            env=wishes.env,
            cwd=wishes.cwd,
            stdin=wishes.stdin,
            user=self._user,
            after=wishes.after,
        )
        return job


def build(wishes: Wishes, fields: Mapping[str, Any], own_queue: str | None, user: str) -> Envelope:
    """The envelope of one job: see `Mold.envelope`."""
    return Mold(wishes, user).envelope(fields, own_queue)
