"""What `enqueue` warns of, once the job is queued."""

import contextlib
import time
from typing import Any, Final

from jobrunner.broker import topology
from jobrunner.broker.control import Reply, ask
from jobrunner.broker.settings import ignores_priority
from jobrunner.cli.enqueue_plan import Plan
from jobrunner.client import Client
from jobrunner.envelope import DEFAULT_PRIORITY
from jobrunner.errors import JobrunnerError
from jobrunner.view.pausing import pause_words, resume_command

LABELS: Final = {"no_worker": "Start one", "queue_paused": "Resume it"}
"""What a warning's command does."""

ANSWER_S: Final = 0.5
"""For a worker that listens to the queue; without one the answer comes at once."""

Warnings = list[dict[str, Any]]


async def priority_warnings(client: Client, plan: Plan) -> Warnings:
    """Of a job that wishes to go before or after others, where the broker does not care."""
    queue = plan.envelope.job.queue
    if plan.envelope.priority == DEFAULT_PRIORITY or not await ignores_priority(client.connection, queue):
        return []
    text = f"RabbitMQ {client.connection.server_version} ignores priorities on '{queue}'."
    return [{"code": "priority_ignored", "text": text, "fix": None}]


async def worker_warnings(client: Client, plan: Plan, consumers: int | None) -> Warnings:
    """Of a queue on which no one listens, or that is paused. consumers: None where that is not known."""
    if consumers != 0:
        return []
    return await idle_warnings(client, plan.envelope.job.queue, needs_commands=plan.needs_commands)


async def idle_warnings(
    client: Client, queue: str, *, needs_commands: bool, what: str = "The job waits", answer_s: float = ANSWER_S
) -> Warnings:
    """Of a queue without a consumer: that it is paused, or that no worker answers for it."""
    now = time.time()
    replies = await _listening(client, queue, answer_s)
    for pause in (pause for reply in replies for pause in reply.paused):
        if pause.queue == queue and pause.holds(now):
            text = f"{queue} is {pause_words(pause, now)}. {what} safely."
            return [{"code": "queue_paused", "text": text, "fix": resume_command(queue)}]
    if replies:
        return []
    words = ["jobrunner worker", "" if queue == "task_queue" else f"-q {queue}"]
    words.append("--allow-commands" if needs_commands else "")
    text = f"No worker listens on '{queue}'. {what} safely."
    fix = " ".join(word for word in words if word)
    return [{"code": "no_worker", "text": text, "fix": fix}]


async def _listening(client: Client, queue: str, answer_s: float) -> list[Reply]:
    """A worker of that queue, if there is one: a busy one of several queues consumes nothing, nor does a paused one."""
    key = f"queue.{topology.encode_word(queue)}"
    with contextlib.suppress(JobrunnerError, TimeoutError):
        return await ask(client.connection, key, "ping", timeout_s=answer_s, expected=1)
    return []
