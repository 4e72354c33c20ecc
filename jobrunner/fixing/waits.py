"""Jobs that wait for others, in an audit: which of them are nowhere."""

from jobrunner.fixing import census
from jobrunner.fixing.census import Census, Facts
from jobrunner.fixing.findings import Finding, Report, known


def report_waits(report: Report, before: Census, facts: Facts, people: Census) -> None:
    """They are only counted: those that a worker holds cannot be looked at. With a count of zero they are all lost;
    unless a worker is silent, who may be the one that holds them.
    """
    missing = census.short_after(people, facts)
    if not missing:
        return
    again = set(before.after)
    gone = [job for job in people.after if job in again]
    if facts.waiting or facts.silent:
        report.waiting -= missing
        report.unproven += missing
        report.notes.append(f"{missing} of {len(people.after)} jobs that wait for others may be missing.")
        return
    report.waiting -= len(gone)
    report.findings += [
        Finding(id=job.id, kind="lost", text=f"{known(job)}; it waits for others, and nobody has it", job=job)
        for job in gone
    ]
