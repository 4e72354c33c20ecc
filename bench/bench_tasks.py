"""The job that does nothing: what remains is jobrunner's own work."""

from jobrunner import job


@job
def nothing() -> None:
    """Nothing."""
