"""Jobs: functions that workers run. Try them with `jobrunner dev`."""

from jobrunner import context, job


@job
def hello(name: str) -> str:
    """The smallest job: `jobrunner enqueue tasks:hello you --wait`."""
    return f"Hello, {name}. This is attempt {context.attempt} of job {context.id}."


@job(retries=5, backoff="1s..1m", timeout="30s")
def add(a: float, b: float) -> float:
    """Arguments and results are JSON: `jobrunner enqueue tasks:add 2 3 --wait`."""
    return a + b
