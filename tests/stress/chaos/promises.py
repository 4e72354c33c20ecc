"""Invariants of single jobs beyond their end: when they start, how often they are tried, what they bring. Pure."""

from collections import defaultdict

from tests.stress.chaos.case import Case, Run, Verdict

EARLY_S = 0.3
"""How much earlier than its due time a job may start: two machines' clocks differ, and so do two readings of one."""

ATTEMPTS = 3
ONCE = ("timeout", "permanent")
"""Kinds that are tried once."""


def not_early(case: Case, verdict: Verdict) -> None:
    """I11."""
    early = []
    for job_id, intent in case.intents.items():
        runs = case.runs.get(job_id)
        if "delay" in intent and runs:
            before_s = intent["t"] + intent["delay"] - min(run.start for run in runs)
            if before_s > EARLY_S:
                early.append(f"{job_id} by {before_s:.1f} s")
    verdict.blame("I11 a job started before it was due", early)


def attempts(case: Case, verdict: Verdict) -> None:
    """I12. What was told of a job that went with its queue may have gone unanswered."""
    told: dict[str, set[int]] = defaultdict(set)
    for event in case.evidence.events:
        if event.get("kind") == "retrying" and event.get("counted", True):
            told[event["id"]].add(int(event.get("attempt", 0)))
    over, untold = [], []
    for job_id, intent in case.intents.items():
        seen = {run.attempt for run in case.runs.get(job_id, ())}
        if seen and max(seen) > (1 if intent["kind"] in ONCE else ATTEMPTS):
            over.append(f"{job_id} {intent['kind']} attempt {max(seen)}")
        untold += [
            f"{job_id} attempt {number}"
            for number in sorted(seen)
            if number > 1 and number - 1 not in told[job_id] and not case.deleted_away(job_id)
        ]
    verdict.blame("I12 a job was tried more often than it may be", over)
    verdict.blame("I12 a second try that the ledger does not tell of", untold)


def results(case: Case, verdict: Verdict) -> None:
    """I13."""
    wrong, checked = [], 0
    for job_id, ends in case.ends.items():
        if job_id not in case.intents:
            continue
        done = {_mark(run) for run in case.runs.get(job_id, ()) if run.end is not None}
        for event in ends:
            if event["kind"] == "succeeded" and "result" in event:
                checked += 1
                if event["result"] not in done:
                    wrong.append(f"{job_id} {event['result']}")
    verdict.blame("I13 a result that no run of that job has brought", wrong)
    verdict.figures |= {"results_checked": checked}


def _mark(run: Run) -> str:
    """As `jobs.py` returns it."""
    return f"{run.id} {run.attempt} {run.pid}"
