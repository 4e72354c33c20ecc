"""Jobs to try jobrunner with: `jobrunner worker --app tasks` in this folder, or `jobrunner dev`."""

import asyncio
import urllib.error
import urllib.request
from pathlib import Path

from jobrunner import Permanent, Retry, context, job


@job
def hello(name: str) -> str:
    """The smallest job: `jobrunner enqueue tasks:hello you --wait`."""
    return f"Hello, {name}. This is attempt {context.attempt} of job {context.id}."


@job
def add(a: float, b: float) -> float:
    """Arguments and results are JSON: `jobrunner enqueue tasks:add 2 3 --wait`."""
    return a + b


@job(retries=5, backoff="1s..10s")
def count_words(path: str) -> int:
    """What is large is passed as a path. While there is no such file, it is tried again."""
    return len(Path(path).read_text(encoding="utf-8").split())


@job(retries=8, backoff="2s..5m", timeout="30s")
def fetch(url: str) -> int:
    """The size of a page in bytes: three ways to fail."""
    try:
        with urllib.request.urlopen(url) as page:  # noqa: S310 - whoever enqueues is trusted here
            return len(page.read())
    except urllib.error.HTTPError as exc:
        if exc.code == 404:
            raise Permanent(f"there is no page {url}") from exc  # trying again cannot help
        if exc.code == 503:
            raise Retry("the server asks for patience", after=20) from exc  # a wait of our own choosing
        raise  # anything else: tried again after the backoff


@job(queue="slow", timeout="1h")
async def wait_for(seconds: float) -> float:
    """An `async def` function; it goes to the queue `slow`: `jobrunner worker --queue slow --queue task_queue`."""
    await asyncio.sleep(seconds)
    return seconds


@job
def handle(body: bytes) -> int:
    """For messages of other programs: `jobrunner worker --raw-handler tasks:handle`."""
    return len(body)
