"""Judges a chaos run by what was written down outside of jobrunner: producers' ledgers, the witness, the faults, and
what the broker holds at the end. Pure: the same evidence gives the same verdict. Imports nothing of jobrunner.

The invariants are numbered as in `docs/reliability.md`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.stress.chaos import promises
from tests.stress.chaos.case import Case, Evidence, Run, Verdict

DIES = {"fails", "permanent", "crash", "timeout", "hog"}
"""Kinds of job that must end dead; every other must succeed."""

CRASHES = {"crash", "hog"}
CRASH_RUNS = 3
POISON_STRIKES = 5
EXCUSED = ("crash", "poison")
"""Reasons for which a good job may be dead: its process or its worker was killed under it three or five times."""

REACH_S = 85.0
"""How long after its end a fault can still make a job run again: two heartbeats, 30 s until the next try to connect,
and the broker's own resend of a dead letter. A fault may say that it reaches further."""

OVERLAP_S = 2.0
RECOVERY_P99_S = 15.0
ENOUGH = 100
"""Measured recoveries from which on a 99th percentile says something."""

OWN_DEATHS = ("worker_killed", "worker_killed_at_point", "worker_terminated", "child_killed", "app_broken")
"""Faults after which nothing of a run may live on: they explain a second run, but not one at the same time."""


def check(evidence: Evidence) -> Verdict:
    """The verdict."""
    case, verdict = Case(evidence), Verdict()
    _accepted(case, verdict)
    _runs(case, verdict)
    _ends(case, verdict)
    _hostile(case, verdict)
    _afterwards(case, verdict)
    _recovery(case, verdict)
    promises.not_early(case, verdict)
    promises.attempts(case, verdict)
    promises.results(case, verdict)
    _whole(case, verdict)
    _exposed(case, verdict)
    return verdict


def _accepted(case: Case, verdict: Verdict) -> None:
    ended = {job_id for job_id in case.ends if job_id in case.intents}
    ok = [job_id for job_id in case.intents if case.is_ok(job_id)]
    missing = [job_id for job_id in ok if job_id not in ended]
    lost = [job_id for job_id in missing if not case.deleted_away(job_id)]
    verdict.blame("I1 a confirmed job has not ended", [f"{i} {case.intents[i]['kind']}" for i in lost])
    nothing = [i for i in case.intents if case.words[i][-1] == "nothing" and "unknown" not in case.words[i]]
    verdict.blame("I3 a refused job ran or ended", [i for i in nothing if i in case.runs or i in case.ends])
    unsure = [i for i in case.intents if not case.is_ok(i) and i not in nothing]
    half = [i for i in unsure if i in case.runs and i not in ended and not case.deleted_away(i)]
    verdict.blame("I4 an unconfirmed job ran and did not end", half)
    verdict.figures |= {
        "jobs": len(case.intents),
        "confirmed": len(ok),
        "refused": len(nothing),
        "unconfirmed": len(unsure),
        "unconfirmed_ended": sum(job_id in ended for job_id in unsure),
        "ended": len(ended),
        "lost": len(lost),
        "deleted_with_their_queue": len(missing) - len(lost),
    }


def _runs(case: Case, verdict: Verdict) -> None:
    strangers = [job_id for job_id in case.runs if job_id not in case.intents]
    verdict.blame("I7 a job ran that nobody enqueued", strangers)
    extra: list[tuple[Run, list[Run]]] = []
    for job_id, runs in case.runs.items():
        allowed = CRASH_RUNS if case.intents.get(job_id, {}).get("kind") in CRASHES else 1
        for attempt in {run.attempt for run in runs}:
            same = [run for run in runs if run.attempt == attempt]
            extra += [(run, same[:number]) for number, run in enumerate(same) if number >= allowed]
    unexplained, causes = _explain(case, sorted(extra, key=lambda pair: pair[0].start))
    verdict.blame("I6 a second run that no fault explains", [f"{run.id} on {run.worker}" for run in unexplained])
    overlaps = list(_overlaps(case))
    loose = [late for early, late in overlaps if not _may_overlap(case, early, late)]
    verdict.blame("I9 two runs at once that no fault explains", [f"{run.id} on {run.worker}" for run in loose])
    verdict.figures |= {
        "runs": sum(map(len, case.runs.values())),
        "repeated_explained": len(extra) - len(unexplained),
        "repeated_by": dict(causes.most_common()),
        "repeated_unexplained": len(unexplained),
        "at_the_same_time": len(overlaps),
    }


