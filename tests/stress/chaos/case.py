"""The evidence of a chaos run, put in order, and the verdict on it. Pure. Imports nothing of jobrunner."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

ENDS = ("succeeded", "dead", "cancelled", "expired")


@dataclass
class Evidence:
    """What is known. Times are monotonic seconds, of one machine.

    producers: their lines. witness: (word, id, attempt, pid, parent, t). faults: kind, start, end, scope, most.
    starts: which pid was which worker. events: of the ledger, decoded. dead: headers and ids of the dead letters.
    left: messages that are still in a queue, by queue. read_to_end: whether the ledger was read to its end.
    processes: left behind. sizes: worker -> (first, last), fds and rss_kib. wanted: kind of fault -> how often it must
    have struck.
    """

    producers: list[dict[str, Any]] = field(default_factory=list)
    witness: list[tuple[str, str, int, int, int, float]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    dead: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    read_to_end: bool = False
    processes: list[str] = field(default_factory=list)
    sizes: dict[str, tuple[dict[str, int], dict[str, int]]] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)


@dataclass
class Run:
    """One start in the witness. end: None when it never came to it."""

    id: str
    attempt: int
    pid: int
    worker: str
    start: float
    end: float | None = None


@dataclass
class Verdict:
    """violations: invariant and what breaks it. figures: for people."""

    violations: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.violations

    def blame(self, invariant: str, texts: list[str]) -> None:
        """Note what breaks an invariant: all of it in the count, ten by name."""
        if texts:
            self.violations.append(f"{invariant} ({len(texts)}): " + "; ".join(texts[:10]))


class Case:
    """The evidence, put in order."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.intents = {line["id"]: line for line in evidence.producers if line["do"] == "intent"}
        self.words: dict[str, list[str]] = defaultdict(list)
        for line in evidence.producers:
            if "id" in line:
                self.words[line["id"]].append(line["do"])
        self.workers = {line["pid"]: line["name"] for line in evidence.starts if line.get("kind") == "worker"}
        self.runs = self._runs()
        self.ends: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in evidence.events:
            if event.get("kind") in ENDS:
                self.ends[event["id"]].append(event)
        self.deletes = [fault for fault in evidence.faults if fault.get("deleted")]

    def _runs(self) -> dict[str, list[Run]]:
        runs: dict[str, list[Run]] = defaultdict(list)
        open_runs: dict[tuple[str, int], Run] = {}
        for word, job_id, attempt, pid, parent, t in sorted(self.evidence.witness, key=lambda line: line[5]):
            if word == "start":
                run = Run(job_id, attempt, pid, self.workers.get(parent, f"pid {parent}"), t)
                runs[job_id].append(run)
                open_runs[job_id, pid] = run
            elif (job_id, pid) in open_runs:
                open_runs.pop((job_id, pid)).end = t
        return runs

    def is_ok(self, job_id: str) -> bool:
        return "ok" in self.words[job_id]

    def deleted_away(self, job_id: str) -> bool:
        """Whether it may have waited in a queue when that was deleted: the one loss that somebody asked for."""
        intent = self.intents[job_id]
        return any(f["deleted"] == intent.get("queue") and intent["t"] <= f["end"] for f in self.deletes)
