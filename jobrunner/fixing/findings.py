"""What an audit finds."""

import time

import msgspec

from jobrunner.fixing.census import Job


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is not where it must be. kind: lost, unproven, unrouted (in no queue of its own) or given_up (RabbitMQ
    put it among the dead letters, and the ledger does not know). text: what is known. job: as it was, of one that is
    lost.
    """

    id: str
    kind: str
    text: str
    job: Job | None = None


class Report(msgspec.Struct, kw_only=True):
    """ended: state -> jobs. unnamed: lost jobs of which it is not known yet which they are. letters: dead letters.
    waiting: jobs that wait for others.
    stale_letters: those of jobs that have gone on. notes: sentences.
    """

    ended: dict[str, int]
    ready: int
    running: int
    later: int
    moving: int
    waiting: int
    letters: int
    unrouted: int
    findings: list[Finding] = []
    unnamed: int = 0
    unproven: int = 0
    stale_letters: int = 0
    notes: list[str] = []

    def count(self, kind: str) -> int:
        """Findings of a kind."""
        return sum(finding.kind == kind for finding in self.findings)

    @property
    def lost(self) -> int:
        """Jobs that are nowhere."""
        return self.count("lost") + self.unnamed

    @property
    def open(self) -> int:
        """Jobs that have not ended."""
        here = self.ready + self.running + self.later + self.moving + self.waiting
        return here + self.unproven + self.unnamed + len(self.findings)

    @property
    def accepted(self) -> int:
        """All jobs that the ledger knows."""
        return sum(self.ended.values()) + self.open

    def move(self, *findings: Finding) -> None:
        """Jobs that were counted as ready are not."""
        self.findings += findings
        self.ready -= len(findings)

    def doubt(self, queue: str, missing: int, jobs: int, reason: str) -> None:
        """Of these jobs that were counted as ready so many may be lost; which, and whether, cannot be told."""
        self.unproven += missing
        self.ready -= missing
        self.notes.append(f"{missing} of {jobs} jobs on '{queue}' may be missing: {reason}.")


def known(job: Job) -> str:
    """What the ledger says of an open job: `queued for 240 s on 'video'`."""
    age_s = max(0, round(time.time() - job.since))
    where = f" on worker {job.worker}" if job.state == "running" and job.worker else ""
    return f"{job.state}{where} for {age_s} s on '{job.queue}'"