def _explain(case: Case, extra: list[tuple[Run, list[Run]]]) -> tuple[list[Run], Counter[str]]:
    """The second runs that are left when each fault has explained as many as it can, those that end first, first; and
    which kinds of fault explained the others.
    """
    causes: Counter[str] = Counter()
    resends = Counter(line["id"] for line in case.evidence.producers if line["do"] == "resend")
    room = {index: fault["most"] for index, fault in enumerate(case.evidence.faults)}
    left = []
    for run, earlier in extra:
        if resends[run.id] > 0:
            resends[run.id] -= 1
            causes["enqueued twice"] += 1
            continue
        fitting = [
            index
            for index, fault in enumerate(case.evidence.faults)
            if room[index] > 0
            and fault["start"] <= run.start <= fault["end"] + fault.get("reach", REACH_S)
            and any(before.worker in fault["scope"] for before in earlier)
        ]
        if fitting:
            chosen = min(fitting, key=lambda index: case.evidence.faults[index]["end"])
            room[chosen] -= 1
            causes[case.evidence.faults[chosen]["kind"]] += 1
        else:
            left.append(run)
    return left, causes


def _overlaps(case: Case) -> Iterator[tuple[Run, Run]]:
    for runs in case.runs.values():
        for number, late in enumerate(runs):
            for early in runs[:number]:
                if early.end is not None and early.end - late.start > OVERLAP_S:
                    yield early, late


def _may_overlap(case: Case, early: Run, late: Run) -> bool:
    """Whether the first run's worker, or what is between it and the broker, was cut off while it ran."""
    return any(
        fault["start"] <= late.start
        and early.start <= fault["end"] + REACH_S
        and early.worker in fault["scope"]
        and fault["kind"] not in OWN_DEATHS
        for fault in case.evidence.faults
    ) or any(line["do"] == "resend" and line["id"] == late.id for line in case.evidence.producers)


def _ends(case: Case, verdict: Verdict) -> None:
    finished = {run.id for runs in case.runs.values() for run in runs if run.end is not None}
    phantom, torn, wrong, excused, given_up = [], [], [], 0, 0
    for job_id, ends in case.ends.items():
        if job_id not in case.intents:
            continue
        kinds = {event["kind"] for event in ends}
        if "succeeded" in kinds and job_id not in finished:
            phantom.append(job_id)
        if len(kinds) > 1 and _given_up(case, job_id):
            given_up += 1
        elif len(kinds) > 1 and len(case.runs[job_id]) < 2:
            torn.append(f"{job_id} {sorted(kinds)}")
        expected = "dead" if case.intents[job_id]["kind"] in DIES else "succeeded"
        if expected not in kinds:
            reasons = {event.get("error", {}).get("reason") for event in ends}
            if kinds == {"dead"} and reasons <= set(EXCUSED):
                excused += 1
            else:
                wrong.append(f"{job_id} {case.intents[job_id]['kind']} {sorted(kinds)} {sorted(map(str, reasons))}")
    verdict.blame("I2 succeeded without a last line in the witness", phantom)
    verdict.blame("I5 one run and two ends", torn)
    verdict.blame("I5 the wrong end", wrong)
    verdict.figures |= {"killed_until_dead": excused, "ended_and_dead_as_poison": given_up}


def _given_up(case: Case, job_id: str) -> bool:
    """Whether a job that has ended became a dead letter as well, because those who knew of its end were killed, and so
    many faults struck those who had its message then that it was taken for poison.
    """
    reasons = {event.get("error", {}).get("reason") for event in case.ends[job_id] if event["kind"] == "dead"}
    began = case.intents[job_id]["t"]
    struck = [f for f in case.evidence.faults if began <= f["end"] and f["start"] <= began + 2 * REACH_S and f["scope"]]
    return reasons == {"poison"} and len(struck) >= POISON_STRIKES


