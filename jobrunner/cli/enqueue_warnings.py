"""What `enqueue` warns of, once the job is queued."""

from typing import Any

from jobrunner.broker.settings import ignores_priority
from jobrunner.cli.enqueue_plan import Plan
from jobrunner.client import Client
from jobrunner.envelope import DEFAULT_PRIORITY

Warnings = list[dict[str, Any]]


async def priority_warnings(client: Client, plan: Plan) -> Warnings:
    """Of a job that wishes to go before or after others, where the broker does not care."""
    queue = plan.envelope.job.queue
    if plan.envelope.priority == DEFAULT_PRIORITY or not await ignores_priority(client.connection, queue):
        return []
    text = f"RabbitMQ {client.connection.server_version} ignores priorities on '{queue}'."
    return [{"code": "priority_ignored", "text": text, "fix": None}]


def worker_warnings(plan: Plan, consumers: int | None) -> Warnings:
    """Of a queue on which no one listens. consumers: None where that is not known."""
    if consumers != 0:
        return []
    queue = plan.envelope.job.queue
    words = ["jobrunner worker", "" if queue == "task_queue" else f"-q {queue}"]
    words.append("--allow-commands" if plan.needs_commands else "")
    text = f"No worker listens on '{queue}'. The job waits safely."
    return [{"code": "no_worker", "text": text, "fix": " ".join(word for word in words if word)}]
