"""The worker's settings as each of its parts wants them, and a run as the pool wants it."""

from jobrunner.execution.pool import PoolSettings, Work
from jobrunner.worker.delivered import Run
from jobrunner.worker.policy import Policy
from jobrunner.worker.settings import WorkerSettings


def pool_settings_of(settings: WorkerSettings) -> PoolSettings:
    """What the pool needs to know."""
    return PoolSettings(
        procs=settings.procs,
        worker=settings.name,
        apps=settings.apps,
        allow_import=settings.allow_import,
        allow_commands=settings.allow_commands,
        raw_handler=settings.raw_handler,
        max_jobs=settings.max_jobs,
        max_memory_bytes=settings.max_memory_bytes,
        share_broker=settings.share_broker,
        broker=settings.url.variables,
    )


def policy_of(settings: WorkerSettings) -> Policy:
    """What admission needs to know; the functions follow from the first process that is ready."""
    return Policy(
        worker=settings.name,
        apps=settings.apps,
        allow_import=settings.allow_import,
        allow_commands=settings.allow_commands,
        allow_programs=settings.allow_programs,
        raw_handler=settings.raw_handler,
        raw_handler_command=settings.raw_handler_command,
        ring=settings.url.ring,
        vhost=settings.url.vhost,
    )


def work_of(run: Run) -> Work:
    """What the pool gets of a run."""
    job = run.envelope.job
    return Work(
        key=run.key,
        id=job.id,
        attempt=run.envelope.attempt,
        max_attempts=run.limits.max_attempts,
        queue=job.queue,
        task=job.task,
        args=job.args,
        kwargs=job.kwargs,
        batch=job.batch,
        raw=job.raw,
        argv=job.argv,
        stdin=job.stdin,
        env=job.env,
        cwd=job.cwd,
        timeout_s=run.limits.timeout_s,
        run=job.run,
        seq=job.seq,
        input=job.input,
        after=list(job.after.jobs) if job.after else [],
        after_run=job.after.run if job.after else None,
    )