def _hostile(case: Case, verdict: Verdict) -> None:
    sent = [line["sha256"] for line in case.evidence.producers if line["do"] == "hostile-ok"]
    refused = {letter.get("jr-sha256") for letter in case.evidence.dead}
    verdict.blame("I1 a hostile message is no dead letter", [sha for sha in sent if sha not in refused])
    verdict.figures |= {"hostile": len(sent)}


def _afterwards(case: Case, verdict: Verdict) -> None:
    evidence = case.evidence
    verdict.blame("I8 messages are left", [f"{queue}: {count}" for queue, count in evidence.left.items() if count])
    verdict.blame("I8 processes are left", evidence.processes)
    letters = {str(letter["id"]) for letter in evidence.dead if "jr-sha256" not in letter}
    said = {job_id for job_id, ends in case.ends.items() if any(event["kind"] == "dead" for event in ends)}
    said &= case.intents.keys()
    verdict.blame("I8 said to be dead, but no dead letter", sorted(said - letters))
    verdict.blame("I8 a dead letter that no event tells of", sorted(letters - said))
    copied = [str(letter["id"]) for letter in evidence.dead if "jr-reason" in letter and "x-death" in letter]
    verdict.blame("I8 what the broker had written was published again", copied)
    grown = []
    for worker, (first, last) in evidence.sizes.items():
        if last["fds"] > first["fds"] * 1.2 + 8 or last["rss_kib"] > first["rss_kib"] * 1.2 + 16_384:
            grown.append(f"{worker}: {first} -> {last}")
    verdict.blame("I8 a worker has grown", grown)


def _recovery(case: Case, verdict: Verdict) -> None:
    """Seconds from the end of a fault to the next start of a job on a worker in its scope."""
    starts: dict[str, list[float]] = defaultdict(list)
    for runs in case.runs.values():
        for run in runs:
            starts[run.worker].append(run.start)
    for times in starts.values():
        times.sort()
    took = []
    last_intent = max((line["t"] for line in case.intents.values()), default=0.0)
    for fault in case.evidence.faults:
        for worker in fault["scope"]:
            after = next((t for t in starts[worker] if t >= fault["end"]), None)
            until = after if after is not None else float("inf")
            disturbed = any(
                other is not fault
                and worker in other["scope"]
                and other["start"] < until
                and other["end"] > fault["end"]
                for other in case.evidence.faults
            )
            if not disturbed and fault["end"] + RECOVERY_P99_S < last_intent:
                took.append((until - fault["end"], fault["kind"]))
    took.sort()
    verdict.figures |= {"recoveries": len(took)}
    if took:
        p99 = took[int(len(took) * 0.99)] if len(took) >= ENOUGH else took[-1]
        if len(took) >= ENOUGH and p99[0] > RECOVERY_P99_S:
            verdict.blame("I10 it takes long until jobs start again", [f"{p99[0]:.1f} s after {p99[1]}"])
        verdict.figures |= {
            "recovery_p50_s": round(took[len(took) // 2][0], 2),
            "recovery_p99_s": round(p99[0], 2),
            "slowest": [f"{kind} {seconds:.1f}" for seconds, kind in took[-5:]],
        }


def _whole(case: Case, verdict: Verdict) -> None:
    """I14: what was not looked at proves nothing."""
    if not case.evidence.read_to_end:
        verdict.blame("I14 the ledger was not read to its end", ["no marker"])
    struck = Counter(fault["kind"] for fault in case.evidence.faults)
    rare = [f"{kind} {struck[kind]}" for kind, least in case.evidence.wanted.items() if struck[kind] < least]
    verdict.blame("I14 a fault struck too seldom", rare)


def _exposed(case: Case, verdict: Verdict) -> None:
    """Jobs whose life, from their intent to their last line, a fault struck."""
    exposed = 0
    for job_id, intent in case.intents.items():
        last = max((run.end or run.start for run in case.runs.get(job_id, ())), default=intent["t"])
        exposed += any(f["start"] <= last and f["end"] >= intent["t"] for f in case.evidence.faults)
    verdict.figures |= {
        "faults": len(case.evidence.faults),
        "fault_kinds": dict(sorted(Counter(fault["kind"] for fault in case.evidence.faults).items())),
        "exposed": exposed,
    }
